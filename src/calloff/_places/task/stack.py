"""Where a coroutine is: the chain of awaits from the outermost frame to the line that holds everything up.

A suspended coroutine knows what it awaits (`cr_await`, `gi_yieldfrom`, `ag_await`). Where the chain passes through an
object of C that doesn't say (the iterator of a future, a step of an async generator), the garbage collector's view of
its references does. At a future the chain goes on in whatever has to end first: the task behind it, the first pending
member of a `gather` or a task group, the body of another operation.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator, Coroutine, Generator
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any, cast

from ..._words.frame import OURS, RawFrame, RawStack
from ..._words.place import Body

__all__ = ["chain_of", "is_handling", "is_suspended", "leads_to", "stack_of", "stems_from"]


_LIMIT = 200
#: functions in which a group waits for its children
_GROUP_WAITS = frozenset({"__aexit__", "_aexit", "__await__"})


def stack_of(coro: object, *, arrived: bool = False) -> RawStack:
    """The frames of a coroutine that is suspended or running, outermost first.

    With `arrived`, the future at the end of the chain is known to be done: nothing is looked for behind it.
    """
    found: list[Any] = []
    current: object | None = coro
    while type(current) is CoroutineType and not current.cr_running:  # the usual case, fast
        frame = current.cr_frame
        if frame is None or frame.f_code.co_name in _GROUP_WAITS:
            break
        found += (frame.f_code, frame.f_lasti)
        current = current.cr_await
    if current is None or (arrived and type(current).__name__ == "FutureIter"):
        return tuple(found)
    seen: set[int] = set()
    while current is not None and id(current) not in seen and len(found) < _LIMIT:
        seen.add(id(current))
        current = _visit(current, found)
    return tuple(found)


def _visit(current: object, found: list[Any]) -> Any:
    """Note the frame of `current` and return what it waits for."""
    if isinstance(current, CoroutineType):
        frame, running, awaited = current.cr_frame, current.cr_running, current.cr_await
    elif isinstance(current, GeneratorType):
        frame, running, awaited = current.gi_frame, current.gi_running, current.gi_yieldfrom
    elif isinstance(current, AsyncGeneratorType):
        frame, running, awaited = current.ag_frame, current.ag_running, current.ag_await
    elif isinstance(current, asyncio.Future):
        return _behind(current)
    elif hasattr(current, "insists"):  # the body of an operation at another place, which knows its own stack
        found.extend(cast(Body, current).where())
        return None
    else:
        return _inside(current)
    if frame is None:
        return None
    if running:
        inner = _running(frame)
        if inner is not None:
            found.extend(inner)
            return None
    found.append(_raw(frame))
    return _held_by(frame) or awaited


def _behind(future: "asyncio.Future[Any]") -> object | None:
    """What has to end before `future` does."""
    if future.done():
        return None
    if isinstance(future, asyncio.Task):
        coro: object = future.get_coro()
        inner: object = getattr(coro, "coro", coro)
        return inner
    body: object = getattr(future, "waits_in", None)  # an operation
    if body is not None:
        return body
    members = getattr(future, "_children", None)  # asyncio.gather
    return _first_pending(members) if members else None


def _held_by(frame: FrameType) -> object | None:
    """The first pending child when `frame` waits for others: a task group's end, or the wait for an operation."""
    name = frame.f_code.co_name
    if name in _GROUP_WAITS:
        tasks = getattr(frame.f_locals.get("self"), "_tasks", None)
        if tasks:
            return _first_pending(tasks)
    if frame.f_code.co_filename.startswith(OURS):
        awaited: object = getattr(frame.f_locals.get("self"), "waits_in", None)
        return awaited
    return None


def _first_pending(members: Any) -> object | None:
    pending: object = next((member for member in list(members) if not member.done()), None)
    return pending


def _inside(opaque: object) -> Any:
    """The generator or future that an opaque awaitable (of C, mostly) steps through."""
    for part in gc.get_referents(opaque):
        if isinstance(part, (Coroutine, Generator, AsyncGenerator, asyncio.Future)):
            return part
    for part in gc.get_referents(opaque):
        if type(part).__name__ in _STEPS:
            return part
    return None


_STEPS = frozenset({"async_generator_asend", "async_generator_athrow", "coroutine_wrapper", "FutureIter"})


def _running(frame: FrameType) -> list[RawFrame] | None:
    """The frames from `frame` inwards of the thread that runs it now, outermost first."""
    for top in sys._current_frames().values():
        chain: list[RawFrame] = []
        step: FrameType | None = top
        while step is not None:
            chain.append(_raw(step))
            if step is frame:
                return chain[::-1]
            step = step.f_back
    return None


def _raw(frame: FrameType) -> RawFrame:
    return frame.f_code, frame.f_lasti


def chain_of(coro: object) -> list[object]:
    """The coroutines and generators of one task's stack, outermost first; nothing behind a future."""
    chain: list[object] = []
    current: object | None = coro
    while current is not None and not isinstance(current, asyncio.Future) and len(chain) < _LIMIT:
        chain.append(current)
        current = _visit(current, [])
    return chain


def is_suspended(part: object) -> bool:
    """Whether a coroutine or a generator can go on."""
    return any(getattr(part, frame, None) is not None for frame in ("cr_frame", "gi_frame", "ag_frame"))


def leads_to(coro: object, other: object) -> bool:
    """Whether the chain of awaits of the suspended `coro` leads to `other`."""
    seen: set[int] = set()
    current: object | None = coro
    while current is not None and id(current) not in seen and len(seen) < _LIMIT:
        if current is other:
            return True
        seen.add(id(current))
        current = _visit(current, [])
    return False


def is_handling(coro: object, error: BaseException | type[BaseException]) -> bool:
    """Whether a suspended coroutine is still busy with `error`: in an ``except``, a ``finally`` or an ``__aexit__``.

    This tells clean-up, which deserves its grace, from a cancel that was swallowed. A frame that handles an exception
    keeps it among its references; one that swallowed it has let go of it.
    """
    seen: set[int] = set()
    current: object | None = coro
    while current is not None and id(current) not in seen and len(seen) < _LIMIT:
        seen.add(id(current))
        if isinstance(current, (CoroutineType, GeneratorType, AsyncGeneratorType)):
            parts = gc.get_referents(current)
            if any(isinstance(part, BaseException) and stems_from(part, error) for part in parts):
                return True
        current = _visit(current, [])
    return False


def stems_from(held: BaseException | None, error: BaseException | type[BaseException]) -> bool:
    """Whether `held` is `error` (or an instance of it) or was raised while that was handled."""
    step: BaseException | None = held
    for _ in range(8):
        if step is None:
            return False
        if step is error or (isinstance(error, type) and isinstance(step, error)):
            return True
        step = step.__cause__ or step.__context__
    return False

