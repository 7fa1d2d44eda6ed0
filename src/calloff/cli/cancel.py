"""``calloff cancel``: call operations off, wait for their real endings, and tell each of them."""

import argparse

from .._words.durations_text import spoken
from ..control._client import Client
from ..control._records import Stopped
from ..control._verdict import at, verdict
from ._control import NOTHING, add_filters, answer, json_text, query_of
from ._options import duration, parser
from ._refusal import Refused
from ._text import clean

__all__ = ["main"]

USAGE = """\
calloff cancel [OPTION...] ID...
       calloff cancel [OPTION...] --name PATTERN [ID...]"""
EPILOG = """\
It returns when all of them have really ended, or when --wait is over; each is told in a line as it ends. An ID is 4312.7,
or as much of it as is unique; 4312 is all of that process. --name, --state, --place, --node and --older-than may be
combined, also with an ID; all have to hold.

Exit status:
    0  all have ended
    1  there is no such operation, or several have an ID that begins so; nothing was called off
    2  the command line was wrong
    3  at least one still runs, or its process does not answer: the line says where it is stuck"""


def main(argv: list[str]) -> int:
    """The verb: returns the exit status."""
    options = _read(argv)
    query = query_of(options)
    grace = 0.0 if options.force else None if options.grace is None else duration("grace", options.grace)
    wait = duration("wait", options.wait)

    async def cancel() -> int:
        status: int | None = None
        async with Client() as client:
            stops = client.cancel(query, reason=options.reason, grace=grace, wait=wait, dry_run=options.dry_run)
            async for stopped in stops:
                _tell(stopped, options)
                ended = options.dry_run or has_ended(stopped)
                status = max(status or 0, 0 if ended else 3)
        if status is None:
            raise Refused("nothing matches: nothing was called off", NOTHING)
        return status

    return answer(cancel())


def _read(argv: list[str]) -> argparse.Namespace:
    reader = parser("cancel", USAGE, "Call operations off, and wait until they have ended.", EPILOG)
    add = reader.add_argument
    add("ids", nargs="*", metavar="ID", help="an operation, or all of a process")
    add_filters(reader)
    add = reader.add_argument_group("how").add_argument
    add("-r", "--reason", metavar="TEXT", default="", help="why; arrives in their reports")
    add("-g", "--grace", metavar="D", help="from asking to force; by default what each was started with")
    add("-f", "--force", action="store_true", help="force at once, the same as --grace 0")
    add("-w", "--wait", metavar="D", default="10", help="how long to wait for their endings (10s)")
    add("--dry-run", action="store_true", help="only tell which ones it would be")
    add("--json", action="store_true", help="tell each as a line of JSON")
    options = reader.parse_args(argv)
    if not options.ids and not (options.name or options.state or options.place or options.node or options.older_than):
        raise Refused("say what to call off: an ID, or --name PATTERN; see calloff cancel --help")
    if options.force and options.grace is not None:
        raise Refused("--force is --grace 0: give only one of them")
    return options


def has_ended(stopped: Stopped) -> bool:
    """Whether nothing of it is left."""
    survivors = stopped.row.survivors if stopped.row is not None else ()
    return stopped.outcome not in (None, "abandoned") and not survivors


def _tell(stopped: Stopped, options: argparse.Namespace) -> None:
    if options.json:
        print(json_text(stopped), flush=True)
        return
    row = stopped.row
    assert row is not None
    print(f"{row.id} {clean(row.name)}: {_would(stopped) if options.dry_run else verdict(stopped)}", flush=True)


def _would(stopped: Stopped) -> str:
    row = stopped.row
    assert row is not None
    if row.outcome is not None and row.state != "abandoned":
        return f"has ended already: {row.outcome}"
    line = at(row.where)
    return f"would be called off; {row.state} for {spoken(row.age)}" + (f", at {line}" if line else "")
