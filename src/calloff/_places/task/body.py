"""A coroutine as the body of an operation.

An `asyncio.Task` can only be asked: it throws `CancelledError` into the coroutine, again and again the same one. To go
further, the task does not run the coroutine itself but a *driver* that passes every ``send`` and ``throw`` on to it.
Three things become possible there, and nowhere else without taking the task out of step with its coroutine: the
`CancelledError` of the last asking is exchanged for `StopForced`; the ending is known in the very step in which it
happens; and a body that was given up can be let go of when its task is cancelled from outside once more.

Here is what the task runs; what the ladder does to it stands in `climbing`.
"""

import asyncio
import logging
import sys
import types
from asyncio import CancelledError, Future, current_task, get_running_loop
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from ..._words.errors import StopForced
from ..._words.place import Sink
from ..._words.report import Rung
from .climbing import ClimbingBody
from .forcing import is_stopped_group
from .immortal import close_for_good, keep_alive_forever
from .locks import ForcedOut, takes_lock_again, waits_for_lock
from .objects import FUTURES, is_a
from .parts import Parts
from .repairs import Standing, is_heard_as_cancel, standing
from .stack import arrived_at, chain_of, coro_of, is_suspended

__all__ = ["DRIVING", "EagerBody", "SomebodysBody", "TaskBody", "body_of", "drive"]

B = TypeVar("B", bound="TaskBody")
_logger = logging.getLogger("calloff")


class TaskBody(ClimbingBody, Coroutine[Any, Any, None]):
    """Drives a coroutine for an operation; itself the coroutine of an `asyncio.Task`."""

    __slots__ = ("__next__", "_started")
    __next__: Callable[[], Any]  # the one of the driver
    is_plain = True  # the coroutine is one of the interpreter's own, which can be iterated over

    @property
    def _driver(self) -> Generator[Any, Any, None]:
        step: Any = self.__next__
        driver: Generator[Any, Any, None] = step.__self__
        return driver

    # --- what the operation asks for

    def begin(self, sink: Sink) -> None:
        """Create the task; with eager tasks the first step runs at once."""
        self._sink = sink
        self.__next__ = _driver_of(self).__next__
        loop: Any = get_running_loop()
        if (
            type(loop).create_task is _create_task and loop._task_factory is None and "create_task" not in loop.__dict__
        ):  # what that does, without two calls, and without a dict of arguments for the running loop
            self.task = asyncio.tasks.Task(self)
        else:
            task: asyncio.Task[None] = loop.create_task(self)
            if task.done():
                return
            self.task = task
            if task.get_coro() is not self:  # a task factory has wrapped it
                _wrapped[task] = self
                task.add_done_callback(self._wrapper_ended)
        if _waits_for is not None:
            self._show(self.task, _waits_for)

    def _find_task(self) -> None:
        """Note the task that makes the first step, where that is an eager one, for whose first step nobody waits."""
        self.task = task = current_task()
        if task is None or (type(task) is _Task and task.get_coro() is self):
            return
        if coro_of(task) is not self:
            _wrapped[task] = self

    def _show(self, task: "asyncio.Task[None]", waits_for: Callable[[Any, Any], None]) -> None:
        """Tell the inspectors of Python 3.14 the name, and that the parent waits for it."""
        operation: Any = self._sink
        with suppress(AttributeError):  # no operation, but somebody else's sink
            task.set_name(operation._name)
            parent = operation._parent
            if parent is not None and parent.body is not None and parent.body.task is not None:
                waits_for(task, parent.body.task)

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
                self._asked_with = error
            elif not self._is_handling(self._asked_with):
                self._asked_with = error  # else a scope in the clean-up calls off a block, and it goes on after that
            self._interrupted = False
        elif isinstance(error, GeneratorExit) and self._started:
            return self._throw_exit(error)
        try:
            if type(error) is StopForced:
                return self._force_out(error)
            step: Any = self.__next__
            return step.__self__.throw(error)  # the driver
        finally:
            del error  # whose traceback leads here: nothing is left for the garbage collector

    def _force_out(self, error: StopForced) -> Any:
        """Force a body; where it waits for a lock, or puts things in order when it is cancelled, by what that hears of."""
        self._asked_with = error
        last, chain = self._heard, chain_of(self.coro)
        if not (waits_for_lock(chain) if last is not None and last.is_last else is_heard_as_cancel(chain)):
            return self._driver.throw(error)
        if takes_lock_again(chain):
            self._asked_with = None  # it hears of nothing before it has that lock
            self._force_later()
            return self.__next__()
        self._heard = self._asked_with = out = ForcedOut(*error.args)
        out.is_last = last is not None
        try:
            waits_for = self._driver.throw(out)  # which raises StopIteration when the body has ended
            stands = standing(self.coro, out)
            if stands is not Standing.SWALLOWED:
                self._see_to(out, stands)
                return waits_for
        finally:
            del out, last, chain  # whose traceback leads here
        if is_a(waits_for, FUTURES):
            waits_for._asyncio_future_blocking = False
            if type(waits_for) is Future and waits_for_lock(chain_of(self.coro)):  # who would give it that has to see
                waits_for.cancel()
        self._asked_with = error
        try:
            return self._driver.throw(error)
        finally:
            del error

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
        elif not self._outlived(partial(self._sink.returned, value)):
            self._sink.returned(value, ())

    def _ended(self, error: BaseException) -> None:
        self._asked_with = self._heard = None
        task, self.task = self.task, None
        plain = type(error) is CancelledError  # the usual case, fast
        if plain or is_a(error, (CancelledError, StopForced)) or is_stopped_group(error):  # no code of its own is run
            rung = Rung.INTERRUPTED if self._interrupted and not is_a(error, StopForced) else None
            if self._parts is None or not self._outlived(partial(self._stopped_late, rung)):
                self._sink.stopped(rung, (), error)
            return
        if self._parts is None:
            self._sink.raised(error, ())
        elif not self._given_up:
            self._sink.raised(error, survivors=self._parts.survivors())
        elif not self._outlived(partial(self._sink.raised, error)):
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


