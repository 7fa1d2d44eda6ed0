"""``calloff map``: a function, or a program, over many items. What can be wrong is found before anything is started.

What is done is in the output, whatever ends the run; the last line on stderr says how to go on.
"""

import argparse
import inspect
import os
import random
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ._map_input import FORMATS, items_of, split_words, total_of
from ._options import Parser, duration, meant_by, parser, time_limit, whole
from ._refusal import Refused
from ._target import load

__all__ = ["main"]

PLACES = ("task", "thread", "process")
#: what `--resume` may be given, the first of them when it stands alone
RESUMED = ("missing", "failed")

USAGE = """\
calloff map [OPTION...] TARGET --input FILE [--output FILE]
       calloff map [OPTION...] [--input FILE] -- PROGRAM [ARG...] [::: ITEM...]"""

EPILOG = """\
TARGET is package.module:function or path/to/file.py:function, and is called with one item; an async function runs in a
task, any other in a process, unless --in says where. In a PROGRAM's words {} is the item, {.} the item without its
extension, {/} its last part, {//} its directory, {/.} its last part without extension, {#} its number, {name} and {2}
that field of a row or list; without any of them the item becomes the last word. No shell is involved.

Items are the lines of the input: JSON in .jsonl and .ndjson, rows in .csv and .tsv with a header, else plain lines (for
a TARGET, lines that are JSON are read as JSON). --format says otherwise. A wrong line fails, and the others run.

With --output each ending is appended to FILE as one line of JSON; --resume runs what is missing in it, --resume=failed
also what did not complete. Without it the lines go to stdout, and of a program what it printed to stdout and stderr,
whatever its ending, never mixed.

Durations: 3, 3s, 500ms, 1m30s, 2h. A limit counts from the start of the item.

Exit status:
    0  all items completed
    1  some did not (how many is told on stderr), or too many for --max-failures
    2  the command line was wrong
  125  calloff itself failed, or the output could not be written
  126  TARGET can't be imported, PROGRAM is not executable
  127  TARGET or something that it imports, or PROGRAM, was not found
  130  stopped by SIGINT
  143  stopped by SIGTERM"""


def main(argv: list[str]) -> int:
    """The verb: returns the exit status."""
    options, words = _read(argv)
    work, place, shown = _work(options, words)
    if options.dry_run:
        return _show(options.items, shown)
    from ._map_run import run

    return run(options, work, place, shown, argv)


def _parser() -> Parser:
    about = "Run a function or a program over many items, so many at a time; each ends, and what is done is kept."
    reader = parser("map", USAGE, about, EPILOG)
    reader.add_argument("target", nargs="?", metavar="TARGET", help=argparse.SUPPRESS)

    add = reader.add_argument_group("the items, and their endings").add_argument
    add("-i", "--input", metavar="FILE", help="where the items are; - for stdin")
    add("--format", metavar="FORMAT", choices=FORMATS, help=f"how the items are written: {', '.join(FORMATS)}")
    add("-o", "--output", metavar="FILE", help="append each ending to it, one line of JSON")
    how = "go on with --output: run what is missing there; --resume=failed also what did not complete"
    add("--resume", metavar="WHAT", nargs="?", choices=RESUMED, help=how)  # `parted` has seen to one alone
    add("--ordered", action="store_true", help="tell the endings in order of the items")
    add("--joblog", metavar="FILE", help="append a line for each item, as GNU parallel does")
    add("--progress", action=argparse.BooleanOptionalAction, default=None, help="tell how far it is (on a terminal)")
    add("--dry-run", action="store_true", help="only show what would run")

    add = reader.add_argument_group("how they run").add_argument
    add("-j", "--jobs", metavar="N", help="how many at a time, also N%% of the processors (tasks and threads: 10)")
    add("--rate", metavar="N/s", help="start at most N a second; /m and /h, too")
    add("-t", "--timeout", metavar="D", help="stop an item after this long")
    add("-s", "--stall", metavar="D", help="stop an item after this long without a report of progress")
    add("-g", "--grace", metavar="D", default="5", help="from asking to force (5s)")
    add("--in", metavar="PLACE", dest="place", help="where to run a function: task, thread or process")
    add("--memory", metavar="SIZE", help="how much memory an item in a process may take: 500M, 2G")
    add("--batch", metavar="N", help="how many items a process is given at a time (about 100 ms' worth)")

    add = reader.add_argument_group("what does not complete").add_argument
    add("--retry", metavar="N", help="try an item that did not complete up to N times more")
    add("--backoff", metavar="D", default="1", help="the first pause before that; it doubles each time (1s)")
    add("--max-failures", metavar="N", help="stop when more than N, or N%%, did not complete")
    return reader


