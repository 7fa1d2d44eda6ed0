"""Reads the objects that a program keeps in its frames without running any of their code.

A walker meets proxies, mocks, half-made objects and objects that raise when they are looked at. So nothing here asks for
an attribute, compares, or takes the length of an object of an unknown type: types are told by `type`, which no object can
fake, and fields are read from the instance's own dict, past every property and ``__getattr__``.
"""

import asyncio
import gc
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, _AsyncGeneratorContextManager, _GeneratorContextManager
from contextvars import Context
from types import (
    AsyncGeneratorType,
    FrameType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
)
from typing import Any
from weakref import WeakValueDictionary

from ..._words.untouched import context_of, is_a

__all__ = [
    "FUTURES",
    "TASKS",
    "children_of",
    "context_of",
    "entered_in",
    "exits_in",
    "fields",
    "handlers_of",
    "is_a",
    "is_done",
    "is_error",
    "is_of",
    "is_settled",
    "is_started_by",
    "members_of",
    "own_self",
    "pending",
]

_py_future: Any = sys.modules["asyncio.futures"]._PyFuture
_py_task: Any = sys.modules["asyncio.tasks"]._PyTask
_GATHERING: Any = sys.modules["asyncio.tasks"]._GatheringFuture
FUTURES: tuple[type, ...] = (asyncio.Future, _py_future)
TASKS: tuple[type, ...] = (asyncio.Task, _py_task)

_mro = type.__dict__["__mro__"].__get__
_own_dict = type.__dict__["__dict__"].__get__
_SLOTS = (GetSetDescriptorType, MemberDescriptorType)
_SEQUENCES = frozenset({set, frozenset, list, tuple, dict})
_GENERATORS = frozenset({AsyncGeneratorType, GeneratorType})
_GENERATOR_MANAGERS: tuple[type, ...] = (_AsyncGeneratorContextManager, _GeneratorContextManager)
_EXIT_STACKS = (AsyncExitStack, ExitStack)
_EXITS = frozenset({"__aexit__", "__exit__"})


#: whether a type is one of exceptions; no code of the type's own is run, and all of it is C
is_error = BaseException.__subclasscheck__


def fields(thing: object) -> dict[str, Any]:
    """Return the instance's own attributes; empty where it has no dict. No property or ``__getattr__`` is run."""
    for kind in _mro(type(thing)):
        found = _own_dict(kind).get("__dict__")
        if found is not None:
            own = found.__get__(thing) if type(found) in _SLOTS else None
            return own if type(own) is dict else {}
    return {}


def own_self(frame: FrameType) -> object | None:
    """Return what the frame calls ``self``."""
    found: object | None = frame.f_locals.get("self")
    return found


def is_done(future: Any) -> bool:
    """Return whether a future is done, by asyncio's own method, whatever its class has made of it."""
    kind: Any = FUTURES[0] if issubclass(type(future), FUTURES[0]) else FUTURES[1]
    done: bool = kind.done(future)
    return done


def is_started_by(task: Any, owner: object) -> bool:
    """Return whether a task was started by code of an operation: its context says in which operation it runs."""
    context = None if owner is None else _context_of(task)
    return context is not None and is_of(context, owner)


def is_of(context: Context, owner: object) -> bool:
    """Return whether a context is one of code of an operation."""
    return any(value is owner for value in context.values())


def _context_of(task: Any) -> Context | None:
    """Return the context that a task runs in."""
    if hasattr(TASKS[0], "get_context"):
        kind: Any = TASKS[0] if is_a(task, TASKS[0]) else TASKS[1]
        found: Context = kind.get_context(task)
        return found
    # Python 3.11 has no method for that; those of its callbacks come after its own
    parts = [fields(task).get("_context"), *gc.get_referents(task)]
    return next((part for part in parts if type(part) is Context), None)


def members_of(group: object) -> tuple[Any, ...]:
    """Return the tasks of a task group that have not ended: asyncio's, calloff's, anyio's, and what is built like them."""
    return pending(fields(group).get("_tasks"))


def handlers_of(server: object) -> tuple[Any, ...]:
    """Return the tasks that handle the connections of a server of asyncio's streams, and that have not ended.

    The server counts its connections only; each knows its server, and the loop knows all of them.
    """
    known = fields(fields(server).get("_loop")).get("_transports")
    found: list[Any] = []
    for transport in list(known.values()) if type(known) is WeakValueDictionary else ():
        own = fields(transport)
        if own.get("_server") is server:
            protocol = fields(own.get("_protocol"))
            found.append(fields(protocol.get("_app_protocol", own.get("_protocol"))).get("_task"))  # inside of TLS
    return pending(found)


def children_of(future: object) -> tuple[Any, ...]:
    """Return what a future of `asyncio.gather` waits for and has not ended; nothing for other futures."""
    return pending(future._children) if type(future) is _GATHERING else ()  # type: ignore[attr-defined]  # told by its type


def is_settled(future: Any) -> bool:
    """Return whether a future is done, or one of `asyncio.gather` that will be when it is told of its last member."""
    if type(future) is not _GATHERING or is_done(future):
        return is_done(future)
    return bool(future._children) and all(map(is_settled, future._children))


def pending(members: Any) -> tuple[Any, ...]:
    """Return those members of a container of a usual type that are futures which are not done."""
    if type(members) not in _SEQUENCES:
        return ()
    return tuple(member for member in tuple(members) if is_a(member, FUTURES) and not is_done(member))


def entered_in(parts: list[Any]) -> Iterator[object]:
    """Return the objects whose ``async with`` blocks a frame is inside of, among what its coroutine refers to (`parts`)."""
    return (owner for owner, _ in exits_in(parts) if type(owner) not in _GENERATORS)


def exits_in(parts: list[Any], depth: int = 4) -> Iterator[tuple[object, FunctionType]]:
    """Yield what the ``with`` blocks that a frame is inside of call at their end, each with the object or generator.

    Their ``__aexit__`` lies on the evaluation stack of the frame, which the garbage collector sees: as a bound method, or
    from Python 3.14 on as a function with the object behind it. What was entered in a generator of `asynccontextmanager`
    or through an `AsyncExitStack` counts, too.
    """
    for number, part in enumerate(parts):
        if type(part) is MethodType:
            function, owner = part.__func__, part.__self__
        elif type(part) is FunctionType and number + 1 < len(parts):
            function, owner = part, parts[number + 1]
        else:
            continue
        if type(function) is not FunctionType or function.__name__ not in _EXITS or depth < 0:
            continue
        yield from _opened(owner, function, depth - 1)


def _opened(owner: object, function: FunctionType, depth: int) -> Iterator[tuple[object, FunctionType]]:
    if is_a(owner, _GENERATOR_MANAGERS):
        generator = fields(owner).get("gen")
        if type(generator) in _GENERATORS:
            yield generator, function
            yield from exits_in(gc.get_referents(generator), depth)
    elif is_a(owner, _EXIT_STACKS):
        callbacks = fields(owner).get("_exit_callbacks")
        for entry in tuple(callbacks) if type(callbacks) is deque else ():
            callback = entry[-1] if type(entry) is tuple and entry and depth > 0 else None
            if type(callback) is MethodType and type(callback.__func__) is FunctionType:
                yield from _opened(callback.__self__, callback.__func__, depth - 1)
            elif type(callback) is FunctionType:
                yield None, callback
    else:
        yield owner, function
