"""The handle of one piece of work.

An `Operation` is an `asyncio.Future` whose ending is bounded. Three floors of one class, each a file: `Record` is what
can be read, `Supervised` is what happens to it, `Operation` is what its users do with it. Everything that is read seldom
(texts, frames with source lines, reports, exceptions) is made when it is asked for, so that starting and cancelling stay
cheap.
"""

from asyncio import CancelledError, Future, _get_running_loop
from collections.abc import Generator
from typing import Any, TypeVar

from .._words.duration import delay, limit
from .._words.errors import OperationCancelled
from .._words.outcome import Abandoned, Cancelled, Completed, Failed, Outcome
from .._words.reason import Kind, Reason
from .._words.state import State
from .current import current_operation
from .supervised import Supervised
from .watching import Watch

__all__ = ["Operation"]

T = TypeVar("T")
_UNSET: Any = object()
_future_result = Future.result
_future_exception = Future.exception
_COMPLETED, _FAILED, _ABANDONED = State.COMPLETED, State.FAILED, State.ABANDONED


class Operation(Supervised[T]):
    """One piece of work that calloff started. Made by `calloff.start`, never by hand.

    It keeps the protocol of `asyncio.Future` and works in `asyncio.wait`, `gather`, `wait_for`, `as_completed` and
    `shield`; it may be awaited any number of times. ``await op`` returns the value or raises the body's own error,
    `TimedOut` when a deadline or stall stopped it, `OperationCancelled` when anything else did. When the code that
    awaits is itself cancelled, the operation is stopped with it, and a plain `asyncio.CancelledError` goes on.

    Attributes:
        policy: the timing of its stop.
    """

    __slots__ = ()

    # --- calling it off

    def cancel(  # type: ignore[override]
        self, reason: str | Reason | None = None, *, grace: float | None = None, msg: Any = _UNSET
    ) -> bool:
        """Ask for the stop and return at once; may be called from any thread.

        Args:
            reason: why, in words; arrives in the report and in the error.
            grace: seconds between asking and force, by default those of the start; 0 forces at once.
            msg: what asyncio passes when it cancels a future; the same as `reason`.

        Returns:
            ``False`` if it was already done. A second call never makes the stop slower.
        """
        if self._ended_at is not None:
            return False
        grace = self._grace if grace is None else min(delay(grace, "grace"), self.policy.longest_grace)
        if isinstance(reason, Reason):
            kind, text, by = reason.kind, reason.text, reason.by
        else:
            kind, by = Kind.REQUESTED, None
            text = str(reason or (msg if msg is not _UNSET else None) or "")
            caller = current_operation.get()
            if caller is not None:
                by = str(caller.ref)
        if _get_running_loop() is self._loop:
            self.request(kind, text, by, grace)
        else:
            self.timers.call(self.request, kind, text, by, grace)
        return True

    async def stop(self, reason: str | Reason | None = None, *, grace: float | None = None) -> Outcome[T]:
        """Cancel and wait for the ending; returns within grace + 1 s.

        Args:
            reason: why, in words.
            grace: seconds between asking and force, by default those of the start.

        Returns:
            The outcome; never raises for the operation's own ending. When the caller is cancelled meanwhile, the stop
            is seen to its end and the caller's `CancelledError` raised then.
        """
        self._refuse_itself()
        self.cancel(reason, grace=grace)
        held: CancelledError | None = None
        while not self.done():
            try:
                await self.over()
            except CancelledError as error:
                held = error
        if held is not None:
            raise held
        return self._outcome()

    def reschedule(self, timeout: float | None) -> None:
        """Set a new limit: `timeout` seconds from now, or none.

        Raises:
            RuntimeError: it is being stopped or has ended.
        """
        timeout = limit(timeout, "timeout")
        if self._stop is not None or self.done():
            raise RuntimeError(f"{self.name!r} is {self._phase}: its deadline can't be changed any more")
        self._limit = timeout
        self._deadline = None if timeout is None else self.timers.now() + timeout
        self._set_timer()
        limited = getattr(self.body, "limited", None)  # of places that keep the deadline in another process, too
        if limited is not None:
            limited()

    # --- waiting for it

    def __await__(self) -> Generator[Any, None, T]:
        if self._ended_at is None:
            held: CancelledError | None = None
            while not self.done():
                try:
                    yield from self.over()
                except CancelledError as error:  # it is the caller that is cancelled
                    if held is None:
                        held = error
                        self._follow(error)
            if held is not None:
                raise held
        return _future_result(self) if self._phase is _COMPLETED else self.result()

    def __iter__(self) -> Generator[Any, None, T]:
        return self.__await__()

    async def outcome(self) -> Outcome[T]:
        """Wait for the ending as a value. Only looks on: the caller's own cancel, alone, raises and stops nothing."""
        if not self.done():
            waiter = self.over()
            try:
                await waiter
            except CancelledError:
                self.forget(waiter)
                raise
        return self._outcome()

    def watch(self, every: float = 1.0) -> "Watch[T]":
        """Look at it again and again: an async iterator of `Tick`.

        Args:
            every: seconds between two ticks; the first comes after that time, without drift.

        The iteration ends when the operation does.
        """
        return Watch(self, every)

    def result(self) -> T:
        """The value, or the error that ``await`` would raise.

        Raises:
            asyncio.InvalidStateError: it has not ended.
        """
        if self._phase is not _COMPLETED and self.cancelled():
            raise self._make_cancelled_error()
        return _future_result(self)

    def exception(self) -> BaseException | None:
        """The error of its ending, ``None`` for a value; raises `OperationCancelled` where asyncio would."""
        if self.cancelled():
            raise self._make_cancelled_error()
        return _future_exception(self)

    def set_result(self, result: T, /) -> None:
        """Not for operations: only the body ends them."""
        raise RuntimeError("an operation is ended by its body: set_result() is not supported")

    def set_exception(self, exception: type | BaseException, /) -> None:
        """Not for operations: only the body ends them."""
        raise RuntimeError("an operation is ended by its body: set_exception() is not supported")

    def _make_cancelled_error(self) -> CancelledError:
        """What asyncio (gather, shield) raises for it."""
        assert self._stop is not None
        return OperationCancelled(self.ref, self._stop.reason, self._evidence)

    def over(self) -> "Future[None]":
        """A future of one waiter's own that is done when the operation is."""
        if current_operation.get() is self:
            self._refuse_itself()
        waiter: Future[None] = self._loop.create_future()
        if self._waiters is None:
            self._waiters = [waiter]
        else:
            self._waiters.append(waiter)
        return waiter

    def _refuse_itself(self) -> None:
        """Its body can't wait for its end; other tasks that were made inside it can."""
        if current_operation.get() is self:
            is_here = getattr(self.body, "is_here", None)
            if is_here is not None and is_here():
                raise RuntimeError(f"{self.name!r} can't wait for its own end")

    def forget(self, waiter: "Future[None]") -> None:
        """The waiter lost interest."""
        if self._waiters is not None and waiter in self._waiters:
            self._waiters.remove(waiter)

    def _follow(self, error: CancelledError) -> None:
        """Whoever awaits this operation was cancelled: it is called off with them."""
        caller = current_operation.get()
        text = str(error.args[0]) if error.args else "the code that awaits it was cancelled"
        by = None
        if caller is not None:
            by = str(caller.ref)
            if caller._stop is not None:
                text = caller._stop.text or str(caller._stop.kind)
        self.request(Kind.PARENT, text, by, self._grace)

    def _outcome(self) -> Outcome[T]:
        state = self._phase
        if state is _COMPLETED:
            return Completed(_future_result(self), self.report)
        if state is _FAILED:
            error = _future_exception(self)
            assert error is not None
            return Failed(error, self.report)
        if not self.cancelled():
            _future_exception(self)  # seen: no complaint that it was never retrieved
        return (Abandoned if state is _ABANDONED else Cancelled)(self.ref, self._evidence)
