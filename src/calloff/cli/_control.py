"""What the verbs that look from outside have in common: which operations are meant, and what if that can't be done."""

import argparse
import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import msgspec

from ..control._client import Overview
from ..control._errors import ControlError, Unreachable
from ..control._filter import on_nodes
from ..control._records import PLACES, STATES, Query
from ._listing import command_line
from ._options import Parser, duration
from ._refusal import Refused
from ._text import clean

__all__ = ["NOTHING", "add_filters", "answer", "complain_of", "json_text", "query_of"]

NOTHING = 1


def add_filters(to: Parser) -> None:
    """The options that say which operations are meant."""
    add = to.add_argument_group("which ones").add_argument
    add(
        "-n",
        "--name",
        metavar="PATTERN",
        action="append",
        default=[],
        help="only of that name; * and ? stand for any text",
    )
    add(
        "--state",
        metavar="STATE",
        action="append",
        choices=STATES,
        default=[],
        help=f"only those in that state: {', '.join(STATES)}",
    )
    add(
        "--place",
        metavar="PLACE",
        action="append",
        choices=PLACES,
        default=[],
        help=f"only those at that place: {', '.join(PLACES)}",
    )
    add("--node", metavar="NODE", action="append", default=[], help="only those on that machine of a cluster")
    add("--older-than", metavar="D", help="only those that have run for longer")
    add("--tasks", action="store_true", help="plain asyncio tasks, too")


def query_of(options: argparse.Namespace, **more: Any) -> Query:
    """What the options mean.

    Raises:
        Refused: they can't be meant so.
    """
    if len(options.name) > 1:
        raise Refused("--name can be given once: its PATTERN may have * and ?, else call me once for each")
    return Query(
        ids=tuple(options.ids),
        name="".join(options.name),
        states=tuple(options.state),
        places=on_nodes(tuple(options.place), tuple(options.node)),
        older_than=None if options.older_than is None else duration("older-than", options.older_than),
        tasks=options.tasks or "asyncio" in options.place,
        **more,
    )


def answer(work: Coroutine[Any, Any, int]) -> int:
    """Run the verb.

    Raises:
        Refused: the client could not do it.
    """
    try:
        return asyncio.run(work)
    except ControlError as problem:
        raise Refused(clean(str(problem)), 3 if isinstance(problem, Unreachable) else NOTHING) from None


def complain_of(overview: Overview, verb: str) -> None:
    """Name the processes that did not answer, and those that answered with something else than rows."""
    for pid, problem in overview.failed.items():
        print(f"calloff {verb}: process {pid} can't be listed: {clean(problem)}", file=sys.stderr)
    for process in overview.silent:
        name = command_line(process.argv) or "?"
        print(f"calloff {verb}: process {process.pid} ({clean(name)}) does not answer", file=sys.stderr)


def json_text(record: Any) -> str:
    """A record as a document of JSON in one line, in which nothing stands as it is that a terminal would obey."""
    text = msgspec.json.encode(record).decode()
    return text if text.isprintable() else "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{code[at : at + 4]}" for at in range(0, len(code), 4))
