"""What the verbs that look from outside have in common: options, queries, and what is said when it can't be done."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, NoReturn

from .._words.durations_text import EXAMPLES, read_duration
from ..control._errors import ControlError, Unreachable
from ..control._links import Process
from ..control._records import Query
from ._listing import command_line
from ._refusal import Refused

__all__ = ["add_filters", "answer", "complain_of", "duration", "parser", "query_of"]

STATES = ("pending", "running", "stopping", "completed", "failed", "cancelled", "abandoned")
PLACES = ("task", "thread", "process", "command", "asyncio")
SORTS = ("tree", "age", "name", "state", "place", "remaining")
NOTHING = 1


class Parser(argparse.ArgumentParser):
    """Whatever is wrong with the command line is said in one line."""

    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message}; see {self.prog} --help")


def parser(verb: str, usage: str, description: str, epilog: str) -> Parser:
    """A parser for one verb."""
    return Parser(
        prog=f"calloff {verb}",
        usage=usage,
        description=description,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=100),
    )


def add_filters(to: Parser) -> None:
    """The options that say which operations are meant."""
    add = to.add_argument
    add("--name", metavar="PATTERN", default="", help="only those of that name; * and ? stand for any text")
    add("--state", metavar="STATE", action="append", choices=STATES, default=[], help="only those in that state")
    add("--place", metavar="PLACE", action="append", choices=PLACES, default=[], help="only those at that place")
    add("--older-than", metavar="D", help="only those that have run for longer")
    add("--tasks", action="store_true", help="plain asyncio tasks, too")


def query_of(options: argparse.Namespace, **more: Any) -> Query:
    """What the options mean."""
    return Query(
        ids=tuple(options.ids),
        name=options.name,
        states=tuple(options.state),
        places=tuple(options.place),
        older_than=duration("older-than", options.older_than),
        tasks=options.tasks or "asyncio" in options.place,
        **more,
    )


def duration(name: str, text: str | None) -> float | None:
    """The seconds that an option means."""
    if text is None:
        return None
    try:
        return read_duration(text)
    except ValueError:
        raise Refused(f"--{name} must be a duration such as {EXAMPLES}, not {text!r}") from None


def answer(verb: str, work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run the verb; what stands in its way is said in one line."""
    try:
        return asyncio.run(work())
    except Refused as refusal:
        print(f"calloff {verb}: {refusal}", file=sys.stderr)
        return refusal.status
    except Unreachable as problem:
        print(f"calloff {verb}: {problem}", file=sys.stderr)
        return 3
    except ControlError as problem:
        print(f"calloff {verb}: {problem}", file=sys.stderr)
        return NOTHING


def complain_of(silent: Sequence[Process], verb: str) -> None:
    """Name the processes that did not answer."""
    for process in silent:
        name = command_line(process.argv) or "?"
        print(f"calloff {verb}: process {process.pid} ({name}) does not answer", file=sys.stderr)
