"""A blocking function as the body of an operation."""

from asyncio import AbstractEventLoop, CancelledError, TimerHandle, get_running_loop
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeVar

from ..._words.errors import OperationCancelled, StopForced
from ..._words.frame import RawStack
from ..._words.place import Body, Sink, Work
from ..._words.report import Rung
from ..._words.untouched import is_a
from .call import Call
from .pool import Pool, Worker

__all__ = ["ThreadBody", "ThreadWork", "is_coroutine"]

T = TypeVar("T")
#: seconds until force is sent again; each time twice as many, up to so many
_AGAIN, _RARELY = 0.02, 1.0
#: how long it looks for a moment at which force does no harm, and how long it pauses each time
_PATIENCE, _SOON = 0.3, 0.01
#: how often it has seen the thread go on, at least, before it takes any moment
_MOVES = 40
#: seconds that a thread gets in which it does not go on: it waits, or the machine gives it no turn; and how often it is
#: tried in these, at least: the machine may give the loop no turn, either
_STANDING, _TRIES = 0.4, 25


class ThreadWork(Work[T]):
    """A call for a thread that was not started yet; made by `calloff.thread`."""

    __slots__ = ("_function", "_pool", "name")
    place = "thread"

    def __init__(self, function: Callable[[], T], name: str, pool: Pool) -> None:
        self._function = function
        self._pool = pool
        self.name: str = name

    def open(self) -> "ThreadBody":
        """The body; `CalloffError` when too many threads are abandoned."""
        self._pool.check()
        return ThreadBody(self._function, self.name, self._pool)

    def __repr__(self) -> str:
        return f"<calloff.thread {self.name}>"