def drive(coro: Coroutine[Any, Any, Any], kind: type[B], name: str) -> B:
    """Return a body that drives a coroutine, of that name; a `SomebodysBody` for what is no `CoroutineType`.

    A function does it, not a constructor: CPython calls that by way of C, which takes as long as all that is done here.
    """
    body = kind()
    body.coro = coro
    body.name = name
    body._started = body._forcing = body._given_up = body._interrupted = False
    body._asked_with = body._heard = body._parts = body.task = None
    return body


def _drive(self: TaskBody) -> Generator[Any, Any, None]:
    """Run the coroutine of a body, and tell its operation of the first step and of the end, in the very step."""
    self._started = True
    if self.task is None:
        self._find_task()
    self._sink.entered(0.0)
    try:  # with as few names as can be: each takes room as long as this waits
        value = yield from (self.coro if self.is_plain else _Steps(self.coro))
    except BaseException as error:
        if type(error) is not CancelledError and _is_of_driver(error):
            raise  # the task was destroyed: that is raised here, and does not come from the coroutine
        self._ended(error)
    else:
        if self._parts is None:
            self._sink.returned(value, ())
        else:
            self._returned_with(value, self._parts)
        self.task = None


def _is_of_driver(error: BaseException) -> bool:
    """Return whether it is a `GeneratorExit` that was raised in the driver itself."""
    trace = error.__traceback__ if is_a(error, GeneratorExit) else None
    return trace is not None and not trace.tb_next


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
        self.__next__ = _driver_of(self).__next__
        task: asyncio.Task[None] = _eager_task(self, loop=loop, eager_start=True)
        if not task.done():
            self.task = task
            if _waits_for is not None:
                self._show(task, _waits_for)


class SomebodysBody(TaskBody):
    """A body whose coroutine is of somebody's own class."""

    __slots__ = ()
    is_plain = False


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


_create_task: Any = asyncio.BaseEventLoop.create_task
_eager_task: Any = asyncio.Task
_Task: Any = asyncio.tasks.Task
_HAS_EAGER = sys.version_info >= (3, 12)
#: tells inspectors which task waits for which, from Python 3.14 on
_waits_for: Callable[[Any, Any], None] | None = getattr(asyncio, "future_add_to_awaited_by", None)
#: the bodies of tasks whose coroutine is not the body itself
_wrapped: "WeakKeyDictionary[asyncio.Task[Any], TaskBody]" = WeakKeyDictionary()
#: for the interrupter: the code objects below which the body's own frames begin
DRIVING: tuple[Callable[..., Any], ...] = (_drive, TaskBody.throw)
