"""`start` and `call`: from work to a running operation."""

import asyncio
import inspect
import os
import sys
from asyncio import AbstractEventLoop, _get_running_loop
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from functools import partial
from types import CoroutineType
from typing import Any, TypeVar

from .._operation.beginning import begin
from .._operation.loops import greeters
from .._operation.operation import Operation, current_operation
from .._places.task.body import SomebodysBody, TaskBody, drive
from .._scopes.scope import innermost
from .._words.bears import bears
from .._words.duration import delay, limit
from .._words.place import AsyncWork, Body
from .._words.text import name_of, short

__all__ = ["AsyncWork", "body_of", "call", "give_back", "start"]

T = TypeVar("T")
_current = current_operation.get


@bears
def start(
    work: AsyncWork[T],
    *,
    name: str | None = None,
    timeout: float | None = None,
    stall: float | None = None,
    grace: float = 5.0,
    patience: float | None = None,
    detached: bool = False,
) -> Operation[T]:
    """Start work and return its handle at once.

    Args:
        work: a coroutine, an async function that needs no arguments, or what `thread`, `process` or `command` return.
        name: how it is called in lists, errors and reports; by default the name of the function.
        timeout: seconds until it is stopped; ``None`` for no limit.
        stall: the longest silence between two reports of `progress`, in seconds.
        grace: seconds between asking it to stop and force.
        patience: seconds that it may wait for its turn, a free worker or thread, in state `pending`, before it is
            stopped; ``None`` for no limit. The other limits count from the begin.
        detached: do not stop it when the operation that starts it ends.

    Raises:
        TypeError: `work` is not work, or a number is not a number. The caller's fault; nothing was started.
        ValueError: a negative or NaN duration. The caller's fault.
        RuntimeError: no running event loop, or the coroutine was already awaited.
    """
    try:
        if timeout is not None:
            timeout = limit(timeout, "timeout")
        if stall is not None:
            stall = limit(stall, "stall")
        if patience is not None:
            patience = limit(patience, "patience")
        if name is not None:
            name = name_of(name)
        if grace != 5.0:
            grace = min(delay(grace, "grace"), Operation.policy.longest_grace)
        loop = _get_running_loop()
        if loop is None:
            raise RuntimeError(
                "no running event loop: call start() in an async function, or give the work to calloff.run()"
            )
        if detached and innermost.get() is not None:  # it is not bound by the scopes of whoever starts it either
            context = copy_context()
            context.run(innermost.set, None)
            body = context.run(body_of, work)
        else:
            context = None
            body = body_of(work)
    except BaseException:
        give_back(work)
        raise
    parent = None if detached else _current()
    if parent is not None and parent.done():
        parent = None
    if context is not None:
        return context.run(begin, body, name or body.name, loop, timeout, stall, grace, parent, patience)
    return begin(body, name or body.name, loop, timeout, stall, grace, parent, patience)


async def call(
    work: AsyncWork[T],
    *,
    name: str | None = None,
    timeout: float | None = None,
    stall: float | None = None,
    grace: float = 5.0,
    patience: float | None = None,
) -> T:
    """Start work and await it: ``value = await calloff.call(work, timeout=3)``. Arguments and errors as for `start`."""
    return await start(work, name=name, timeout=timeout, stall=stall, grace=grace, patience=patience)


@bears
def body_of(work: Any) -> Body:
    """The body of work; raises `TypeError` for what is no work, and `RuntimeError` for a coroutine that was awaited."""
    if type(work) is CoroutineType:
        if not work.cr_suspended:
            try:  # `cr_frame` would tell it, too, but make a frame of 176 bytes that lives as long as the coroutine
                work.send(True)
            except TypeError:  # it takes nothing but None before its first step, and has not begun
                return drive(work, TaskBody, work.__qualname__)
            except (RuntimeError, ValueError):  # it has ended; it runs
                pass
        raise RuntimeError(f"the coroutine {work.__qualname__!r} was already awaited or started")
    opener = getattr(work, "open", None)
    if opener is not None and hasattr(work, "place"):
        body: Body = opener()
        return body
    if asyncio.iscoroutine(work) and _awaitable(work):  # to asyncio of Python 3.11 every generator is a coroutine
        return drive(work, SomebodysBody, _name_of(work))
    if inspect.isawaitable(work):
        return drive(_awaited(work), TaskBody, _name_of(work))
    if callable(work):
        return body_of(_called(work))
    raise TypeError(
        f"work must be a coroutine, an async function, or thread(), process() or command(), not {short(work)}"
    )


def _called(function: Callable[..., Any]) -> Coroutine[Any, Any, Any]:
    """The coroutine of an async function; a blocking function must say where it is to run."""
    target = inspect.unwrap(function.func if isinstance(function, partial) else function)
    name = getattr(function, "__qualname__", None) or short(function)
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise TypeError(f"{name} is a generator function: it yields values; give an async function that goes over them")
    if not (inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(type(target).__call__)):
        raise TypeError(
            f"{name} is a blocking function: say where it is to run, with calloff.thread({name}, ...), "
            f"calloff.process({name}, ...), or calloff.command(...) for a program. (If it returns a coroutine, call it: "
            f"{name}().)"
        )
    found: Any = function()
    if not inspect.isawaitable(found):  # what decorates an async function has made a blocking one of it
        raise TypeError(f"{name}() returned {short(found)}, which can't be awaited")
    if not asyncio.iscoroutine(found):
        found = _awaited(found)
        found.__qualname__ = name
    return found  # type: ignore[no-any-return]  # it is the program's


def _awaitable(work: object) -> bool:
    """Whether it can be awaited: a generator only where `types.coroutine` has made it."""
    return not inspect.isgenerator(work) or inspect.isawaitable(work)


def _name_of(awaitable: object) -> str:
    """What an operation that waits for it is called: as an operation, or the function of a task, else as its class."""
    if isinstance(awaitable, asyncio.Task):
        coro: Any = awaitable.get_coro()
        awaitable = coro or awaitable  # an eager one that has ended has none
    for name in ("name", "__qualname__"):
        try:
            found = getattr(awaitable, name, None)
        except BaseException:  # by code of its own
            found = None
        if type(found) is str:
            return name_of(found)
    return type(awaitable).__qualname__


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


def give_back(work: object) -> None:
    """Nothing was started: a coroutine that nobody will ever await is closed, so that only our error is heard."""
    if inspect.iscoroutine(work) and inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
        work.close()


def _expose(loop: AbstractEventLoop) -> Callable[[], object] | None:
    """Have a program that runs under something else than `calloff.run` be seen, where its environment says so."""
    if os.environ.get("CALLOFF_EXPOSE") != "1":
        return None
    from importlib import import_module

    shown = import_module("calloff.control._server").exposed(loop)
    shown.__enter__()
    return partial(shown.__exit__, None, None, None)


def _hear(loop: AbstractEventLoop) -> Callable[[], object] | None:
    """Have the stop button of a notebook heard at once."""
    if "ipykernel.kernelapp" not in sys.modules:
        return None
    from .notebook import hear_stop_button

    return hear_stop_button(loop)


greeters += [_expose, _hear]


if os.environ.get("CALLOFF_PSTREE") == "1":
    from .inspected import show

    show()
