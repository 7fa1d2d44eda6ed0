"""A control client over a list of rows, with the methods of `calloff.control.Client` that the screen uses."""

import asyncio
from fnmatch import fnmatch
from typing import Any

from calloff.control import Cause, Detail, Frame, NotFound, Overview, Process, Row, Stopped

KEYS = {
    "age": lambda row: -row.age,
    "name": lambda row: row.name,
    "state": lambda row: row.state,
    "place": lambda row: row.place,
    "remaining": lambda row: float("inf") if row.remaining is None else row.remaining,
    "ended": lambda row: -(row.ended_at or 0),
}


def row(number, name="work", *, pid=4312, **more):
    """A row like those that a process sends."""
    facts = {"place": "task", "state": "running", "started_at": 1000.0, "age": 12.5, **more}
    return Row(
        id=f"{pid}.{number}", pid=pid, name=name, where=Frame("/srv/work.py", 7, "crunch", "total += 1"), **facts
    )


def ended(number, name="work", outcome="completed", **more):
    """A row of one that has ended."""
    return row(number, name, state=outcome, outcome=outcome, ended_at=2000.0 + number, **more)


class Fake:
    """Answers from `rows`; tests change them, and look at what was asked."""

    def __init__(self, rows=()):
        self.rows = list(rows)
        self.silent = ()
        self.error = None
        self.asked = []
        self.over = 0
        self.cancels = []
        self.ending = asyncio.Event()
        self.stopped = None

    async def list(self, query=None):
        self.asked.append(query)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        found = [each for each in self.rows if query.ended or not is_over(each)]
        if query.states:
            found = [each for each in found if each.state in query.states]
        if query.places:
            found = [each for each in found if each.place in query.places]
        if query.name:
            found = [each for each in found if fnmatch(each.name, query.name)]
        if query.sort != "tree":
            found.sort(key=KEYS[query.sort], reverse=query.reverse)
        elif query.reverse:
            found.reverse()
        counts: dict[Any, Any] = {}
        for each in found:
            counts[each.state] = counts.get(each.state, 0) + 1
        page = tuple(found[query.offset : query.offset + query.limit])
        pids = sorted({each.pid for each in self.rows})
        processes = tuple(Process(pid, ("python", "work.py"), 0.0, f"/run/{pid}.sock") for pid in pids)
        return Overview(page, len(found), counts, self.silent, processes + tuple(self.silent), {}, {4312: self.over})

    async def show(self, id):
        for each in self.rows:
            if each.id == id:
                stack = (Frame("/srv/main.py", 3, "main", "crunch()"), each.where)
                children = tuple(child.id for child in self.rows if child.parent == id)
                return Detail(row=each, stack=stack, children=children, grace=5.0, argv=("python", "work.py"))
        raise NotFound(f"there is no operation {id!r}")

    async def cancel(self, query, *, reason="", grace=None, wait=10.0, dry_run=False):
        self.cancels.append((query.ids, reason, grace, wait))
        await self.ending.wait()
        if self.stopped is not None:
            yield self.stopped
            return
        for id in query.ids:
            at, found = next((at, each) for at, each in enumerate(self.rows) if each.id == id)
            number = int(id.partition(".")[2])
            cause = Cause("requested", reason, "ana (pid 99, calloff top)", 1012.0)
            self.rows[at] = ended(
                number, found.name, "cancelled", pid=found.pid, reason=cause, rung="ASKED", clean_up=0.3
            )
            yield Stopped(row=self.rows[at], seconds=0.3, outcome="cancelled")


def is_over(row):
    """Whether it is to be seen in the history only."""
    return row.outcome is not None and row.state != "abandoned"
