"""The life of an operation: it begins, is limited, asked to stop, told by its body that it has ended, and closed.

The limits and the ladder reach it through its timer (the `Entry` protocol), the body through the `Sink` protocol.
"""

import asyncio
import logging
from asyncio import Future
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from .._scopes.timers import NEVER, Entry, Timers, timers_of
from .._words.errors import TimedOut
from .._words.frame import RawStack, at_line
from .._words.place import Body
from .._words.policy import DEFAULT
from .._words.reason import LIMITS, Kind
from .._words.report import Rung
from .._words.state import State
from .current import current_operation, sleepers, wake
from .observers import ears, tell
from .plain import in_words, plain
from .record import Record
from .registry import live
from .stopping import Stop, unblock

if TYPE_CHECKING:
    from .operation import Operation

__all__ = ["Supervised"]

T = TypeVar("T")
_FIRST_PAUSE = DEFAULT.pause(1)
_numbers = count(1)
_logger = logging.getLogger("calloff")
_init = Future.__init__
_set_result = Future.set_result
_set_exception = Future.set_exception
_get_exception = Future.exception
_set_cancelled = Future.cancel
#: the history takes about 1,024 endings in so many seconds; then it rests until they are over, but for those with a story
_SPELL = 0.1
_OFTEN = 1024 - 1  # a mask for numbers
#: seconds; what took so long has a story
_LONG = 1.0
_PENDING, _RUNNING, _STOPPING = State.PENDING, State.RUNNING, State.STOPPING
_COMPLETED, _FAILED, _CANCELLED, _ABANDONED = State.COMPLETED, State.FAILED, State.CANCELLED, State.ABANDONED


