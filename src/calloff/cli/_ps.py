"""The part of ``calloff ps`` that is only loaded when there is something to show."""

import argparse
import asyncio
import os
import sys
import time

from msgspec.structs import replace

from ..control._client import Client, Overview
from ..control._ids import best
from ..control._records import SORTS, Query
from ._control import NOTHING, add_filters, answer, complain_of, json_text, query_of
from ._listing import table
from ._options import parser, whole
from ._text import clean, is_coloured
from .ps import EPILOG, USAGE

__all__ = ["ps"]

#: seconds that a script has to open its door
_LET_IN = 2.0


def ps(argv: list[str]) -> int:
    """Read the options and print the list."""
    options = _read(argv)
    query = query_of(
        options, ended=options.all, sort=options.sort, reverse=options.reverse, limit=options.limit, fold=options.fold
    )

    async def look() -> int:
        async with Client() as client:
            overview = await client.list(query)
            if query.tasks:
                overview = await _with_scripts(client, query, overview)
            filtered, plain = replace(query, sort="tree", reverse=False, ended=False) != Query(), 0
            if not overview.rows and not filtered:
                plain = (await client.list(replace(query, tasks=True, limit=0))).total
            missing = [said for text in options.ids if (said := await _missing(client, text, overview, query))]
        nothing = not missing or bool(overview.rows)
        tell(
            overview, as_json=options.json, tree=options.sort == "tree", filtered=filtered, plain=plain, nothing=nothing
        )
        for said in missing:
            print(f"calloff ps: {said}", file=sys.stderr)
        return 3 if overview.silent or overview.failed else NOTHING if missing else 0

    return answer(look())


def _read(argv: list[str]) -> argparse.Namespace:
    reader = parser("ps", USAGE, "List what runs, in all of your processes, as a tree.", EPILOG)
    add = reader.add_argument
    add("ids", nargs="*", metavar="ID", help="only these")
    add_filters(reader)
    add = reader.add_argument_group("how they are shown").add_argument
    add("--fold", action="store_true", help="one row for all that are alike: of one kind of name, at one line")
    add("-a", "--all", action="store_true", help="those that have ended lately, too")
    add("--sort", metavar="KEY", choices=SORTS, default="tree", help=f"{', '.join(SORTS)}; the oldest first")
    add("--reverse", action="store_true", help="the other way round")
    add("--limit", metavar="N", help="at most so many")
    add("--json", action="store_true", help="print one JSON document")
    options = reader.parse_args(argv)
    if options.limit is not None:
        options.limit = whole("limit", options.limit, 0)
    return options


async def _with_scripts(client: Client, query: Query, overview: Overview) -> Overview:
    """The list again, as soon as the scripts in it have let us in: that they are asked to is the work of the first look."""
    until = time.monotonic() + _LET_IN
    while time.monotonic() < until:
        seen = {process.pid for process in overview.processes}
        if all(row.worker in seen for row in overview.rows if row.place == "command" and row.where and row.where.line):
            break
        await asyncio.sleep(0.05)
        overview = await client.list(query)
    return overview


async def _missing(client: Client, text: str, overview: Overview, query: Query) -> str:
    """Why nothing is shown for an ID that was typed, in words; nothing where it exists, whether filters hide it or not."""
    if best(((row.id, row) for row in overview.rows), text):
        return ""
    if any(text.partition(".")[0] == str(process.pid) for process in overview.silent):
        return ""  # which is told anyway
    there = await client.list(Query(ids=(text,), tasks=True, ended=True, where=False))
    if not there.rows:
        return f"there is no operation {clean(text)!r}"
    if not query.ended and all(row.outcome is not None and row.state != "abandoned" for row in there.rows):
        return f"{clean(text)} has ended; --all lists it, and calloff show tells everything"
    return ""


def tell(overview: Overview, *, as_json: bool, tree: bool, filtered: bool, plain: int, nothing: bool = True) -> None:
    """Print it: the list on stdout, what is missing in it on stderr.

    Args:
        overview: what was found.
        as_json: whether it is a document.
        tree: whether it is drawn as a tree.
        filtered: whether all would be more.
        plain: how many plain tasks would match.
        nothing: whether it is to be said that there is nothing.
    """
    if as_json:
        sys.stdout.flush()
        sys.stdout.buffer.write(json_text(overview).encode() + b"\n")
        sys.stdout.buffer.flush()
    elif overview.rows:
        width = _width() if sys.stdout.isatty() else None
        lines = table(overview, tree=tree, width=width, colour=is_coloured(sys.stdout))
        sys.stdout.write("\n".join(lines) + "\n")
        if len(overview.rows) < overview.total:
            print(f"calloff ps: {len(overview.rows)} of {overview.total} are shown", file=sys.stderr)
    elif nothing:
        what = "nothing matches" if filtered else "no operation runs in what can be seen"
        if not overview.processes:
            what = "nothing runs that can be seen"
        elif plain:
            what = f"no operation is there, but {plain} plain asyncio {'task' if plain == 1 else 'tasks'}: see --tasks"
        print(f"calloff ps: {what}", file=sys.stderr)
    complain_of(overview, "ps")


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
