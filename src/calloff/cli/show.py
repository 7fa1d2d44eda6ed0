"""``calloff show``: everything about one operation, with the stack and its source lines."""

import argparse
import time
from collections.abc import Iterator

from .._words.durations_text import spoken
from ..control._client import Client
from ..control._records import Detail, Frame, Row
from ..control._usage import told
from ..control._verdict import short
from ._control import answer, json_text
from ._listing import BAR, cause, command_line
from ._options import parser
from ._text import clean, progress_text

__all__ = ["main"]

USAGE = "calloff show [--json] ID..."
EPILOG = """\
An ID is 4312.7, or as much of it as is unique; `calloff ps --all` lists them, the ended ones, too. The stack is that of the
operation now, the outermost call first, and goes on in what it waits for; of one that has ended it is where it was asked
to stop. It is told also while the operation blocks the event loop.

Exit status: 0; 1 when there is no such operation or several have an ID that begins so; 2 for a wrong command line; 3 when
its process does not answer."""


def main(argv: list[str]) -> int:
    """The verb: returns the exit status."""
    options = _read(argv)

    async def show() -> int:
        async with Client() as client:
            for number, id in enumerate(options.ids):
                detail = await client.show(id)
                if options.json:
                    print(json_text(detail))
                else:
                    print("\n".join(["", *lines(detail)] if number else lines(detail)))
        return 0

    return answer(show())


def _read(argv: list[str]) -> argparse.Namespace:
    reader = parser("show", USAGE, "Tell everything about one operation.", EPILOG)
    reader.add_argument("ids", nargs="+", metavar="ID", help="which one")
    reader.add_argument("--json", action="store_true", help="print one JSON document for each")
    return reader.parse_args(argv)


def lines(detail: Detail) -> list[str]:
    """For people."""
    row = detail.row
    found = [f"{row.id}  {clean(row.name)}", *(f"  {word:<9} {text}" for word, text in _facts(detail))]
    if detail.stuck_at:
        found += ["  stuck at", *_stack(detail.stuck_at)]
    elif detail.stack:
        said = "  at" if row.outcome is None else "  it raised at" if row.outcome == "failed" else "  it was at"
        found += [said, *_stack(detail.stack)]
    return found


def _facts(detail: Detail) -> Iterator[tuple[str, str]]:
    row = detail.row
    yield "state", _state(row)
    yield "place", row.place + (f", process {row.worker}" if row.worker is not None else "")
    if detail.usage is not None:
        yield "uses", told(detail.usage)
    if row.place == "command" and row.where is not None and not row.where.line:
        yield "command", clean(row.where.source)
    yield "process", f"{row.pid}: {clean(command_line(detail.argv))}"
    if row.parent is not None:
        yield "parent", row.parent
    if detail.children:
        yield "children", ", ".join(detail.children[:20]) + (", ..." if len(detail.children) > 20 else "")
    if row.timeout is not None:
        left = "" if row.remaining is None else f", {spoken(max(0.0, row.remaining))} left"
        yield "timeout", spoken(row.timeout) + left
    if detail.stall is not None:
        yield "stall", spoken(detail.stall)
    if detail.grace is not None:
        yield "grace", spoken(detail.grace)
    if row.progress is not None:
        yield "progress", progress_text(row.progress, BAR)
    if row.reason is not None:
        yield "stop", cause(row.reason)
        yield "", _stop(row)
    if row.error is not None:
        yield "error", clean(row.error)
    for survivor in row.survivors:
        yield "survivor", clean(survivor)


def _state(row: Row) -> str:
    if row.outcome is None:
        return f"{row.state} for {spoken(row.age)}, since {_clock(row.started_at)}"
    if row.ended_at is None:
        return row.state
    return f"{row.state} after {spoken(row.age)}, at {_clock(row.ended_at)}"


def _stop(row: Row) -> str:
    since = row.requested_at or row.started_at
    steps = [f"{step.rung} after {spoken(step.at - since)}" for step in row.steps if step.rung != "ASKED"]
    parts = [f"asked at {_clock(since)}", *steps]
    if row.refusals:
        parts.append(f"{row.refusals} refusals" if row.refusals > 1 else "1 refusal")
    if row.clean_up is not None and row.rung is not None:
        parts.append(f"ended by {row.rung} after {spoken(row.clean_up)}")
    return ", ".join(parts)


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S" if time.time() - at < 43200 else "%Y-%m-%d %H:%M:%S", time.localtime(at))


def _stack(stack: tuple[Frame, ...]) -> Iterator[str]:
    for frame in stack:
        yield (
            f"    {clean(frame.function)} ({clean(short(frame.file))}:{frame.line})"
            if frame.line
            else f"    {clean(frame.function)}"
        )
        if frame.source:
            yield f"      {clean(frame.source)}"
