"""The registry as rows of the wire: which operations a query means, in which order, and what is told of each.

Ten thousand operations may be looked at once a second by somebody who shows forty of them. So everything that is done for
all of them (filtering, counting, sorting) reads single attributes; facts, lines and texts are made for the rows that are
asked for. All of it happens in the thread of the server: the event loop is not disturbed, and may even be stuck.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from fnmatch import translate
from functools import partial
from itertools import count, islice
from operator import attrgetter
from typing import Any
from weakref import WeakKeyDictionary

from msgspec.structs import replace

from .._operation.operation import Operation
from .._operation.registry import live
from .._operation.snapshot import Facts, History, clock_of, facts_of, snatch
from .._operation.stopping import where_of
from .._places.task.body import body_of
from .._words.report import Rung
from .._words.state import State
from .._words.text import in_words
from ._attributes import (
    depth_of,
    ended_at_of,
    is_of_the_verb,
    name_of,
    node_of,
    number_of,
    parent_number_of,
    phase_of,
    place_of,
    remaining_of,
    silence_of,
)
from ._fold import folded, stem
from ._ids import Index, best, numbers
from ._lines import frames, innermost, line_of, own, stack_of_task, steps_of
from ._records import LIVE, Cause, Detail, Frame, Listing, Query, Row
from ._usage import usage_of

__all__ = ["Registry"]

_logger = logging.getLogger("calloff")
_STATES = tuple(State)
_RUN = frozenset(map(State, LIVE))
#: so many ids are looked up one by one; for more of them an index is made
_FEW = 8
_LOOP, _PHASE = attrgetter("_loop"), attrgetter("_phase")


class Registry:
    """What runs in this process, and what has ended lately.

    Args:
        history: the ended ones.
        loops: the event loops whose plain tasks are shown; those of operations are known anyway.
    """

    def __init__(self, history: History, loops: Callable[[], Iterable[asyncio.AbstractEventLoop]]) -> None:
        self.pid: int = os.getpid()
        self._history = history
        self._loops = loops
        self._numbers: WeakKeyDictionary[asyncio.Task[Any], tuple[int, float]] = WeakKeyDictionary()
        self._next = count(1)
        self._newest = self._over = 0

    # --- which ones

    def listing(self, query: Query) -> Listing:
        """The rows that a query asks for, and the counts of all that match."""
        if query.tasks:
            _let_in(_alive())
        found = self.matching(query)
        states = list(map(_PHASE, found)) if _only_live(query) else [phase_of(each) for each in found]
        if _only_live(query) and not _RUN.issuperset(states):  # some have ended since they were found
            found = [each for each, state in zip(found, states, strict=True) if state in _RUN]
            states = [state for state in states if state in _RUN]
        many = folded(found, name_of, number_of, _runs if _only_live(query) else bool) if query.fold else {}
        counts = {str(state): states.count(state) for state in _STATES if state in states}
        stop = None if query.limit is None else query.offset + query.limit
        found = list(many) if query.fold else found
        page = list(islice(self._sorted(found, query), query.offset, stop))
        rows = self.rows(page, where=query.where)
        if query.fold:
            rows = (_standing_for(row, many[each]) for row, each in zip(rows, page, strict=True))
        return Listing(rows=tuple(rows), total=len(found), counts=counts, over=self._over_by_now())

    def _over_by_now(self) -> int:
        """How many operations have ended so far: those that have begun, which are numbered, without those that run."""
        alive = snatch(lambda: tuple(live))
        ended = snatch(lambda: tuple(self._history.ended)[-1:])
        self._newest = max((self._newest, *(each._number for each in alive[-1:]), *(each.number for each in ended)))
        self._over = max(self._over, self._newest - len(alive))
        return self._over

    def matching(self, query: Query) -> "list[Any]":
        """The operations, ended ones (`Facts`) and plain tasks that a query means, in no order."""
        found: list[Any] = _alive()
        if query.tasks or any("t" in text for text in query.ids):
            found += self._tasks()
        if query.ended:
            found += reversed(self._history.facts())
        if query.ids:
            found = self._named(found, query.ids)
        for condition in self._conditions(query):
            found = [each for each in found if condition(each)]
        return found

    def _named(self, found: "list[Any]", texts: Iterable[str]) -> "list[Any]":
        """For each text what fits it best."""
        wanted = numbers(texts, self.pid)
        if wanted is not None:  # whole ids, as by far the most: without making the id of every operation
            whole = [each for each in found if not isinstance(each, asyncio.Task) and number_of(each) in wanted]
            if len(whole) == len(wanted):
                return whole
        known = [(self.id_of(each), each) for each in found]
        texts = list(dict.fromkeys(texts))
        look_up = Index(known).best if len(texts) > _FEW else partial(best, known)
        return list(dict.fromkeys(each for text in texts for each in look_up(text)))

    def _conditions(self, query: Query) -> Iterator[Callable[[Any], bool]]:
        if query.states:
            states = frozenset(query.states)
            yield lambda each: phase_of(each).value in states
        if query.places:
            places = frozenset(query.places)
            if any(" " in place for place in places):  # "process node": only there
                yield lambda each: place_of(each) in places or f"{place_of(each)} {node_of(each)}" in places
            else:
                yield lambda each: place_of(each) in places
        if query.name:
            match = re.compile(translate(query.name)).match
            yield lambda each: match(name_of(each)) is not None
        if query.older_than is not None:
            limit = query.older_than
            yield lambda each: self.age_of(each) > limit

    def find(self, id: str) -> Any:
        """The operation, ended one or task with exactly that id, or ``None``."""
        return next((each for each in self.matching(Query(ids=(id,), ended=True)) if self.id_of(each) == id), None)

    def _tasks(self) -> "list[asyncio.Task[Any]]":
        """The plain tasks: those that no operation drives."""
        loops = dict.fromkeys([*self._loops(), *(operation.get_loop() for operation in _alive())])
        found: list[asyncio.Task[Any]] = []
        for loop in loops:
            if not loop.is_closed():
                found += [
                    task for task in asyncio.all_tasks(loop) if body_of(task) is None and not is_of_the_verb(task)
                ]
        for task in found:
            self._seen(task)
        return sorted(found, key=lambda task: self._seen(task)[0])

    def _seen(self, task: "asyncio.Task[Any]") -> tuple[int, float]:
        """The number of a plain task, and when it was first looked at."""
        seen = self._numbers.get(task)
        if seen is None:
            seen = self._numbers[task] = next(self._next), time.monotonic()
        return seen

    def id_of(self, each: Any) -> str:
        """``4312.7``, or ``4312.t3`` for a plain task."""
        if isinstance(each, asyncio.Task):
            return f"{self.pid}.t{self._seen(each)[0]}"
        return f"{self.pid}.{number_of(each)}"

    def age_of(self, each: Any) -> float:
        """Seconds since its start; of an ended one from its start to its end."""
        if isinstance(each, Facts):
            return (each.started_at if each.ended_at is None else each.ended_at) - each.started_at
        if isinstance(each, asyncio.Task):
            return time.monotonic() - self._seen(each)[1]
        now = each._ended_at
        age: float = (clock_of(each) if now is None else now) - each._started_at
        return age

    # --- in which order

    def _sorted(self, found: "list[Any]", query: Query) -> Iterable[Any]:
        if query.sort == "tree":
            ordered = _live_tree(found) if _only_live(query) else _in_tree_order(found)
            return reversed(list(ordered)) if query.reverse else ordered
        if query.sort == "age" and _only_live(query):  # as they are, but for abandoned ones
            return sorted(found, key=attrgetter("_number"), reverse=query.reverse)
        keys: dict[str, Callable[[Any], Any]] = {
            "age": lambda each: -self.age_of(each),
            "name": name_of,
            "state": lambda each: _STATES.index(phase_of(each)),
            "place": place_of,
            "remaining": remaining_of,
            "silent": lambda each: -(silence_of(each) or 0.0),
            "ended": lambda each: -ended_at_of(each),
        }
        return sorted(found, key=keys[query.sort], reverse=query.reverse)

    # --- what is told of them

    def rows(self, page: "list[Any]", *, where: bool) -> Iterator[Row]:
        """The rows of these."""
        if where:
            for each in page:
                body = each.body if isinstance(each, Operation) else None
                if body is not None:
                    with suppress(Exception):
                        body.look()
        for each in page:
            try:
                yield self.row(each, where=where)
            except Exception as problem:  # one that can't be looked at must not hide the others
                yield self._unknown(each, problem)

    def _unknown(self, each: Any, problem: Exception) -> Row:
        """The row of one that can't be looked at: what is known without asking anything of the program."""
        _logger.debug("%s can't be shown", self.id_of(each), exc_info=problem)
        return Row(
            id=self.id_of(each),
            pid=self.pid,
            name=name_of(each),
            place=place_of(each),
            state=phase_of(each).value,
            started_at=time.time() - self.age_of(each),
            age=self.age_of(each),
            error=f"it can't be looked at: {in_words(problem)}",
        )

    def row(self, each: Any, *, where: bool = True) -> Row:
        """The row of one."""
        if isinstance(each, asyncio.Task):
            return self._task_row(each, where)
        if isinstance(each, Facts):
            return self._row(each, time.monotonic())
        body = each.body
        place = None if body is None or not where else line_of(body)
        worker = None if body is None else body.pid
        return self._row(facts_of(each), clock_of(each), place, worker, depth_of(each), silence_of(each))

    def _row(
        self,
        facts: Facts,
        now: float,
        where: Frame | None = None,
        worker: int | None = None,
        depth: int = 0,
        silent: float | None = None,
    ) -> Row:
        unix = time.time() - now
        stop, ended_at = facts.stop, facts.ended_at
        return Row(
            id=f"{self.pid}.{facts.number}",
            pid=self.pid,
            name=facts.name.rpartition("<locals>.")[2],
            place=f"{facts.place} {facts.node}" if facts.node else facts.place,
            state=facts.phase.value,
            started_at=facts.started_at + unix,
            age=(now if ended_at is None else ended_at) - facts.started_at,
            parent=None if facts.parent is None else f"{self.pid}.{facts.parent}",
            depth=depth,
            deadline_at=None if facts.deadline is None else facts.deadline + unix,
            remaining=None if facts.deadline is None or ended_at is not None else facts.deadline - now,
            timeout=facts.timeout,
            silent=silent,
            progress=facts.progress,
            where=where,
            worker=worker,
            reason=None
            if stop is None
            else Cause(str(stop.kind), stop.text, str(stop.by or ""), stop.requested_at + unix),
            requested_at=None if stop is None else stop.requested_at + unix,
            refusals=0 if stop is None else stop.refusals,
            steps=() if stop is None else steps_of(stop, facts, unix),
            outcome=None if ended_at is None else facts.phase.value,
            ended_at=None if ended_at is None else ended_at + unix,
            rung=None if stop is None or ended_at is None else str(stop.rung),
            clean_up=None if stop is None or ended_at is None else ended_at - stop.requested_at,
            error=facts.error,
            survivors=() if stop is None else stop.survivors,
        )

    def _task_row(self, task: "asyncio.Task[Any]", where: bool) -> Row:
        number, seen_at = self._seen(task)
        parent = parent_number_of(task)
        age = time.monotonic() - seen_at
        outcome = phase_of(task) if task.done() else None
        asked = task.cancelling()
        obeyed = asked > 0 and outcome is State.CANCELLED  # the last time that it was asked
        return Row(
            id=f"{self.pid}.t{number}",
            pid=self.pid,
            name=name_of(task),
            place="asyncio",
            state=str(phase_of(task)),
            started_at=time.time() - age,
            age=age,
            parent=None if parent is None else f"{self.pid}.{parent}",
            depth=depth_of(task),
            where=innermost(stack_of_task(task)) if where and not task.done() else None,
            refusals=asked - obeyed,
            outcome=None if outcome is None else str(outcome),
            ended_at=None if outcome is None else time.time(),
            rung=None if not obeyed else str(Rung.ASKED if asked == 1 else Rung.INSISTED),
        )

    def details(self, each: Any, argv: tuple[str, ...]) -> Detail:
        """Everything about one."""
        row = self.row(each)
        if isinstance(each, asyncio.Task):
            return Detail(row=row, stack=frames(stack_of_task(each)), argv=argv)
        facts = each if isinstance(each, Facts) else facts_of(each)
        body = each.body if isinstance(each, Operation) else None
        stop = facts.stop
        children = snatch(lambda: tuple(each._children or ())) if isinstance(each, Operation) else ()
        return Detail(
            row=row,
            stack=frames(where_of(body))
            or own(frames(facts.raised))
            or frames(() if stop is None else stop.where or ()),
            children=tuple(self.id_of(child) for child in children),
            grace=facts.grace,
            stall=facts.stall,
            stuck_at=frames(() if stop is None else stop.stuck),
            argv=argv,
            usage=usage_of(row.worker),
        )


