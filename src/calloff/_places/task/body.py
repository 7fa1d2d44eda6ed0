"""A coroutine as the body of an operation.

An `asyncio.Task` can only be asked: it throws `CancelledError` into the coroutine, again and again the same one. To go
further, the task does not run the coroutine itself but a *driver* that passes every ``send`` and ``throw`` on to it.
Three things become possible there, and nowhere else without taking the task out of step with its coroutine: the
`CancelledError` of the last asking is exchanged for `StopForced`; the ending is known in the very step in which it
happens; and a body that was given up can be let go of when its task is cancelled from outside once more.
"""

import asyncio
import logging
import sys
import types
from asyncio import CancelledError, Future, _get_running_loop, get_running_loop
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from ..._words.errors import StopForced
from ..._words.frame import RawStack
from ..._words.place import Body, Sink
from ..._words.report import Rung
from .forcing import cancel_for_sure, is_awake, is_stopped_group, raise_in, waiter_of
from .immortal import close_for_good, keep_alive_forever
from .look import Look, look_at
from .objects import is_a
from .on_stack import ForSure, is_held_up, on_stack, run_on_stack
from .parts import Parts
from .stack import arrived_at, coro_of, is_operation, is_suspended, stack_of, stems_from

__all__ = ["DRIVING", "EagerBody", "TaskBody", "body_of"]

_logger = logging.getLogger("calloff")


