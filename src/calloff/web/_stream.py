"""The live stream: server-sent events, a look each second, and only what has changed since the last.

A `listing` event has the ids on the screen in order, the totals, and those rows that the browser does not have as they
are now. Ages are left to the browser's clock, so an operation that merely gets older is not sent again. A `detail`
event has everything about the operation whose details are open. A look that fails is told as a `trouble` event; the
stream goes on.

Many tabs cost the watched processes no more than one: equal questions within a second are asked once (`Shared`).
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from msgspec import json
from msgspec.structs import replace

from ..control import ControlError, Overview, Query, Row
from ..control._rates import Rates
from ._source import Source
from ._view import View

__all__ = ["EVERY", "Shared", "events"]

EVERY = 1.0  # seconds between two looks
_FRESH = 0.75 * EVERY


class Shared:
    """Asks each question once for all who ask it at about the same time."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.rates = Rates()
        self._answers: dict[Query, tuple[float, asyncio.Task[Overview]]] = {}

    async def look(self, query: Query) -> Overview:
        """As `Source.list`; the answer may be three quarters of a second old."""
        now = time.monotonic()
        asked_at, task = self._answers.get(query, (0.0, None))
        if task is None or now - asked_at > _FRESH:
            self._answers = {key: kept for key, kept in self._answers.items() if now - kept[0] <= _FRESH}
            task = asyncio.create_task(self._list(query))
            task.add_done_callback(_seen)
            self._answers[query] = now, task
        return await asyncio.shield(task)  # the one who asked first may be gone: the others still wait

    async def _list(self, query: Query) -> Overview:
        overview = await self.source.list(query)
        self.rates.see(time.monotonic(), overview.over)
        return overview


def _seen(task: asyncio.Task[Any]) -> None:
    """An error belongs to those who wait; where nobody does any more, it is none."""
    if not task.cancelled():
        task.exception()


async def events(shared: Shared, view: View, stopping: asyncio.Event) -> AsyncIterator[bytes]:
    """The stream of one browser, until it goes or we do."""
    known: dict[str, Row] = {}
    last: dict[str, bytes] = {}
    due = time.monotonic()
    while not stopping.is_set():
        silent = True
        for about in ("listing", "detail") if view.show else ("listing",):
            try:
                data = await (_listing(shared, view, known) if about == "listing" else shared.source.show(view.show))
                event = _event(about, data)
            except ControlError as error:
                event = _event("trouble", {"about": about, "text": str(error)})
            if last.get(about) != event:
                last[about] = event
                silent = False
                yield event
        if silent:
            yield b": nothing new\n\n"  # also how a browser that is gone is noticed
        due = max(due + EVERY, time.monotonic())
        try:
            await asyncio.wait_for(stopping.wait(), due - time.monotonic())
        except TimeoutError:
            pass


def _event(name: str, data: Any) -> bytes:
    """One event; JSON has no line ends outside its texts, and escapes those within."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), json.encode(data))


async def _listing(shared: Shared, view: View, known: dict[str, Row]) -> dict[str, Any]:
    running = await shared.look(view.running) if view.running else Overview()
    ended = await shared.look(view.ended) if view.ended else Overview()
    counts = (await shared.look(view.counts)).counts if view.counts else {**ended.counts, **running.counts}
    found = {row.id: row for row in running.rows}
    twice = {row.id for row in ended.rows if row.id in found}
    late = {id for id in twice if found[id].state != "abandoned"}  # they ended between the two questions
    found.update((row.id, row) for row in ended.rows if row.id not in twice - late)
    living = running.counts.get("abandoned", 0)  # given up, but not gone: told among what runs
    looked = running if view.running else ended
    return {
        "running": {"order": [row.id for row in running.rows if row.id not in late], "total": running.total},
        "ended": {"order": [row.id for row in ended.rows if row.id not in twice - late], "total": ended.total - living},
        "counts": counts,
        "rates": _since_the_first(shared.rates.series()),
        "rows": _changed(found, known),
        "processes": [{"pid": process.pid, "argv": process.argv} for process in looked.processes],
        "silent": [process.pid for process in looked.silent],
    }


def _since_the_first(series: tuple[float, ...]) -> tuple[float, ...]:
    """From the first second on in which anything ended: while nothing does, nothing changes."""
    first = next((at for at, ended in enumerate(series) if ended), len(series))
    return series[first:]


def _changed(found: dict[str, Row], known: dict[str, Row]) -> list[Row]:
    """The rows that are not as the browser has them; `known` is brought up to date."""
    changed: list[Row] = []
    for id, row in found.items():
        bare = replace(row, age=0.0, remaining=None) if row.outcome is None else row
        if known.get(id) != bare:
            known[id] = bare
            changed.append(bare)
    for id in known.keys() - found.keys():
        del known[id]
    return changed
