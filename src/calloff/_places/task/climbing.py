"""How a coroutine that drives an operation is stopped: it is asked, asked again, forced, and at last let alone.

What the ladder orders is done to the task of the body, and to what is part of it: the child tasks and calls that its code
waits for (`Parts`), found by looking at its frames (`Look`). While the body blocks the loop, its task can't be asked; the
interrupter has these same steps taken in the middle of the body's own step, and raises there what they leave (`on_stack`).

`TaskBody` is the other half: the coroutine that the task runs.
"""

import asyncio
import logging
import sys
from asyncio import CancelledError, Future, _get_running_loop, get_running_loop
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any

from ..._scopes.timers import timers_of
from ..._words.errors import StopForced
from ..._words.frame import RawStack
from ..._words.place import Body, Sink
from ..._words.report import Rung
from ..._words.text import short
from .executors import Callbacks, call_in
from .forcing import cancel_for_sure, is_about_to_hear, is_awake, raise_in, waiter_of
from .locks import TAKEN_SOON, ForcedOut, takes_lock_again
from .look import Look, look_at
from .on_stack import ForSure, is_held_up, on_stack, run_on_stack
from .parts import Parts
from .repairs import REPAIR, Standing, standing
from .stack import chain_of, is_operation, stack_of, stems_from

__all__ = ["ClimbingBody"]

_logger = logging.getLogger("calloff")