class TaskBody(Body, Coroutine[Any, Any, None]):
    """Drives a coroutine for an operation; itself the coroutine of an `asyncio.Task`."""

    __slots__ = (
        "__next__",
        "_asked_with",
        "_driver",
        "_forcing",
        "_given_up",
        "_interrupted",
        "_parts",
        "_sink",
        "_started",
        "coro",
        "name",
        "task",
    )
    place = "task"
    insists = True
    __next__: Callable[[], Any]  # the one of `_driver`
    _driver: Generator[Any, Any, None]

    def __init__(self, coro: Coroutine[Any, Any, Any]) -> None:
        self.coro: Any = coro
        self.name: str = getattr(coro, "__qualname__", "coroutine")
        self._started = False
        self._forcing = False
        self._given_up = False
        self._interrupted = False
        self._asked_with: BaseException | None = None
        self._parts: Parts | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def given_up(self) -> bool:
        """Whether its operation was abandoned: nobody takes care of its end any more."""
        return self._given_up

    @property
    def reached(self) -> bool:  # type: ignore[override]  # computed when it is read
        """Whether a `CancelledError` of the stop was thrown into the coroutine, or into a child task of it."""
        return self._asked_with is not None or (self._parts is not None and self._parts.has_reached())

    # --- what the operation asks for

    def begin(self, sink: Sink) -> None:
        """Create the task; with eager tasks the first step runs at once."""
        self._sink = sink
        self._driver = driver = _driver_of(self)
        self.__next__ = driver.__next__
        task: asyncio.Task[None] = get_running_loop().create_task(self)
        if not task.done():
            self.task = task
            if task.get_coro() is not self:  # a task factory has wrapped it
                _wrapped[task] = self
                task.add_done_callback(self._wrapper_ended)
            if _waits_for is not None:
                self._show(task, _waits_for)

    def _show(self, task: "asyncio.Task[None]", waits_for: Callable[[Any, Any], None]) -> None:
        """Tell the inspectors of Python 3.14 the name, and that the parent waits for it."""
        operation: Any = self._sink
        with suppress(AttributeError):  # no operation, but somebody else's sink
            task.set_name(operation._name)
            parent = operation._parent
            if parent is not None and parent.body is not None and parent.body.task is not None:
                waits_for(task, parent.body.task)

    def ask(self, text: str) -> RawStack | None:
        """Cancel the task. Where it waits is noted when the request arrives, unless others have to end before."""
        self._asked_with = None  # scopes of its own may have called off a block of it before
        if on_stack.found is not None and self._raise(CancelledError()):
            return self.known_where()
        task = self.task
        assert task is not None
        waiter = getattr(task, "_fut_waiter", None)  # `waiter_of`, written out
        where = None
        if waiter is not None:
            is_plain = type(waiter) is Future
            if not is_plain or len(waiter._callbacks or ()) > 1:  # beside the task, an executor may wait for it
                look = self._look(waiter, None)
                if not look.is_alone:
                    self._collect(look)
                if not is_plain and not is_operation(waiter):  # an operation lets the request through at once
                    where = stack_of(self.coro, ask=False)
        task.cancel(text or None)
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
            if look.is_obeying(self._asked_with) or (self._asked_with is None and is_awake(self.task)):
                return False
            self._cancel()
            return True
        parts = self._collect(look)
        refusing = self._refusing(parts)
        for task in refusing:
            if task is self.task:
                self._cancel()
            else:
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
        children = parts.tasks()
        if children:
            parts.force(parts.leaves(), self._force_rest)
        task = self.task
        if task is not None and not (children and parts.is_waited_for()):
            self._asked_with = None
            self._forcing = True
            self._forcing = not cancel_for_sure(task, StopForced())
        if children or task is not None:
            parts.rung = Rung.FORCED
        return bool(refusing)

    def _force_rest(self) -> None:
        """The children were forced: raise `StopForced` in whatever still waits for one and has not heard of it by that."""
        parts, task = self._parts, self.task
        assert parts is not None
        parts.force(child for child in parts.tasks() if not parts.is_unwinding(child))
        if task is not None and not self._forcing and not is_awake(task) and not self._is_unwinding():
            if raise_in(task, StopForced()):
                self._asked_with = None
            else:
                self._forcing = True
                self._cancel()

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

        ``True``, too, while it waits for another operation that does: that one is ended, and it hears of that.
        """
        blocking = on_stack.found
        if isinstance(blocking, TaskBody) and blocking is not self:
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
        self.task.cancel()

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

    @property
    def sink(self) -> Sink:
        """The operation."""
        return self._sink

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
        if isinstance(coro, TaskBody):
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

    # --- the coroutine that the task runs; each step goes by way of `__next__` into `_drive`, without code of Python

    def send(self, value: Any, /) -> Any:
        """Pass a step on."""
        if value is None:
            return self.__next__()
        raise TypeError("a task sends nothing but None")

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        """Pass an exception on, the last asking as `StopForced`."""
        error: BaseException = typ if val is None and isinstance(typ, BaseException) else (val or typ())
        typ = val = None
        if isinstance(error, CancelledError):
            if not self._started:
                self._never_start()
                self.task = None
                raise StopIteration
            if self._forcing:
                self._forcing = False
                error = StopForced(*error.args)
            elif self._given_up:
                self._let_go()
                raise StopIteration
            if self._asked_with is None:
                where, waits = arrived_at(self.coro)
                self._sink.located(where)
                if waits and self._sink.reason is not None:
                    self._collect()
            if self._asked_with is None or not self._is_handling(self._asked_with):
                self._asked_with = (
                    error  # else a scope in the clean-up calls off a block of it, and it goes on after that
                )
            self._interrupted = False
        elif isinstance(error, StopForced):
            self._asked_with = error
        elif isinstance(error, GeneratorExit) and self._started:
            return self._throw_exit(error)
        try:
            return self._driver.throw(error)
        finally:
            del error  # whose traceback leads here: nothing is left for the garbage collector

    def _throw_exit(self, error: GeneratorExit) -> Any:
        """Raise it in the coroutine, as a task does: ``yield from`` would close the coroutine instead."""
        try:
            return self.coro.throw(error)
        except StopIteration as end:
            self._driver.close()
            if self._parts is None:
                self._sink.returned(end.value, ())
            else:
                self._returned_with(end.value, self._parts)
            self.task = None
        except BaseException as raised:
            self._driver.close()
            self._ended(raised)
        raise StopIteration

    def close(self) -> None:
        """Close the coroutine: the task was destroyed before its end."""
        self.coro.close()

    def __await__(self) -> Any:
        return self

    __iter__ = __await__

    def _returned_with(self, value: Any, parts: Parts) -> None:
        if not self._given_up:
            self._sink.returned(value, survivors=parts.survivors())
        elif not self._outlived(lambda: self._sink.returned(value)):
            self._sink.returned(value, ())

    def _ended(self, error: BaseException) -> None:
        self._asked_with = None
        task, self.task = self.task, None
        plain = type(error) is CancelledError  # the usual case, fast
        if plain or is_a(error, (CancelledError, StopForced)) or is_stopped_group(error):  # no code of its own is run
            rung = Rung.INTERRUPTED if self._interrupted and not is_a(error, StopForced) else None
            if self._parts is None or not self._outlived(lambda: self._stopped_late(rung)):
                self._sink.stopped(rung, ())
            return
        if self._parts is None:
            self._sink.raised(error, ())
        elif not self._given_up:
            self._sink.raised(error, survivors=self._parts.survivors())
        elif not self._outlived(lambda: self._sink.raised(error)):
            self._sink.raised(error, ())
        if is_a(error, (KeyboardInterrupt, SystemExit)):
            if task is not None:
                task.add_done_callback(asyncio.Task.exception)  # seen: no complaint that it was never retrieved
            raise error

    def _stopped_late(self, rung: Rung | None) -> None:
        """What went on after the end of the coroutine has ended: it decides which step of the ladder did it."""
        assert self._parts is not None
        self._sink.stopped(max(rung or Rung.ASKED, self._parts.rung))

    def _wrapper_ended(self, _: object) -> None:
        """End it with its task, should the wrapper have kept that from it: it was cancelled before its first step, say."""
        if self.task is None:  # it has ended
            return
        self.task = None
        if is_suspended(self.coro) and self.coro.cr_await is not None:
            self._let_go()
        else:
            self._never_start()

    def _never_start(self) -> None:
        """It was called off before its first step."""
        self._started = True
        self._driver.close()
        self.coro.close()
        self._sink.stopped()

    def _let_go(self) -> None:
        """Somebody else waits for the end of a task whose body refused everything: the body is never resumed."""
        answer, stuck = close_for_good(self.coro)
        if stuck:
            keep_alive_forever(self._driver)  # whose end would close the coroutine once more
        if answer is None or stuck:
            self._sink.stopped(Rung.ABANDONED)
        else:
            self._ended(answer)

    # --- what asyncio's reprs and stack printers read

    @property
    def __name__(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.name

    @property
    def cr_code(self) -> Any:
        return self.coro.cr_code

    @property
    def cr_frame(self) -> Any:
        return self.coro.cr_frame

    @property
    def cr_running(self) -> Any:
        return self.coro.cr_running

    @property
    def cr_await(self) -> Any:
        return self.coro.cr_await


def _drive(self: TaskBody) -> Generator[Any, Any, None]:
    """Run the coroutine of a body, and tell its operation of the first step and of the end, in the very step."""
    self._started = True
    if self.task is None and (task := asyncio.current_task()):  # an eager one, whose first step nobody waits for
        self.task = task
        if coro_of(task) is not self:
            _wrapped[task] = self
    self._sink.entered()
    kind: object = type(self.coro)
    steps: Any = self.coro if kind is types.CoroutineType else _Steps(self.coro)
    try:
        value = yield from steps
    except BaseException as error:
        if is_a(error, GeneratorExit) and error.__traceback__ is not None and not error.__traceback__.tb_next:
            raise  # the task was destroyed: that is raised here, and does not come from the coroutine
        self._ended(error)
    else:
        if self._parts is None:
            self._sink.returned(value, ())
        else:
            self._returned_with(value, self._parts)
        self.task = None


_driver_of: Any = types.coroutine(_drive)


class EagerBody(TaskBody):
    """A body whose first step runs at once, inside of whoever starts it: a short one then costs no turn of the loop.

    Python 3.11 has no such tasks, and who has given the loop a task factory gets what that makes: both begin as all do.
    """

    __slots__ = ()

    def begin(self, sink: Sink) -> None:
        """Create the task, and run its first step."""
        loop = get_running_loop()
        if not _HAS_EAGER or loop.get_task_factory() is not None:
            super().begin(sink)
            return
        self._sink = sink
        self._driver = driver = _driver_of(self)
        self.__next__ = driver.__next__
        task: asyncio.Task[None] = _eager_task(self, loop=loop, eager_start=True)
        if not task.done():
            self.task = task
            if _waits_for is not None:
                self._show(task, _waits_for)


class _Steps:
    """Goes through a coroutine of somebody's own class, which need not be iterable."""

    __slots__ = ("_coro", "throw")

    def __init__(self, coro: Any) -> None:
        self._coro = coro
        self.throw = coro.throw

    def __iter__(self) -> "_Steps":
        return self

    def __next__(self) -> Any:
        return self._coro.send(None)


def body_of(task: "asyncio.Task[Any]") -> TaskBody | None:
    """Return the body that a task runs, also where a task factory has wrapped its coroutine."""
    coro = coro_of(task)
    return coro if isinstance(coro, TaskBody) else _wrapped.get(task)


_eager_task: Any = asyncio.Task
_HAS_EAGER = sys.version_info >= (3, 12)
#: tells inspectors which task waits for which, from Python 3.14 on
_waits_for: Callable[[Any, Any], None] | None = getattr(asyncio, "future_add_to_awaited_by", None)
#: the bodies of tasks whose coroutine is not the body itself
_wrapped: "WeakKeyDictionary[asyncio.Task[Any], TaskBody]" = WeakKeyDictionary()
#: for the interrupter: the code objects below which the body's own frames begin
DRIVING: tuple[Callable[..., Any], ...] = (_drive, TaskBody.throw)
