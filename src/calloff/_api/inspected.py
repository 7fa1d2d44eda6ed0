"""Shows operations with their stacks to what looks into a process from outside: ``python -m asyncio ps`` and ``pstree``.

Those tools of Python 3.14 and newer read the memory of the process: the tasks, their names, which tasks wait for which, and
of each the chain of coroutines. What they can't read is the stack of an operation, because its task does not run its
coroutine itself (see `_places.task.body`). So for each operation there is one more task, a stand-in: it has the name, the
coroutine and the place in the tree, belongs to no event loop and never runs. Operations in threads and processes, and
commands, have one, too, whose only coroutine says where they run.

That adds 36 % to the instructions of a start and its await, so it is only done where it is asked for: with
CALLOFF_PSTREE=1 in the environment. Without it the tools show names and the tree of tasks, and of operations no stack; what
tells them which task waits for which is 2 % of those instructions.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from functools import cache
from types import CoroutineType, FunctionType
from typing import Any

from .._operation.observers import Observer, listen
from .._operation.operation import Operation
from .._words.state import State

__all__ = ["StandIns", "show"]

_add: Callable[[Any, Any], None] = getattr(asyncio, "future_add_to_awaited_by", lambda *_: None)
_discard: Callable[[Any, Any], None] = getattr(asyncio, "future_discard_from_awaited_by", lambda *_: None)


class _Nowhere:
    """The event loop of the stand-ins, in which nothing happens."""

    def get_debug(self) -> bool:
        return False

    def call_soon(self, *_args: object, **_options: object) -> None:
        """The first step, which is never made."""

    def is_running(self) -> bool:
        return False


class StandIns(Observer):
    """Makes and removes them."""

    __slots__ = ("_shown",)

    def __init__(self) -> None:
        #: of each operation its stand-in, and whom that waits for
        self._shown: dict[Operation[Any], tuple[asyncio.Task[Any], Any]] = {}

    def started(self, operation: Operation[Any], /) -> None:
        """One more."""
        body = operation.body
        coro: Any = None if body is None else body.coro
        if type(coro) is not CoroutineType:
            coro = _elsewhere(operation.place)
        task: Any = asyncio.Task(coro, loop=_NOWHERE, name=operation.name)
        task._log_destroy_pending = False
        above = self._shown.get(operation.parent) if operation.parent is not None else None
        waiting = above[0] if above is not None else asyncio.current_task()
        if waiting is not None:
            _add(task, waiting)
        self._shown[operation] = task, waiting

    def entered(self, operation: Operation[Any], /) -> None:
        """Its task, if it has one, is shown below."""
        shown = self._shown.get(operation)
        task = asyncio.current_task() if operation.place == "task" else None
        if shown is not None and task is not None:
            task.set_name(f"{operation.name} (its task)")
            for waiting in getattr(task, "_asyncio_awaited_by", None) or ():
                _discard(task, waiting)  # the stand-ins show that
            _add(task, shown[0])

    def ended(self, operation: Operation[Any], /) -> None:
        """Gone, unless it goes on all the same."""
        if operation.state is not State.ABANDONED:
            self._remove(operation)

    def ended_late(self, operation: Operation[Any], how: str, /) -> None:
        """Now it is gone."""
        self._remove(operation)

    def _remove(self, operation: Operation[Any]) -> None:
        task, waiting = self._shown.pop(operation, (None, None))
        if task is None:
            return
        if waiting is not None:
            _discard(task, waiting)
        coro: Any = task.get_coro()
        if coro.cr_code in _PLACES:
            coro.close()  # no complaint that it was never awaited


async def _at() -> None: ...


@cache
def _place(name: str) -> FunctionType:
    code = _at.__code__.replace(co_name=name, co_qualname=f"calloff.{name}")
    _PLACES.add(code)
    return FunctionType(code, {})


def _elsewhere(place: str) -> Coroutine[Any, Any, None]:
    """A coroutine that says no more than where an operation runs."""
    coro: Coroutine[Any, Any, None] = _place(place)()
    return coro


_NOWHERE: Any = _Nowhere()
_PLACES: set[Any] = set()


def show() -> None:
    """Begin, where that was asked for and there are such tools."""
    if sys.version_info >= (3, 14):
        listen(StandIns())