class ThreadBody(Body):
    """Runs a function in a thread for an operation."""

    __slots__ = (
        "_again",
        "_asked_with",
        "_begun",
        "_context",
        "_heard_at",
        "_loop",
        "_pool",
        "_sink",
        "_told",
        "_worker",
        "call",
        "name",
    )
    place = "thread"
    queued = True

    def __init__(self, function: Callable[[], Any], name: str, pool: Pool) -> None:
        self.name: str = name
        self._pool = pool
        self._context: Context = copy_context()
        self.call: Call = Call(partial(self._context.run, function))
        self._worker: Worker | None = None
        self._asked_with: BaseException | None = None
        #: where a checkpoint has raised for the first time
        self._heard_at: RawStack = ()
        self._again: TimerHandle | None = None
        self._told = False

    @property
    def reached(self) -> bool:  # type: ignore[override]  # computed when it is read
        """Whether a checkpoint raised, or force arrived, in the function."""
        return self._asked_with is not None or self.call.swallowed

    # --- what the operation asks for

    def begin(self, sink: Sink) -> None:
        """Hand over in the next turn of the loop: what is called off before that never runs."""
        self._sink = sink
        self._loop: AbstractEventLoop = get_running_loop()
        self._begun = self._loop.call_soon(self._pool.submit, self, self._loop)

    def ask(self, text: str) -> RawStack:
        """The function hears of it at its next checkpoint; if it does not run yet, it never will."""
        if self._worker is None:
            self._begun.cancel()
            self._pool.withdraw(self, self._loop)
            self._sink.stopped()
            return ()
        return self.known_where()

    def insist(self) -> bool:
        """Every further checkpoint raises anyway."""
        return False

    def force(self) -> bool:
        """Raise `StopForced` in the function."""
        obeying = self._asked_with is not None and self.call.is_handling(self._asked_with)
        self._asked_with = None
        self._press(_AGAIN, self._loop.time() + _PATIENCE, self.call.moves)
        return not obeying

    def _press(self, pause: float, hasty_at: float, moves: int, tries: int = 0) -> None:
        """Send force, and again later: it may have been lost in a destructor.

        Any moment will do at last: from the time `hasty_at` on, when the thread was seen to go on since `moves`, or was
        tried often enough, and none of its moments was a good one.
        """
        call, now = self.call, self._loop.time()
        if not call.force() and not (self._is_late(now - hasty_at, moves, tries) and call.force(hasty=True)):
            self._again = self._loop.call_later(
                _SOON, self._press, pause, hasty_at, moves, tries + 1, context=Context()
            )
        elif call.is_running():
            hasty_at = now + pause + _PATIENCE / 2
            self._again = self._loop.call_later(pause, self._press, 2 * pause, hasty_at, call.moves, context=Context())

    def _is_late(self, late: float, moves: int, tries: int) -> bool:
        return late >= 0 if self.call.moves - moves >= _MOVES else late >= _STANDING and tries >= _TRIES

    def _press_on(self, pause: float) -> None:
        """Send force to a thread that was left behind, less and less often: it may have come out of its call by then."""
        self.call.force(left=True)
        if self.call.is_running():
            pause = min(2 * pause, _RARELY)
            self._again = self._loop.call_later(pause, self._press_on, pause, context=Context())

    def _let_be(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def tear(self) -> bool:
        """Hear of an end that the loop, which is busy, has not come to yet: what has ended is not left behind."""
        if self._worker is None or self.call.is_running() or not self._worker.is_over(self.call):
            return False
        self._deliver()
        return True

    def abandon(self) -> bool:
        """Leave the thread behind; it ends with its function, if that ever ends, and is forced when it comes out of C."""
        self._let_be()
        obeying = self.call.is_handling(StopForced)
        assert self._worker is not None
        self.call.give_up()
        self._pool.abandon(self._worker, self.call)
        self._again = self._loop.call_later(_AGAIN, self._press_on, _AGAIN, context=Context())
        return not obeying

    def where(self) -> RawStack:
        """The stack of the function, outermost first; its name alone when it is one of C."""
        stack = self.call.where()
        return stack if stack or not self.call.is_running() else (("<built-in>", 0, self.name),)

    def known_where(self) -> RawStack:
        """The stack of the function; once it has ended, where a checkpoint has raised, which the loop may be late for."""
        return self.where() or self._heard_at

    def is_here(self) -> bool:
        """Whether the calling code runs in the function."""
        return self.call.is_here()

    def noted(self, error: BaseException) -> bool:
        """A checkpoint raises `error` in the function: whether one did before, and it was swallowed."""
        refused = self._asked_with is not None
        self._asked_with = error
        self._heard_at = self._heard_at or self.where()
        return refused

    # --- what the pool tells

    def enter(self, worker: Worker) -> None:
        """The function starts now."""
        self._worker = worker
        self._context.run(self._sink.entered)
        worker.give(self.call, self._done)

    def fail(self, error: Exception) -> None:
        """There is no thread for it."""
        self._sink.raised(error)

    def _done(self) -> None:
        """In the thread: the function has ended."""
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # the loop was closed meanwhile: nobody waits any more
            pass

    def _deliver(self) -> None:
        if self._told:
            return
        self._told = True
        self._let_be()
        call = self.call
        if call.value:
            value = call.value[0]
            if is_a(value, Coroutine):  # nothing of it has run, and nobody would ever run it
                self._sink.raised(is_coroutine(value, self.name))
                return
            self._sink.returned(value)
            return
        error = call.error
        call.error = None  # its traceback leads back here
        assert error is not None
        if is_a(error, StopForced):
            self._sink.stopped(Rung.FORCED)
        elif is_a(error, CancelledError):
            self._sink.stopped(_rung_of(error), (), error)
        elif is_a(error, StopIteration):  # a future can't hold it
            failure = RuntimeError(f"{self.name} raised StopIteration")
            failure.__cause__ = error
            self._sink.raised(failure)
        else:
            self._sink.raised(error)


def _rung_of(error: BaseException) -> Rung:
    """What it took: of another operation that the function waited for, such as the main one of a `run`, its own rung."""
    report = error.report if type(error) is OperationCancelled else None
    return Rung.FORCED if report is not None and report.rung >= Rung.FORCED else Rung.ASKED


def is_coroutine(value: Coroutine[Any, Any, Any], name: str) -> TypeError:
    """The error of a call that returned one; nothing of it has run, and nothing ever will."""
    value.close()
    return TypeError(f"{name} returned a coroutine, which runs in a task: calloff.start({name}(...))")
