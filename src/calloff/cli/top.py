"""``calloff top``: the live screen. Loads Textual only when it is there and somebody wants it."""

import argparse
import asyncio
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..control._records import SORTS
from ._options import duration, parser
from ._refusal import Refused

if TYPE_CHECKING:
    from ..top._app import Top

__all__ = ["main"]

_ENDS = (signal.SIGTERM, signal.SIGHUP)
#: seconds that leaving the screen may take after a signal
_HELD_UP = 2.0

USAGE = "calloff top [--every D] [--wait D] [--name PATTERN] [--sort BY] [--tasks] [--no-mouse]"
EPILOG = """\
Keys: arrows, Enter for details, c to call off, / to filter, s to sort, f to fold what is alike, h for the ended ones,
q to quit.

Exit status: 0 when you left; 2 for a wrong command line, or without a terminal; 125 when a package is missing."""


def main(argv: list[str]) -> int:
    """The verb: returns the exit status."""
    options = _read(argv)
    if find_spec("textual") is None:
        raise Refused("the screen needs Textual, which is not installed: pip install 'calloff[top]'", 125)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Refused("needs a terminal; calloff ps prints the same as text, calloff ps --json as data")
    status = asyncio.run(_run(options))
    _let_go()
    return status


def _let_go() -> None:
    """When the terminal is gone, what was written last can't be: the interpreter would make a status of its own of that."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


async def _run(options: argparse.Namespace) -> int:
    from ..control import Client
    from ..top._app import Top

    async with Client() as client:
        screen = Top(
            client, every=options.every, wait=options.wait, name=options.name, sort=options.sort, tasks=options.tasks
        )
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)  # also in the threads of the screen, which begin below
        leaving = partial(_leave, asyncio.get_running_loop(), screen)
        threading.Thread(target=leaving, name="calloff top leaves", daemon=True).start()
        await screen.run_async(mouse=not options.no_mouse)
        return screen.return_code or 0


def _leave(loop: asyncio.AbstractEventLoop, screen: "Top") -> None:
    """Leave the screen, and the terminal as it was found; or, where that is held up, leave at once.

    In a thread of its own: when the terminal is gone, nobody takes what the screen writes, and the event loop waits; and
    the hang-up may be heard by whichever thread, or by none.
    """
    while not (came := signal.sigtimedwait(_ENDS, 1.0)) and os.isatty(0):
        pass
    status = 128 + (came.si_signo if came else signal.SIGHUP)
    with suppress(RuntimeError):  # the loop is closed, and the interpreter about to end
        loop.call_soon_threadsafe(partial(screen.exit, return_code=status))
    time.sleep(_HELD_UP)
    os._exit(status)


def _read(argv: list[str]) -> argparse.Namespace:
    reader = parser("top", USAGE, "Watch everything that runs on one live screen, and call it off.", EPILOG)
    add = reader.add_argument
    add("-e", "--every", metavar="D", default="1", help="time between two looks (1s)")
    add("-w", "--wait", metavar="D", default="10", help="how long to wait for an ending (10s)")
    add("-n", "--name", metavar="PATTERN", default="", help="show only operations of such a name")
    add("--sort", metavar="BY", choices=SORTS, default="tree", help=f"the order of the rows: {', '.join(SORTS)}")
    add("--tasks", action="store_true", help="show plain asyncio tasks, too")
    add("--no-mouse", action="store_true", help="leave the mouse to the terminal, to mark and copy text")
    options = reader.parse_args(argv)
    options.wait = duration("wait", options.wait)
    options.every = duration("every", options.every)
    if options.every < 0.1:
        raise Refused("--every must be at least 100ms")
    return options