def _read(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, checked, and the words of a program."""
    head, tail = parted(argv)
    is_program, words = bool(tail), tail[1:]
    if ":::" in head:
        raise Refused("::: is for a PROGRAM behind --; a function gets its items from --input (- for stdin)")
    options = _parser().parse_args(head)
    if is_program == (options.target is not None):
        what = "TARGET and -- PROGRAM can't both be given" if is_program else "TARGET or -- PROGRAM is missing"
        raise Refused(f"{what}; see calloff map --help")
    if is_program and not words:
        raise Refused("PROGRAM is missing after --; see calloff map --help")
    for name in ("timeout", "stall", "grace", "backoff"):
        if getattr(options, name) is not None:
            read = time_limit if name in ("timeout", "stall") else duration
            setattr(options, name, read(name, getattr(options, name)))
    for name in ("retry", "batch"):
        if getattr(options, name) is not None:
            setattr(options, name, whole(name, getattr(options, name), 0 if name == "retry" else 1))
    options.max_failures = _share("max-failures", options.max_failures)
    options.rate = _rate(options.rate)
    options.memory = _size(options.memory)
    if options.resume and not options.output:
        raise Refused("--resume needs the --output of the run to go on with")
    words, given = split_words(words)
    if is_program and not words:
        raise Refused("PROGRAM is missing after --; see calloff map --help")
    options.total = None
    options.lists = list(argv).count(":::")
    if given is not None:
        if options.input is not None:
            raise Refused("items come from --input or after :::, not from both")
        options.items, options.total = given, len(given)
    elif options.input is None:
        more = "; or ::: ITEM... behind the PROGRAM" if is_program else ""
        raise Refused(f"--input is missing: a file with an item a line, or - for stdin{more}")
    else:
        if options.output is not None and _is_same(options.input, options.output):
            raise Refused(f"--input and --output are the same file, {options.output!r}: give another output")
        options.items = items_of(options.input, options.format, as_text=is_program)
        options.total = total_of(options.input, options.format)
    return options, words


def parted(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part our own words from those from `--` on, which are the program's; of ours each `--resume` has its value in it.

    That is the next word only where it is one of those that it knows: argparse would take any, the TARGET, too.
    """
    at = argv.index("--") if "--" in argv else len(argv)
    head, tail = list(argv[:at]), list(argv[at:])
    for at, word in enumerate(head):
        if word == "--resume":
            value = head.pop(at + 1) if at + 1 < len(head) and head[at + 1] in RESUMED else RESUMED[0]
            head[at] = f"--resume={value}"
    return head, tail


def _is_same(source: str, output: str) -> bool:
    try:
        read, written = os.fstat(sys.stdin.fileno()) if source == "-" else os.stat(source), os.stat(output)
    except (OSError, ValueError, AttributeError):  # not there
        return False
    return os.path.samestat(read, written)


def _share(name: str, text: str | None) -> float | None:
    """A number, or so many per cent as a share."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text)
    if not found or (not found[2] and "." in found[1]) or (found[2] and float(found[1]) >= 100):
        raise Refused(f"--{name} must be a number or a share below 100%, not {text!r}")
    return float(found[1]) / 100 if found[2] else int(found[1])


def _size(text: str | None) -> int | None:
    """Bytes."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    size = int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " ")) if found else 0
    if not size:
        raise Refused(f"--memory must be a size like 500M or 2G, not {text!r}")
    return size


def _rate(text: str | None) -> float | None:
    """Seconds from one start to the next."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/([smh]))?", text)
    if not found or not float(found[1]):
        raise Refused(f"--rate must be like 10/s, 100/m or 5000/h, not {text!r}")
    return {"s": 1, "m": 60, "h": 3600}[found[2] or "s"] / float(found[1])


def _work(options: argparse.Namespace, words: list[str]) -> tuple[Any, str, Callable[[Any, int], str]]:
    """What is given to `calloff.map`, where it runs, and how a call of it looks."""
    if words:
        from .._map.template import Template

        for name in ("place", "batch", "stall", "memory"):
            if getattr(options, name) is not None:
                shown = "in" if name == "place" else name
                raise Refused(f"--{shown} is for functions; what follows -- runs as a program")
        template = Template(words)
        if options.lists:
            for name in sorted(template.fields):
                if not name.isdigit() or not 0 < int(name) <= options.lists:
                    raise Refused(
                        f"{{{name}}} is no field of the items: after ::: there are {{1}} to {{{options.lists}}}"
                    )
        options.jobs = _jobs(options.jobs, os.cpu_count() or 1)
        return words, "command", lambda item, number: _joined(template.words(item, number))
    sys.argv = [options.target]
    function = load(options.target)
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
    place = options.place or ("task" if is_async else "process")
    if place not in PLACES:
        raise Refused(f"--in must be one of {', '.join(PLACES)}, not {place!r}{meant_by(place, PLACES)}")
    if place == "task" and not is_async:
        raise Refused(f"{options.target} is a blocking function: choose --in thread or --in process")
    if place == "thread" and is_async:
        raise Refused(f"{options.target} is an async function: it runs in a task, or in a process of its own")
    for name in ("batch", "memory"):
        if place != "process" and getattr(options, name) is not None:
            raise Refused(f"--{name} is for functions in processes")
    options.jobs = _jobs(options.jobs, os.cpu_count() or 1 if place == "process" else 10)
    return function, place, lambda item, number: f"{options.target} {item!r}"


def _joined(words: Iterable[str]) -> str:
    import shlex

    return shlex.join(words)


def _jobs(text: str | None, usual: int) -> int:
    if text is None:
        return usual
    found = re.fullmatch(r"(\d+)(%?)", text)
    jobs = int(found[1]) if found else 0
    if found and found[2]:
        jobs = max(1, jobs * (os.cpu_count() or 1) // 100) if jobs else 0
    if jobs < 1:
        raise Refused(f"--jobs must be a number, 1 or more, or a share of the processors like 50%, not {text!r}")
    return jobs


def _show(items: Iterable[Any], shown: Callable[[Any, int], str]) -> int:
    from .._map.flight import Wrong

    for number, item in enumerate(items, 1):
        if isinstance(item, Wrong):
            print(f"calloff map: {item.error}", file=sys.stderr)
            continue
        try:
            print(shown(item, number))
        except ValueError as error:
            raise Refused(f"item {number}: {error}") from None
    return 0


def pauses(most: int, first: float) -> Callable[[Any, int], float | None]:
    """When to try again: after a pause that doubles, up to a minute, a little varied so that not all come together."""

    def retry(outcome: Any, attempt: int) -> float | None:
        if attempt > most:
            return None
        return min(first * 2.0 ** min(attempt - 1, 30), max(first, 60.0)) * random.uniform(0.75, 1.0)

    return retry


def places(name: str) -> Any:
    """The word of calloff for a place."""
    import calloff

    return None if name == "task" else getattr(calloff, name)
