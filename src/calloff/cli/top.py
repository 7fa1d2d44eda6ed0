"""``calloff top``: the live screen. Loads Textual only when it is there and somebody wants it."""

import argparse
import asyncio
import signal
import sys
from functools import partial
from importlib.util import find_spec

from ..control._records import SORTS
from ._options import duration, parser
from ._refusal import Refused

__all__ = ["main"]

USAGE = "calloff top [--every D] [--wait D] [--name PATTERN] [--sort BY] [--tasks] [--no-mouse]"
EPILOG = """\
Keys: arrows, Enter for details, c to call off, / to filter, s to sort, h for the ended ones, q to quit.

Exit status: 0 when you left; 2 for a wrong command line, or without a terminal; 125 when a package is missing."""


def main(argv: list[str]) -> int:
    """The verb: returns the exit status."""
    options = _read(argv)
    if find_spec("textual") is None:
        raise Refused("the screen needs Textual, which is not installed: pip install 'calloff[top]'", 125)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Refused("needs a terminal; calloff ps prints the same as text, calloff ps --json as data")
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    from ..control import Client
    from ..top._app import Top

    async with Client() as client:
        screen = Top(
            client, every=options.every, wait=options.wait, name=options.name, sort=options.sort, tasks=options.tasks
        )
        for signum in (signal.SIGTERM, signal.SIGHUP):  # the terminal is to be left as it was found
            asyncio.get_running_loop().add_signal_handler(signum, partial(screen.exit, return_code=128 + signum))
        await screen.run_async(mouse=not options.no_mouse)
        return screen.return_code or 0


def _read(argv: list[str]) -> argparse.Namespace:
    reader = parser("top", USAGE, "Watch everything that runs on one live screen, and call it off.", EPILOG)
    add = reader.add_argument
    add("--every", metavar="D", default="1", help="time between two looks (1s)")
    add("--wait", metavar="D", default="10", help="how long to wait for an ending (10s)")
    add("--name", metavar="PATTERN", default="", help="show only operations of such a name")
    add("--sort", metavar="BY", choices=SORTS, default="tree", help=f"the order of the rows: {', '.join(SORTS)}")
    add("--tasks", action="store_true", help="show plain asyncio tasks, too")
    add("--no-mouse", action="store_true", help="leave the mouse to the terminal, to mark and copy text")
    options = reader.parse_args(argv)
    options.wait = duration("wait", options.wait)
    options.every = duration("every", options.every)
    if options.every < 0.1:
        raise Refused("--every must be at least 100ms")
    return options
