"""Where a coroutine is: the chain of awaits from the outermost frame to the line that holds everything up.

A suspended coroutine knows what it awaits (`cr_await`, `gi_yieldfrom`, `ag_await`). Where the chain passes through an
object of C that doesn't say (the iterator of a future, a step of an async generator), the garbage collector's view of
its references does. At a future the chain goes on in whatever has to end first: the task behind it, the first pending
member of a `gather` or a task group, the body of another operation.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator, Collection, Coroutine, Generator, Iterator
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any, cast

from ..._words.frame import OURS, RawFrame, RawStack
from ..._words.place import Body

__all__ = ["chain_of", "is_handling", "is_suspended", "leads_to", "shield_on_stack", "stack_of", "stems_from"]


_LIMIT = 200
_MOST = 10_000
#: functions in which a group waits for its children
_GROUP_WAITS = frozenset({"__aexit__", "_aexit"})
#: functions after which the chain may go on somewhere else than in what they await
_WAITS = _GROUP_WAITS | {"__await__", "outcome", "stop"}


def stack_of(coro: object, *, arrived: bool = False) -> RawStack:
    """The frames of a coroutine that is suspended or running, outermost first.

    With `arrived`, the future at the end of the chain is known to be done: nothing is looked for behind it.
    """
    found: list[Any] = []
    current: object | None = coro
    while type(current) is CoroutineType and not current.cr_running:  # the usual case, fast
        frame = current.cr_frame
        if frame is None or (code := frame.f_code).co_name in _WAITS:
            break
        found += (code, frame.f_lasti)
        current = current.cr_await
    if current is None or (arrived and type(current).__name__ == "FutureIter"):
        return tuple(found)
    seen: set[int] = set()
    while current is not None and id(current) not in seen and len(seen) < _LIMIT:
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


def _first_pending(members: object) -> object | None:
    """The first member that has not ended; ``None`` when these are not the tasks of a group after all."""
    if not isinstance(members, Collection):
        return None
    return next((member for member in tuple(members) if isinstance(member, asyncio.Future) and not member.done()), None)


def _inside(opaque: object) -> Any:
    """The generator or future that an opaque awaitable (of C, mostly) steps through."""
    parts = gc.get_referents(opaque)
    for part in parts:
        if type(part) in _USUAL or isinstance(part, (Coroutine, Generator, AsyncGenerator, asyncio.Future)):
            return part
    for part in parts:
        if type(part).__name__ in _STEPS:
            return part
    return None


_USUAL = frozenset({CoroutineType, asyncio.Future, asyncio.Task})  # asking abstract classes takes long
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


def leads_to(coro: object, other: object, *, through_shields: bool = True) -> bool:
    """Whether `coro` waits for `other`, at whatever distance; not `through_shields`: and a cancel would reach it."""
    return any(step is other for step, _ in _awaited(coro, through_shields))


def is_handling(coro: object, error: BaseException | type[BaseException] | None, *, behind: bool = False) -> bool:
    """Whether a suspended coroutine is still busy with `error`: in an ``except``, a ``finally`` or an ``__aexit__``.

    With `behind`, it is, too, when a task that it waits for is in its clean-up: that one was cancelled for it, with a
    `CancelledError` of its own; the request itself (then `error` may be ``None``) has perhaps not even arrived.

    This tells clean-up, which deserves its grace, from a cancel that was swallowed. A frame that handles an exception
    keeps it among its references; one that swallowed it has let go of it.
    """
    current: object = coro
    while type(current) is CoroutineType and not current.cr_running:  # the usual case, fast
        frame = current.cr_frame
        if frame is None or frame.f_code.co_name in _WAITS:
            break
        if error is not None and _holds(current, error):
            return True
        current = current.cr_await
    if type(current).__name__ == "FutureIter" and type(_inside(current)) is asyncio.Future:
        return False  # nobody is known behind it
    for step, is_other_task in _awaited(current):
        sought = asyncio.CancelledError if is_other_task and behind else error
        if sought is not None and isinstance(step, (CoroutineType, GeneratorType, AsyncGeneratorType)):
            if _holds(step, sought):
                return True
    return False


def _holds(step: object, error: BaseException | type[BaseException]) -> bool:
    for part in gc.get_referents(step):  # noqa: SIM110 - a generator would cost more than all of it
        if isinstance(part, BaseException) and stems_from(part, error):
            return True
    return False


def _awaited(coro: object, through_shields: bool = True) -> Iterator[tuple[object, bool]]:
    """Everything that `coro` waits for, itself first, through every member of a group; and if it is another task's."""
    seen: set[int] = set()
    ahead: list[tuple[object, bool]] = [(coro, False)]
    while ahead and len(seen) < _MOST:
        current, is_other_task = ahead.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current, is_other_task
        if not through_shields and _is_shield(current):
            continue
        if type(current) is asyncio.Future:
            continue  # nobody is known behind it
        if type(current) is CoroutineType and not current.cr_running:  # the usual case, fast
            frame = current.cr_frame
            if frame is None or frame.f_code.co_name not in _WAITS:
                ahead.append((current.cr_await, is_other_task))
                continue
        members: object = None
        if isinstance(current, CoroutineType) and current.cr_frame and current.cr_frame.f_code.co_name in _GROUP_WAITS:
            members = getattr(current.cr_frame.f_locals.get("self"), "_tasks", None)
        elif isinstance(current, asyncio.Future):
            is_other_task = True
            members = getattr(current, "_children", None)  # asyncio.gather
        if members is not None and isinstance(members, Collection):
            ahead += [(member, True) for member in tuple(members) if isinstance(member, asyncio.Future)]
        ahead.append((_visit(current, []), is_other_task))


def shield_on_stack(outermost: FrameType) -> bool:
    """Whether what runs now was started, eagerly, by a shield somewhere inside the frame `outermost`."""
    step: FrameType | None = sys._getframe()
    while step is not None and step is not outermost:
        if _belongs_to_shield(step):
            return True
        step = step.f_back
    return False


def _is_shield(step: object) -> bool:
    frame = step.cr_frame if isinstance(step, CoroutineType) else None
    return frame is not None and _belongs_to_shield(frame)


def _belongs_to_shield(frame: FrameType) -> bool:
    if not frame.f_code.co_filename.startswith(OURS):
        return False
    return getattr(frame.f_locals.get("self"), "is_shield", False) is True


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