def _alive() -> "list[Any]":
    """The operations that run, without those whose loop was closed under them: they never go on."""
    found = list(snatch(lambda: tuple(live)))
    if any(loop.is_closed() for loop in set(map(_LOOP, found))):
        found = [operation for operation in found if not operation.get_loop().is_closed()]
    return found


def _standing_for(row: Row, count: int) -> Row:
    return row if count == 1 else replace(row, name=stem(row.name), count=count)


def _let_in(found: "list[Operation[Any]]") -> None:
    """Have the scripts among them open a door of their own: their tasks are in another process."""
    for operation in found:
        if operation.body is not None:
            with suppress(Exception):  # of a place of somebody else's
                operation.body.let_in()


def _runs(operation: Operation[Any]) -> bool:
    return operation._phase in _RUN


def _only_live(query: Query) -> bool:
    """Whether all that is found are operations that run: then their attributes can be read as fast as can be."""
    return not query.ended and not query.tasks and not query.ids


def _live_tree(found: "list[Any]") -> Iterator[Any]:
    """`_in_tree_order` of operations that run: no more of it is made than is taken."""
    present = dict.fromkeys(found)
    ahead = [each for each in found if each._ended_at is not None or each._parent not in present][::-1]
    while ahead:
        each = ahead.pop()
        yield each
        children = each._children
        if children:
            ahead += [child for child in snatch(lambda: tuple(children)) if child in present][::-1]  # noqa: B023


def _in_tree_order(found: "list[Any]") -> Iterator[Any]:
    """Parents before their children, each followed by its own; what has no parent here comes in order of start."""
    present = {number_of(each): each for each in found if not isinstance(each, asyncio.Task)}
    below: dict[int, list[Any]] = {}
    roots: list[Any] = []
    for each in found:
        parent = parent_number_of(each)
        if parent is not None and parent in present:
            below.setdefault(parent, []).append(each)
        else:
            roots.append(each)
    if not below:
        yield from roots
        return
    ahead = roots[::-1]
    while ahead:
        each = ahead.pop()
        yield each
        children = None if isinstance(each, asyncio.Task) else below.get(number_of(each))
        if children:
            ahead += children[::-1]
