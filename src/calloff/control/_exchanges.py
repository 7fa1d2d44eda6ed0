"""The four verbs, from the request to the last answer.

`list` and `show` are answered at once. `watch` has a timer. `cancel` hands each stop to the loop of its operation, by the
way that reaches a blocked loop, too, and leaves a callback there; the ending comes back through the control loop. Nothing
is polled. When `wait` is over, what has not ended is told with the line at which it stands.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from math import isfinite
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from .._operation.operation import Operation
from .._operation.snapshot import Facts
from .._scopes.timers import timers_of
from .._words.policy import DEFAULT
from .._words.reason import Kind, Reason
from .._words.state import State
from ._lines import frames
from ._records import SORTS, Accepted, Cancel, Details, List, Listing, Query, Row, Show, Stopped, Watch

if TYPE_CHECKING:
    from ._service import Connection

__all__ = ["Cancelling", "Exchange", "Impossible", "begin"]

_TEXT = 1000
_logger = logging.getLogger("calloff")
_PATTERN = 1000
_IDS = 10_000
_ROWS = 1 << 53
#: how many operations a cancel tells of at a time: all of ten thousand take longer than a client waits for a word
_PART = 200
_SHORTEST = 0.05
_LONGEST = 86400.0 * 365


class Impossible(Exception):
    """The request can't be carried out; one sentence, and the code of the refusal."""

    def __init__(self, text: str, *, code: str = "invalid") -> None:
        super().__init__(text)
        self.code = code


class Exchange(Protocol):
    """A request that is not answered at once."""

    def finish(self) -> None:
        """The process ends: give the last answer now."""

    def drop(self) -> None:
        """The client is gone."""


def begin(request: List | Show | Watch | Cancel, connection: "Connection") -> Exchange | None:
    """Answer a request; returned is what goes on.

    Raises:
        Impossible: it can't be carried out.
    """
    registry = connection.service.registry
    match request:
        case List(query=query):
            _check(query)
            connection.answer(registry.listing(query))
        case Show(id=id):
            detail = registry.details(_found(connection, id), connection.service.argv)
            connection.answer(Details(detail=detail))
        case Watch(id=id, every=every):
            watching = _Watching(connection, _found(connection, id), _seconds(every, "every", _SHORTEST))
            return watching if watching.look() else None
        case Cancel():
            return Cancelling(connection, request).start()
    return None


def _check(query: Query) -> None:
    if query.sort not in (*SORTS, "ended"):
        raise Impossible(f"sort must be one of {', '.join(SORTS)}, ended, not {query.sort!r:.60}")
    if query.offset < 0 or (query.limit is not None and query.limit < 0):
        raise Impossible("offset and limit must be 0 or more")
    if max(query.offset, query.limit or 0) > _ROWS:
        raise Impossible(f"offset and limit must be at most {_ROWS}")
    if len(query.name) > _PATTERN or len(query.ids) > _IDS:
        raise Impossible(f"at most {_PATTERN} characters of a name and {_IDS} ids")


def _seconds(value: float, name: str, least: float = 0.0) -> float:
    if not isfinite(value) or value < 0:
        raise Impossible(f"{name} must be seconds, 0 or more, not {value!r}")
    return min(max(value, least), _LONGEST)


def _found(connection: "Connection", id: str) -> Any:
    found = connection.service.registry.find(id)
    if found is None:
        raise Impossible(f"there is no operation {id[:100]!r}", code="not_found")
    return found


