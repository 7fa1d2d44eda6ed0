"""One operation for each item."""

import logging
from asyncio import CancelledError, Future
from collections.abc import Callable
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from .._operation.beginning import begin
from .._operation.ending import outcome_of
from .._operation.operation import Operation, current_operation
from .._places.task.body import EagerBody, TaskBody, drive
from .._words.errors import StopForced, ended_error
from .._words.outcome import Abandoned, Cancelled, Completed, Failed, Outcome, completed
from .._words.reason import Kind, Reason
from .._words.state import State
from .._words.text import short
from .flight import Flight, error_of
from .plan import Within
from .window import Window

if TYPE_CHECKING:
    from .sealing import Sealing
    from .sent import Sent

__all__ = ["Singly"]

_logger = logging.getLogger("calloff")
_result = Future.result
_COMPLETED = State.COMPLETED


def _raise(error: BaseException) -> None:
    raise error


class Singly:
    """A lane: every item in an operation of its own."""

    def __init__(self, window: Window, start: Callable[..., Operation[Any]], sent: "Sent | None" = None) -> None:
        self._window = window
        self._start = start
        self._flying: dict[Future[Any], Flight] = {}
        #: what holds something around an item, and the item's own operation once that was started
        self._holders: dict[Future[Any], Operation[Any] | None] = {}
        plan = window.plan
        self._make = plan.make
        self._numbered = plan.place == "command"
        self._sent = sent
        self._sealing: Sealing | None = None
        self._limits = plan.timeout, plan.stall, min(plan.grace, Operation.policy.longest_grace)
        self._now = window.loop.time
        #: whether the next item is to take its first step as it is started
        self._at_once = False
        #: the operation that the items belong to, known before the first is started
        self.owner: Operation[Any] | None = None

    def launch(self) -> bool:
        """Start the next item."""
        window = self._window
        flight = window.draw()
        if flight is None:
            return False
        if self._sent is not None and not self._sent.is_sealed(flight):
            self._seal(self._sent, flight)
            return True
        if window.plan.within is not None:
            self._hold(flight, window.plan.within)
            return True
        at_once = self._at_once
        try:
            operation = self._begin(flight)
        except BaseException as error:  # of a function that is no coroutine function: nothing has begun
            window.ended(flight, Failed(error))
            window.landed()
            if at_once and isinstance(error, (KeyboardInterrupt, SystemExit)):  # of its first step: it ends the program
                window.loop.call_soon(_raise, error)
        else:
            self._flying[operation] = flight
            if operation._place == "task" and operation._ended_at is None:
                operation._landing = self._land
            else:
                operation.add_done_callback(self._landed, context=window.context)
        return True

    def _begin(self, flight: Flight) -> Operation[Any]:
        flight.since = self._now()
        item = flight.item
        if self._sent is not None:
            work: Any = self._sent.one(item, flight.packed)
            flight.packed = None
        elif self._numbered:
            work = flight.work = self._make(item, flight.number + 1)
        else:
            work = self._make(item)
        if type(work) is CoroutineType and not work.cr_suspended:  # what `start` would do, without its questions
            body = drive(work, EagerBody if self._at_once else TaskBody, work.__qualname__)
            self._at_once = False
            return begin(body, body.name, self._window.loop, *self._limits, self.owner, None)
        timeout, stall, grace = self._limits
        if self._window.journal is not None:
            self._window.journal.hold()
        token = current_operation.set(self.owner)
        try:
            return self._start(work, timeout=timeout, stall=stall, grace=grace, patience=self._window.plan.patience)
        finally:
            current_operation.reset(token)

    def _land(self, operation: Operation[Any]) -> None:
        """An item has ended, and may still be in its last step: there the next one takes its first, too.

        Of many that end together each so makes room at once, and none waits until all of them were heard of. At most one
        item is begun like this: others get a turn of the loop, so that items which never wait leave it its turns.
        """
        window = self._window
        assert window.context is not None
        if window.is_filling:
            window.loop.call_soon(self._landed, operation, context=window.context)
            return
        self._at_once = True
        try:
            window.context.run(self._landed, operation)
        finally:
            self._at_once = False

    def _landed(self, operation: Operation[Any]) -> None:
        flight = self._flying.pop(operation)
        flight.seconds = self._now() - flight.since
        window = self._window
        if operation._phase is _COMPLETED and operation._stop is None:  # what `outcome_of` makes, without its questions
            outcome: Outcome[Any] = completed(_result(operation))
        else:
            outcome = outcome_of(operation)
        window.ended(flight, outcome)
        window.landed()

    def _seal(self, sent: "Sent", flight: Flight) -> None:
        """Have its own code run in a thread."""
        if self._sealing is None:
            from .sealing import Sealing

            self._sealing = Sealing(self._window, self._start, sent.name, sent.pack_one)
        self._sealing.launch_these([flight.item], [flight])

    # --- with something that is held around each item

    def _hold(self, flight: Flight, within: Within) -> None:
        """Have an operation of its own hold what belongs to the item, so that this, too, is bounded and can be seen."""
        window = self._window
        name = f"within {window.plan.name}"
        holder = self._start(self._held(flight, within), name=name, grace=self._limits[2], timeout=window.plan.patience)
        self._holders.setdefault(holder, None)
        holder.add_done_callback(partial(self._released, flight), context=window.context)

    async def _held(self, flight: Flight, within: Within) -> Outcome[Any]:
        """Hold it, from before the start of the item to its confirmed end."""
        holder = current_operation.get()
        assert holder is not None
        stopped: BaseException | None = None
        outcome: Outcome[Any] | None = None
        passed = traceback = None
        try:
            async with within(flight.item):
                operation = self._begin(flight)
                self._flying[operation] = flight
                self._holders[holder] = operation
                if holder.deadline is not None and holder.reason is None:
                    holder.reschedule(None)
                while not operation.done():
                    try:
                        await operation.completion()
                    except (CancelledError, StopForced) as error:
                        stopped = error
                        self._call_off(operation, str(error), 0 if isinstance(error, StopForced) else None)
                flight.seconds = self._now() - flight.since
                del self._flying[operation]
                if stopped is not None:
                    raise stopped
                outcome = outcome_of(operation)
                if holder.reason is None:  # nobody's turn is held for ever
                    holder.reschedule(self._limits[2] + Operation.policy.last)
                passed = error_of(outcome)
                if passed is not None:  # what is held hears of it: a transaction is rolled back, a breaker counts
                    traceback = passed.__traceback__
                    raise passed
        except BaseException as error:
            if error is passed:
                error.__traceback__ = traceback  # these frames are no part of it
            else:
                if outcome is None or holder.reason is not None or isinstance(error, GeneratorExit):
                    raise
                if isinstance(outcome, Completed):
                    error.add_note(self._had(outcome))
                    raise
                _logger.warning(
                    "what is held around %s raised when it was let go", self._window.plan.name, exc_info=error
                )
        finally:
            passed = traceback = None  # else they lead here and back
        assert outcome is not None
        return outcome

    def _had(self, outcome: Completed[Any]) -> str:
        return (
            f"raised when what `within` holds was let go; {self._window.plan.name} had returned {short(outcome.value)}"
        )

    def _released(self, flight: Flight, holder: "Future[Any]") -> None:
        operation = self._holders.pop(holder)
        outcome: Outcome[Any] = outcome_of(holder)  # type: ignore[arg-type]  # it is an operation
        window = self._window
        if isinstance(outcome, Completed):
            outcome = outcome.value
        elif operation is not None and operation.done() and not isinstance(outcome, Failed):
            outcome = self._not_let_go(outcome, outcome_of(operation))
        if operation is None and isinstance(outcome, Cancelled) and window.closed:
            window.back([flight.item], [flight])
        else:
            window.ended(flight, outcome)
        window.landed()

    def _not_let_go(self, holder: Cancelled | Abandoned, own: Outcome[Any]) -> Outcome[Any]:
        """What becomes of an item that had ended when what was held around it was called off."""
        if holder.reason.kind is not Kind.DEADLINE:  # with its item, or by whoever called off the map
            return own
        error = ended_error(holder.operation, holder.report)
        if not isinstance(own, Completed):
            _logger.warning("what is held around %s was not let go: %s", self._window.plan.name, error)
            return own
        error.add_note(self._had(own))
        return Failed(error)

    # --- the end

    def _call_off(self, operation: Operation[Any], text: str, grace: float | None = None) -> None:
        caller = current_operation.get()
        operation.cancel(Reason(Kind.PARENT, text, None if caller is None else str(caller.ref)), grace=grace)

    def stop(self, text: str, grace: float | None = None) -> None:
        """Call off every operation that is in flight; what holds something around it follows when it has ended."""
        for operation in tuple(self._flying):
            assert isinstance(operation, Operation)
            self._call_off(operation, text, grace)
        for holder, held in tuple(self._holders.items()):
            assert isinstance(holder, Operation)
            if held is None:
                self._call_off(holder, text, grace)
            else:  # not before the item is sure to have ended, else it would let go too early
                patience = (self._limits[2] if grace is None else grace) + Operation.policy.last
                self._window.loop.call_later(patience, self._call_off, holder, text, 0, context=self._window.context)
        if self._sealing is not None:
            self._sealing.owner = self.owner
            self._sealing.stop(text, grace)

    def running(self) -> tuple[Operation[Any], ...]:
        """Those of the items."""
        own = tuple(operation for operation in self._flying if isinstance(operation, Operation))
        return own if self._sealing is None else own + self._sealing.running()

    def close(self) -> None:
        """Everything has ended."""
