"""A client of control sockets without any process behind it: rows are what a test puts in."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from msgspec.structs import replace

from calloff.control import Cause, Detail, Frame, NotFound, Overview, Process, Query, Row, Step, Stopped, Unreachable


@dataclass
class FakeSource:
    """As `calloff.control`'s client. `cancelled` remembers what was asked; `sturdy` ids do not end."""

    rows: dict[str, Row] = field(default_factory=dict)
    stacks: dict[str, tuple[Frame, ...]] = field(default_factory=dict)
    argv: dict[int, tuple[str, ...]] = field(default_factory=dict)
    sturdy: set[str] = field(default_factory=set)
    cancelled: list[dict[str, Any]] = field(default_factory=list)
    asked: list[Query] = field(default_factory=list)
    broken: str = ""
    over: dict[int, int] = field(default_factory=dict)
    left: tuple[str, ...] = ()  # what those that are called off leave behind

    @asynccontextmanager
    async def connect(self) -> AsyncIterator["FakeSource"]:
        yield self

    def add(self, id: str, name: str = "work", **facts: Any) -> Row:
        pid = int(id.partition(".")[0])
        above = self.rows.get(facts.get("parent", ""))
        depth = 0 if above is None else above.depth + 1
        given = {"depth": depth, "place": "task", "state": "running", "started_at": time.time(), "age": 0.0, **facts}
        self.rows[id] = row = Row(id=id, pid=pid, name=name, **given)
        self.argv.setdefault(pid, ("python", "program.py"))
        return row

    async def list(self, query: Query) -> Overview:
        self.asked.append(query)
        if self.broken:
            raise Unreachable(self.broken)
        met = [row for row in list(self.rows.values()) if self._meets(row, query)]
        if query.sort == "ended":
            met.sort(key=lambda row: -(row.ended_at or 0))
        elif query.sort == "name":
            met.sort(key=lambda row: row.name, reverse=query.reverse)
        counts: dict[str, int] = {}
        for row in met:
            counts[row.state] = counts.get(row.state, 0) + 1
        shown = met[query.offset : None if query.limit is None else query.offset + query.limit]
        processes = tuple(Process(pid, argv, 0.0, f"/tmp/{pid}.sock") for pid, argv in sorted(self.argv.items()))
        return Overview(tuple(shown), len(met), counts, processes=processes, over=dict(self.over))

    def _meets(self, row: Row, query: Query) -> bool:
        return (
            (query.ended or row.outcome is None or row.state == "abandoned")
            and (not query.states or row.state in query.states)
            and (not query.places or row.place in query.places)
            and (not query.name or fnmatchcase(row.name, query.name))
            and (not query.ids or row.id in query.ids)
        )

    async def show(self, id: str) -> Detail:
        if id not in self.rows:
            raise NotFound(f"there is no operation {id!r}")
        row = self.rows[id]
        children = tuple(other.id for other in self.rows.values() if other.parent == id)
        argv = self.argv.get(row.pid, ())
        return Detail(row=row, stack=self.stacks.get(id, ()), children=children, grace=5.0, argv=argv)

    async def cancel(
        self, query: Query, *, reason: str = "", grace: float | None = None, wait: float = 10.0
    ) -> AsyncIterator[Stopped]:
        (id,) = query.ids
        self.cancelled.append({"id": id, "reason": reason, "grace": grace, "wait": wait})
        if id not in self.rows:
            raise NotFound(f"there is no operation {id!r}")
        at = time.time()
        cause = Cause("requested", reason, "tester (pid 1, calloff serve)", at)
        row = replace(self.rows[id], state="stopping", reason=cause, requested_at=at, steps=(Step("ASKED", at),))
        self.rows[id] = row
        await asyncio.sleep(0)
        if id in self.sturdy and grace != 0:
            yield Stopped(row=row, seconds=wait)
            return
        now = time.time()
        rung = "FORCED" if grace == 0 else "ASKED"
        row = replace(
            row, state="cancelled", outcome="cancelled", ended_at=now, age=now - row.started_at, rung=rung,
            clean_up=now - at, where=None, survivors=self.left,
        )  # fmt: skip
        self.rows[id] = row
        yield Stopped(row=row, seconds=now - at, outcome="cancelled")