class Supervised(Record[T]):
    """A record with a body: what happens to it from the start to the ending.

    Every one of them is an `Operation`, which type checkers can't know here: hence the ``type: ignore`` below.
    """

    __slots__ = ()

    def __init__(
        self,
        body: Body,
        name: str,
        loop: asyncio.AbstractEventLoop,
        timeout: float | None,
        stall: float | None,
        grace: float,
        parent: "Operation[Any] | None",
    ) -> None:
        _init(self, loop=loop)
        self.body: Body | None = body
        self._place = body.place
        self.timers: Timers = timers_of(loop)
        self.timer_at: float = NEVER
        self.timer_bucket: dict[Entry, None] | None = None
        self._number = next(_numbers)
        self._name = name
        self._parent = parent
        self._children: dict[Operation[Any], None] | None = None
        self._grace = grace
        self._limit = timeout
        self._stall = stall
        self._phase: State = _PENDING
        self._stop: Stop | None = None
        self._waiters: list[Future[None]] | None = None
        self._progress: Any = None
        self._ended_at: float | None = None
        self._started_at = now = self.timers.now()
        self._progress_at = now
        self._deadline = None if timeout is None else now + timeout
        live[self] = None  # type: ignore[index]
        if parent is not None:
            if parent._children is None:
                parent._children = {}
            parent._children[self] = None  # type: ignore[index]
        if timeout is not None or stall is not None:
            self._set_timer()
        if ears.started:
            tell(ears.started, self)  # type: ignore[arg-type]
        try:
            body.begin(self)  # type: ignore[arg-type]
        except BaseException as error:  # which whoever starts it hears: no complaint that nobody retrieved it
            self._close(_FAILED, error)
            _set_exception(self, error)
            _get_exception(self)
            if ears.ended:
                tell(ears.ended, self)  # type: ignore[arg-type]
            raise

    def request(self, kind: Kind, text: str, by: str | None, grace: float) -> None:
        """Begin the stop, or hasten the one on its way; on the loop's thread."""
        body = self.body
        if body is None or self._ended_at is not None:
            return
        timers = self.timers
        now = timers.now()
        if self._stop is not None:
            self._stop.hasten(self, now, grace)  # type: ignore[arg-type]
            return
        stop = self._stop = Stop(kind, text, by, now, grace, self._phase is not _PENDING)
        self._phase = _STOPPING
        if self.timer_at != NEVER:
            timers.remove(self)
        if sleepers:
            wake(self)  # type: ignore[arg-type]
        if ears.asked:
            tell(ears.asked, self)  # type: ignore[arg-type]
        if self._children:  # it may be waiting for one of them: they are gone when the request arrives
            stop.where = body.where()
            body.ask(text)
        else:
            stop.where = body.ask(text)
        if grace > _FIRST_PAUSE and body.insists:
            timers.lane.add(self, now + _FIRST_PAUSE)
        else:  # with no grace at all, force comes at the next turn of the loop: first the asking arrives
            timers.add(self, now + grace)

    # --- what the body says (the Sink protocol)

    def entered(self) -> None:
        """The body runs its first step in a context of its own."""
        current_operation.set(self)  # type: ignore[arg-type]
        if self._phase is _PENDING:
            self._phase = _RUNNING
        elif self._stop is not None:  # it began before the asking could arrive there
            self._stop.started = True
        if ears.entered:
            tell(ears.entered, self)  # type: ignore[arg-type]

    def located(self, where: RawStack) -> None:
        """The request has arrived in the body, which was there."""
        if self._stop is not None and self._stop.where is None:
            self._stop.where = where

    def progressed(self, value: Any) -> None:
        """The body reported progress."""
        self._progress = value
        self._progress_at = self.timers.now()

    def refused(self) -> None:
        """The body was asked and went on."""
        if self._stop is not None:
            self._stop.refusals += 1

    def returned(self, value: Any) -> None:
        """The body ended with a value."""
        if self._phase is _ABANDONED:
            self._ended_late(f"returned {value!r:.100}")
            return
        if self._stop is not None and self.body is not None:
            self._stop.refusals += self.body.reached
        self._close(_COMPLETED)
        _set_result(self, value)
        if ears.ended:
            tell(ears.ended, self)  # type: ignore[arg-type]

    def raised(self, error: BaseException) -> None:
        """The body ended with an error of its own."""
        if self._phase is _ABANDONED:
            self._ended_late(f"raised {error!r:.200}")
            return
        self._close(_FAILED, error)
        _set_exception(self, error)
        if ears.ended:
            tell(ears.ended, self)  # type: ignore[arg-type]

    def stopped(self, rung: Rung | None = None, survivors: tuple[str, ...] = ()) -> None:
        """The body ended because it was stopped."""
        if self._phase is _ABANDONED:
            self._ended_late("was let go of with its task" if rung is Rung.ABANDONED else "obeyed")
            return
        if self._stop is None:  # cancelled behind our back, or it raised CancelledError on its own
            now = self.timers.now()
            kind, text = self.overdue(now) or (
                Kind.EXTERNAL,
                "its task was cancelled, or it raised CancelledError itself",
            )
            self._stop = Stop(kind, text, None, now, self._grace, self._phase is not _PENDING)
        if rung is not None:
            self._stop.rung = rung
        if survivors:
            self._stop.survivors = survivors
        self._close(_CANCELLED)
        self._settle_stopped()

    def give_up(self) -> None:
        """The ladder is at its end and the body is not: control goes back to whoever waits; the body stays listed."""
        body = self.body
        self._close(_ABANDONED)
        self.body = body
        live[self] = None  # type: ignore[index]
        assert self._stop is not None
        _logger.warning("%s could not be stopped and was abandoned: stuck at %s", self.ref, at_line(self.where()))
        self._settle_stopped()

    def _settle_stopped(self) -> None:
        stop = self._stop
        assert stop is not None
        assert self._ended_at is not None
        if stop.kind in LIMITS:
            evidence = partial(stop.report, self._ended_at, ()) if self.body is None else self._evidence
            _set_exception(self, TimedOut(self.ref, stop.reason, evidence))
        else:
            _set_cancelled(self, stop.text or None)
        if ears.ended:
            tell(ears.ended, self)  # type: ignore[arg-type]

    def _close(self, state: State, error: BaseException | None = None) -> None:
        self._phase = state
        timers = self.timers
        self._ended_at = now = timers.now()
        self.body = None
        parent = self._parent
        keep = ears.keep
        if keep is not None and (
            now >= timers.noted_from
            or self._started_at < timers.noted_before
            or self._stop is not None
            or error is not None
        ):
            if not self._number & _OFTEN:
                timers.noted_before = now - _LONG
                timers.noted_from = max(now, min(now, timers.noted_from) + _SPELL)
            keep(  # `History` reads these; written out here, since a call more would cost as much again
                (
                    self._number,
                    self._name,
                    self._place,
                    None if parent is None else parent._number,
                    state,
                    self._started_at,
                    now,
                    self._deadline,
                    None if self._progress is None else plain(self._progress),
                    self._stop,
                    None if error is None else in_words(error),
                )
            )
        live.pop(self, None)  # type: ignore[call-overload]
        if self.timer_at != NEVER:
            timers.remove(self)
        if parent is not None and parent._children is not None:
            parent._children.pop(self, None)  # type: ignore[call-overload]
        if self._children:
            self._stop_children()
        waiters = self._waiters
        if waiters is not None:
            self._waiters = None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _stop_children(self) -> None:
        assert self._children is not None
        text = "its parent ended" if self._stop is None else (self._stop.text or str(self._stop.kind))
        for child in tuple(self._children):
            if child._loop is self._loop:
                child.request(Kind.PARENT, text, str(self.ref), child._grace)
            elif not child._loop.is_closed():  # started in a thread that runs a loop of its own
                child.timers.call(child.request, Kind.PARENT, text, str(self.ref), child._grace)

    def _ended_late(self, how: str) -> None:
        live.pop(self, None)  # type: ignore[call-overload]
        self.body = None
        assert self._ended_at is not None
        _logger.warning("%s, abandoned %.3g s ago, ended: it %s", self.ref, self.timers.now() - self._ended_at, how)
        if ears.ended_late:
            tell(ears.ended_late, self, how)  # type: ignore[arg-type]

    # --- its timer (the Entry protocol)

    def _set_timer(self) -> None:
        if self.timer_at != NEVER:
            self.timers.remove(self)
        due = self._deadline
        if self._stall is not None:
            silent = self._progress_at + self._stall
            due = silent if due is None or silent < due else due
        if due is not None:
            self.timers.add(self, due)

    def timer_due(self, now: float) -> None:
        """A limit or the next step of the stop may be due."""
        if self._stop is not None:
            self._stop.advance(self, now)  # type: ignore[arg-type]
            return
        overdue = self.overdue(now)
        if overdue is None:
            self._set_timer()
        else:
            self.request(*overdue, None, self._grace)

    def blocked(self, now: float) -> None:
        """The body blocks the loop, so that no timer runs: take the steps that are due."""
        unblock(self, now)  # type: ignore[arg-type]
