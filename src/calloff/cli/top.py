"""``calloff top``: the live screen. Loads Textual only when it is there and somebody wants it."""

import argparse
import asyncio
import signal
import sys
from functools import partial
from importlib.util import find_spec

from .._words.durations_text import EXAMPLES, read_duration

__all__ = ["main"]

_SORTS = ("tree", "age", "name", "state", "place", "remaining")


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit status."""
    options = _parser().parse_args(argv)
    if find_spec("textual") is None:
        sys.stderr.write("calloff top: the screen needs Textual, which is not installed: pip install 'calloff[top]'\n")
        return 125
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        sys.stderr.write(
            "calloff top: needs a terminal; calloff ps prints the same as text, calloff ps --json as data\n"
        )
        return 2
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="calloff top",
        description="Watch the operations of all your programs on one live screen, and call them off.",
        epilog="Keys: arrows, Enter for details, c to call off, / to filter, s to sort, h for the ended ones, q to quit.",
    )
    parser.add_argument("--every", type=_period, default=1.0, metavar="D", help="time between two looks (1s)")
    parser.add_argument(
        "--wait", type=_duration, default=10.0, metavar="D", help="how long to wait for an ending (10s)"
    )
    parser.add_argument("--name", default="", metavar="PATTERN", help="show only operations of such a name")
    parser.add_argument("--sort", choices=_SORTS, default="tree", help="the order of the rows (tree)")
    parser.add_argument("--tasks", action="store_true", help="show plain asyncio tasks, too")
    parser.add_argument(
        "--no-mouse", action="store_true", help="leave the mouse to the terminal, to mark and copy text"
    )
    return parser


def _duration(text: str) -> float:
    try:
        return read_duration(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a duration such as {EXAMPLES}, not {text!r}") from None


def _period(text: str) -> float:
    value = _duration(text)
    if value < 0.1:
        raise argparse.ArgumentTypeError(f"must be at least 100ms, not {text!r}")
    return value