class ClimbingBody(Body):
    """A body that is stopped by way of its task.

    Attributes:
        coro: the coroutine of the operation.
        task: the task that drives it; ``None`` before the first step, and after the end.
    """

    __slots__ = (
        "_asked_with",
        "_forcing",
        "_given_up",
        "_heard",
        "_interrupted",
        "_parts",
        "_sink",
        "coro",
        "name",
        "task",
    )
    place = "task"
    insists = True
    task: "asyncio.Task[None] | None"
    _asked_with: BaseException | None  # what was thrown into the coroutine, or into what blocks the loop, to ask it
    _forcing: bool  # the `CancelledError` that comes next is to arrive as `StopForced`
    _given_up: bool
    _heard: ForcedOut | None  # the last force that it could hear as a cancel
    _interrupted: bool  # the asking was raised in code that blocked the loop
    _parts: Parts | None
    _sink: Sink

    @property
    def sink(self) -> Sink:
        """The operation."""
        return self._sink

    @property
    def given_up(self) -> bool:
        """Whether its operation was abandoned: nobody takes care of its end any more."""
        return self._given_up

    @property
    def reached(self) -> bool:  # type: ignore[override]  # computed when it is read
        """Whether a `CancelledError` of the stop was thrown into the coroutine, or into a child task of it."""
        return self._asked_with is not None or (self._parts is not None and self._parts.has_reached())

    # --- what the operation asks for

    def ask(self, text: str) -> RawStack | None:
        """Cancel the task. Where it waits is noted when the request arrives, unless others have to end before."""
        self._asked_with = None  # scopes of its own may have called off a block of it before
        if on_stack.found is not None and self._raise(CancelledError()):
            return self.known_where()
        task = self.task
        assert task is not None
        try:
            waiter: Any = task._fut_waiter  # type: ignore[attr-defined]  # as every task of asyncio has
        except AttributeError:
            waiter = None
        where = None
        if waiter is not None:
            is_plain = type(waiter) is Future
            callbacks: Callbacks = (waiter._callbacks or ()) if is_plain else ()
            if not is_plain or (len(callbacks) > 1 and _has_call(callbacks)):  # one is that of the task
                look = self._look(waiter, None)
                if not look.is_alone:
                    self._collect(look)
                if not is_plain and not is_operation(waiter):  # an operation lets the request through at once
                    where = stack_of(self.coro, ask=False)
        try:
            task.cancel(text or None)
        except Exception as error:  # of somebody's own class of futures: force does without it
            name = self.name.rpartition("<locals>.")[2]
            _logger.warning("what %r waits for can't be cancelled: its cancel() raised %s", name, short(error))
            where = where or stack_of(self.coro, ask=False)
        if self._parts is not None:
            self._parts.note_asked()
        return where

    def insist(self) -> bool:
        """Cancel again what was asked and went on: the body, or children that it waits for; no clean-up is disturbed."""
        if self._is_blocking():
            if self._obeying():
                return False
            if not self._raise(CancelledError()):
                self._cancel()
            return True
        look = self._look(waiter_of(self.task), self._asked_with)
        if self._parts is None and look.is_alone and not look.greenlet:  # the usual case: nothing else is part of it
            if look.is_obeying(self._asked_with) or (self._asked_with is None and self._is_on_its_way()):
                return False
            self._cancel()
            return True
        parts = self._collect(look)
        refusing = self._refusing(parts)
        for task in refusing:
            if task is self.task:
                self._cancel()
            else:
                with suppress(Exception):  # of somebody's own class of futures
                    task.cancel()
        if refusing:
            parts.rung = Rung.INSISTED
        return bool(refusing)

    def force(self) -> bool:
        """Raise `StopForced` in the body; in its child tasks first, and in what waits for them when that did not help."""
        if self._is_blocking():
            obeying = self._obeying()
            if on_stack.found is not self:
                self._forcing = True
                self._cancel()
            self._raise(StopForced())
            return not obeying
        parts = self._collect(forced=True)
        refusing = self._refusing(parts)
        self._force_all(parts)
        return bool(refusing)

    def _force_all(self, parts: Parts) -> None:
        children, task = parts.tasks(), self.task
        if children:
            parts.force(parts.leaves(), self._force_rest)
        if task is not None and not (children and parts.is_waited_for()):
            self._force_task(task)
        if children or task is not None:
            parts.rung = max(parts.rung, Rung.FORCED)
        if task is None:
            parts.kill()

    def _force_task(self, task: "asyncio.Task[None]") -> None:
        if takes_lock_again(chain_of(self.coro)):
            self._force_later()
            return
        self._asked_with = None
        self._forcing = True
        self._forcing = not cancel_for_sure(task, StopForced())

    def _force_later(self) -> None:
        """Force it when it has the lock that it has to take first."""
        get_running_loop().call_later(TAKEN_SOON, self._force_again, context=Context())

    def _force_again(self) -> None:
        if self.task is not None and not self._given_up:
            self._force_task(self.task)

    def _force_rest(self) -> None:
        """The children were forced: raise `StopForced` in whatever still waits for one and has not heard of it by that.

        What waits for a child in its clean-up waits on: that would be cut short.
        """
        parts, task = self._parts, self.task
        assert parts is not None
        spared = parts.spared()
        again = self._force_rest if spared and not self._given_up else None
        parts.force((child for child in parts.tasks() if child not in spared), again, gently=False)
        if not spared.isdisjoint(self._look(waiter_of(task), self._asked_with).tasks()):
            return
        if task is not None and not self._forcing and not is_awake(task) and not self._is_unwinding():
            if raise_in(task, StopForced()):
                self._asked_with = None
            else:
                self._forcing = True
                self._cancel()

    def _see_to(self, heard: ForcedOut, stands: Standing) -> None:
        """Look after a moment where a body stands with what it has heard: what repairs something may hang there."""
        pause = REPAIR / 2 if heard.is_last else REPAIR
        timers_of(get_running_loop()).call_later(pause, partial(self._seen_to, heard, stands))

    def _seen_to(self, heard: ForcedOut, stood: Standing) -> None:
        """Force a body once more that has swallowed what it has heard, or repairs something since the last look."""
        if self.task is None or self._given_up or heard is not self._heard:
            return
        stands = standing(self.coro, heard)
        if stands is Standing.DUE or (stands is Standing.REPAIRING and stood is Standing.DUE):
            self._see_to(heard, stands)
            return
        heard.is_last = heard.is_last or stands is Standing.SWALLOWED
        self._force_all(self._collect(forced=True))

    def _is_handling(self, error: BaseException) -> bool:
        return look_at(self.coro, None, error).is_obeying(error)

    def _is_unwinding(self) -> bool:
        return look_at(self.coro, waiter_of(self.task), StopForced).is_obeying(StopForced)

    def abandon(self) -> bool:
        """Let the body go on without anybody waiting for it."""
        self._given_up = True
        return not self._obeying()

    def tear(self) -> bool:
        """Raise `StopForced` in a body that blocks the loop so that it can't be caught; ``False`` when it does not.

        ``True``, too, while it waits for another operation that does: that one is ended, and it hears of that; and when
        all that went on after the end of the coroutine has just ended.
        """
        if self.task is None and self._parts is not None and self._parts.outlive:
            return self._parts.tell_end()
        blocking = on_stack.found
        if isinstance(blocking, ClimbingBody) and blocking is not self:
            return self.task is not None and blocking.holds_up(self.task)
        return self._is_blocking() and self._raise(ForSure())

    def survivors(self) -> tuple[str, ...]:
        """Return the child tasks and the calls in threads that go on, each with its line."""
        return self._collect().survivors()

    def where(self) -> RawStack:
        """Return the chain of awaits, outermost first, on into other threads and processes."""
        return stack_of(self.coro) or self._stack_of_rest()

    def known_where(self) -> RawStack:
        """Return the chain of awaits, outermost first, in this thread."""
        return stack_of(self.coro, ask=False) or self._stack_of_rest()

    def _stack_of_rest(self) -> RawStack:
        parts = self._parts
        return parts.stack() if parts is not None and parts.outlive else ()

    def is_here(self) -> bool:
        """Whether the calling code runs in the body's own task."""
        return self.task is not None and _get_running_loop() is not None and asyncio.current_task() is self.task

    def noted(self, error: BaseException) -> bool:
        """A checkpoint raises `error` in the body; refusals are counted elsewhere."""
        self._asked_with = error
        self._interrupted = False
        return False

    def _cancel(self) -> None:
        assert self.task is not None
        self._asked_with = None  # this asking is on its way: until it has arrived it can't have been refused
        with suppress(Exception):  # of somebody's own class of futures
            self.task.cancel()

    def _is_on_its_way(self) -> bool:
        """Return whether the request has not arrived: the task, or an operation that it waits for, has a step to make."""
        task = self.task
        while task is not None and not is_about_to_hear(task):
            waiter: Any = waiter_of(task)
            if not is_operation(waiter):
                return False
            task = getattr(waiter.body, "task", None)
        return task is not None

    def _is_blocking(self) -> bool:
        """Return whether the loop is blocked by this body, or by a plain task that it waits for."""
        blocking = on_stack.found
        return blocking is not None and (blocking is self or self.waits_for(blocking))

    def _obeying(self) -> bool:
        if on_stack.found is self:
            return self._asked_with is not None and stems_from(sys.exception(), self._asked_with)
        if self._is_blocking():
            return stems_from(sys.exception(), CancelledError)
        return not self._refusing(self._collect())

    def _refusing(self, parts: Parts) -> "list[asyncio.Task[Any]]":
        """Return what was asked and went on, as it was seen last: the task of the body, or child tasks."""
        try:
            return parts.refusing(self.task, self._asked_with)
        except Exception:
            _logger.exception("whether %r is in its clean-up could not be found out", self.name)
            return [] if self.task is None else [self.task]

    # --- what it waits for

    def _collect(self, look: Look | None = None, *, forced: bool = False) -> Parts:
        """Find what the body waits for and what is part of it; a failure of the search must not keep the stop up."""
        parts = self._parts
        if parts is None:
            parts = self._parts = Parts(get_running_loop() if self.task is None else self.task.get_loop(), self._sink)
        if forced:
            parts.note_forced()
        try:
            parts.collect(look or self._look(waiter_of(self.task), self._asked_with))
        except Exception:
            _logger.exception("what %r waits for could not be found out", self.name)
        return parts

    def _look(self, waiter: object, error: BaseException | None) -> Look:
        """Look at the coroutine; a failure must not keep the stop up, so then nothing has been found."""
        try:
            return look_at(self.coro, waiter, error, self._sink)
        except Exception:
            _logger.exception("what %r waits for could not be found out", self.name)
            return Look()

    def _outlived(self, tell: Callable[[], object]) -> bool:
        """Return whether parts of the body go on after its end: then `tell` is called when the last has ended."""
        parts = self._parts
        if parts is None or not parts.when_over(tell):
            return False
        parts.outlive = True
        parts.ask_rest()
        return True

    # --- the blocked loop

    def interrupt(self, act: Callable[[], object]) -> BaseException | None:
        """Run `act` in the middle of the body's own step: what is to be raised there, now, if `act` asked this body.

        For the interrupter: a body that blocks the loop is on the stack and can't be asked through its task.
        """
        return run_on_stack(self, ForSure() if self._given_up else None, act)

    def holds_up(self, task: "asyncio.Task[Any]", *, through_shields: bool = True) -> bool:
        """Whether `task` waits for this body, which runs now, at whatever distance."""
        return is_held_up(task, self.coro, through_shields=through_shields)

    def waits_for(self, coro: object, *, through_shields: bool = True) -> bool:
        """Return whether this body, or what goes on of it after its end, waits for the coroutine that runs now."""
        if isinstance(coro, ClimbingBody):
            return False
        if self.task is not None:
            return is_held_up(self.task, coro, through_shields=through_shields)
        return self._parts is not None and any(is_held_up(task, coro) for task in self._parts.tasks())

    def _raise(self, error: BaseException) -> bool:
        """Have `error` raised in what is on the stack, if that is this body, or a plain task that it waits for."""
        if on_stack.found is self:
            if self._asked_with is None:
                self._sink.located(self.known_where())
            self._asked_with = error
        elif not self.waits_for(on_stack.found, through_shields=isinstance(error, StopForced)):
            return False
        on_stack.raising = error
        self._interrupted = isinstance(error, CancelledError)
        return True


def _has_call(callbacks: Callbacks) -> bool:
    """Return whether a future with these stands for a call of an executor; also if that can't be told: a look logs why."""
    try:
        return call_in(callbacks) is not None
    except Exception:
        return True
