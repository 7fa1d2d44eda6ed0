"""``calloff watch``: one operation, again and again until it ends: a live line, plain lines, or NDJSON."""

import argparse
import sys

from .._words.durations_text import spoken
from ..control._client import Client
from ..control._records import Row
from ..control._verdict import at
from ._control import answer, json_text
from ._listing import BAR, cause
from ._live import LiveLine, looks_live
from ._options import duration, parser
from ._refusal import Refused
from ._text import clean, progress_text

__all__ = ["main"]

USAGE = "calloff watch [--every D] [--json] ID"
EPILOG = """\
A line at once, one each second, and a last one when it ends; on a terminal one live line that is drawn over itself. With
--json each is a line of JSON with the whole row. Ctrl-C ends the watching and nothing else.

Exit status: 0 when it ended or you did; 1 when there is no such operation, or its process ended without a word, or several
have an ID that begins so; 2 for a wrong command line; 3 when its process does not answer."""


def main(argv: list[str]) -> int:
    """The verb: returns the exit status."""
    options = _read(argv)
    every = duration("every", options.every)
    if not every:
        raise Refused("--every must be more than 0")
    live = None if options.json or not looks_live(sys.stdout) else LiveLine(sys.stdout)

    async def watch() -> int:
        async with Client() as client:
            async for row in client.watch(options.id, every):
                if options.json:
                    print(json_text(row), flush=True)
                elif live is None or row.outcome is not None:
                    if live is not None:
                        live.erase()
                    print(line(row), flush=True)
                else:
                    live.draw(line(row))
        return 0

    try:
        return answer(watch())
    except KeyboardInterrupt:
        return 0
    finally:
        if live is not None:
            live.erase()


def _read(argv: list[str]) -> argparse.Namespace:
    reader = parser("watch", USAGE, "Look at one operation again and again.", EPILOG)
    reader.add_argument("id", metavar="ID", help="which one")
    reader.add_argument("-e", "--every", metavar="D", default="1", help="how often (1s)")
    reader.add_argument("--json", action="store_true", help="print a line of JSON each time")
    return reader.parse_args(argv)


def line(row: Row) -> str:
    """One look in one line."""
    time = spoken(row.age) + (f" of {spoken(row.timeout)}" if row.timeout is not None else "")
    parts = [f"{row.id} {clean(row.name)}", row.state, time]
    if row.progress is not None:
        parts.append(progress_text(row.progress, BAR))
    if row.reason is not None:
        refused = f", {row.refusals} refused" if row.refusals else ""
        parts.append(f"[{cause(row.reason)}{refused}]")
    if row.rung is not None:
        parts.append(row.rung)
    if row.error is not None:
        parts.append(clean(row.error))
    where = at(row.where)
    if where and row.outcome is None:
        parts.append(f"at {where}")
    return "  ".join(parts)