class _Watching:
    """Rows of one operation, again and again."""

    def __init__(self, connection: "Connection", watched: Any, every: float) -> None:
        self._connection = connection
        self._watched = watched
        self._every = every
        self._loop = connection.service.loop
        self._next = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        if not isinstance(watched, Facts):
            _on_loop(watched.get_loop(), partial(watched.add_done_callback, self._done))

    def _done(self, _: object) -> None:
        """On the loop of the operation: it has ended."""
        _wake(self._loop, self.look)

    def look(self) -> bool:
        """Tell it, and again in a while; ``False`` when that was the last time."""
        if self._timer is not None:
            self._timer.cancel()
        if self._connection.closed:
            return False
        over = isinstance(self._watched, Facts) or self._watched.done()
        if over or not self._connection.lags:
            row = self._connection.service.registry.row(self._watched)
            self._connection.answer(Listing(rows=(row,), total=1, counts={row.state: 1}, last=over))
        if over:
            return False
        now = self._loop.time()
        self._next += self._every * (1 + max(0.0, (now - self._next) // self._every))
        self._timer = self._loop.call_at(self._next, self.look)
        return True

    def finish(self) -> None:
        """Its last row."""
        row = self._connection.service.registry.row(self._watched)
        self._connection.answer(Listing(rows=(row,), total=1, counts={row.state: 1}, last=True))
        self.drop()

    def drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not isinstance(self._watched, Facts):
            _on_loop(self._watched.get_loop(), partial(self._watched.remove_done_callback, self._done))


class Cancelling:
    """One cancel of any number of operations, until all have ended or the wait is over."""

    def __init__(self, connection: "Connection", request: Cancel) -> None:
        _check(request.query)
        self._connection = connection
        self._request = request
        self._wait = _seconds(request.wait, "wait")
        self._grace = None if request.grace is None else _seconds(request.grace, "grace")
        if not any((request.query.ids, request.query.name, request.query.states, request.query.places)):
            if request.query.older_than is None:
                raise Impossible("a cancel must say of what: ids, name, states, places or older_than")
        self._loop = connection.service.loop
        self._registry = connection.service.registry
        self._open: dict[Any, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._began = monotonic()

    def start(self) -> Exchange | None:
        """Ask all of them to stop; ``None`` when there is nothing to wait for."""
        query = msgspec.structs.replace(self._request.query, ended=False)
        ids = frozenset(query.ids)  # exact ones: a prefix may fit another operation by now
        met = [each for each in self._registry.matching(query) if not ids or self._registry.id_of(each) in ids]
        last = self._request.dry_run or not met
        part = _PART if self._request.version >= 2 else max(len(met), 1)
        for at in range(0, max(len(met), 1), part):
            rows = tuple(self._registry.rows(met[at : at + part], where=True))
            more = at + part < len(met)
            self._connection.answer(Accepted(rows=rows, more=more, last=last and not more))
        if last:
            return None
        peer = self._connection.peer.words
        running = [each for each in met if not each.done()]
        self._open = dict.fromkeys(running)
        for each in met:
            if each.done():  # abandoned before, or ended just now
                self._tell(each, last=not self._open and each is met[-1])
        if not self._open:
            return None
        for loop in dict.fromkeys(each.get_loop() for each in running):
            mine = [each for each in running if each.get_loop() is loop]
            _on_loop(loop, partial(self._ask_all, mine, self._request.reason[:_TEXT], peer), blocked=True)
        self._timer = self._loop.call_later(self._wait, self.finish)
        return self

    def _ask_all(self, mine: "list[Any]", text: str, by: str) -> None:
        """On the loop of these."""
        for each in mine:
            each.add_done_callback(self._done)
            try:
                _ask(each, text, by, self._grace)
            except Exception:
                _logger.exception("a cancel from outside failed: %r", each)

    def _done(self, each: Any) -> None:
        """On the loop of `each`: it has ended."""
        _wake(self._loop, self._ended, each)

    def _ended(self, each: Any) -> None:
        if each in self._open and not self._connection.closed:
            del self._open[each]
            self._tell(each, last=not self._open)
            if not self._open:
                self.drop()

    def finish(self) -> None:
        """The wait is over: tell the rest as it is."""
        left = tuple(self._open)
        for number, each in enumerate(left, 1):
            self._tell(each, last=number == len(left))
        self.drop()

    def _tell(self, each: Any, *, last: bool) -> None:
        row = self._registry.row(each)
        if row.where is None and row.state == str(State.ABANDONED):
            row = _stuck(row, each)
        self._connection.answer(Stopped(row=row, seconds=monotonic() - self._began, outcome=row.outcome, last=last))

    def drop(self) -> None:
        """Nobody listens any more; what was asked for goes on."""
        if self._timer is not None:
            self._timer.cancel()
        left, self._open = self._open, {}
        for each in left:
            _on_loop(each.get_loop(), partial(each.remove_done_callback, self._done))


def _stuck(row: Row, each: Any) -> Row:
    """With the line at which an abandoned one was given up, where there is none for now."""
    stop = getattr(each, "_stop", None)
    found = frames(() if stop is None else stop.stuck)
    return msgspec.structs.replace(row, where=found[-1]) if found else row


def _ask(each: Any, text: str, by: str, grace: float | None) -> None:
    """Ask for the stop; on the loop of `each`."""
    if isinstance(each, Operation):
        grace = each._grace if grace is None else min(grace, DEFAULT.longest_grace)
        each.request(Kind.REQUESTED, text, by, grace)
    else:
        each.cancel(str(Reason(Kind.REQUESTED, text, by)))


def _on_loop(loop: asyncio.AbstractEventLoop, what: Callable[[], object], *, blocked: bool = False) -> None:
    """Call it there, soon; `blocked`: also in the middle of what blocks it."""
    call = timers_of(loop).call if blocked else loop.call_soon_threadsafe
    try:
        if not loop.is_closed():
            call(what)
    except RuntimeError:  # closed meanwhile
        pass


def _wake(loop: asyncio.AbstractEventLoop, what: Callable[..., object], *args: Any) -> None:
    """Call it on the control loop, from the loop of an operation."""
    try:
        loop.call_soon_threadsafe(what, *args)
    except RuntimeError:  # the process ends: `finish` has told it
        pass
