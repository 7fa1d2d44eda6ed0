"""Where a coroutine is: the chain of awaits from the outermost frame to the line that holds everything up.

A suspended coroutine knows what it awaits (`cr_await`, `gi_yieldfrom`, `ag_await`). Where the chain passes through an
object of C that doesn't say (the iterator of a future, a step of an async generator), the garbage collector's view of
its references does. At a future the chain goes on in whatever has to end first: the task behind it, the first pending
member of a `gather` or a task group, the body of another operation.

What a stop decides is read from frames alone: no other thread or process is asked, and no code of the program is run
(`objects` says how). Only what is shown to people, `stack_of` with `ask`, goes on into bodies at other places.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterator
from opcode import opmap
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any

from ..._os.threads import looks
from ..._words.frame import OURS, RawFrame, RawStack
from ..._words.place import Body
from .greenlets import greenlets_in, is_in_handlers
from .objects import FUTURES, TASKS, children_of, context_of, fields, is_a, is_done, members_of, own_self
from .subprocesses import PROCESS_WAITS
from .waits import WAIT_FORS, WATCHES, waited_for

__all__ = [
    "LONGEST",
    "arrived_at",
    "awaited_from",
    "chain_of",
    "coro_of",
    "holds",
    "inside",
    "is_handling",
    "is_operation",
    "is_shield",
    "is_suspended",
    "kind_of",
    "kinds",
    "leads_to",
    "parts_of",
    "shield_on_stack",
    "stack_of",
    "stems_from",
]


LONGEST = 200
_MOST = 10_000
#: functions in which a group waits for its children
GROUP_WAITS = frozenset({"__aexit__", "_aexit"})
#: functions of anybody after which the chain may go on somewhere else than in what they await: they are known by name
_WAITS_BY_NAME = GROUP_WAITS | {"run_sync_in_worker_thread"}
#: functions of ours
_OUR_WAITS = frozenset({"__await__", "outcome", "result_in_the_end", "see_to_the_end", "wait_for"})

#: codes by their `id` (their hash takes long), and what is to be known of each
kinds: dict[int, int] = {}
#: nearly all of them are plain: of each name one that is, which is found in half the time that an `id` takes
plain: dict[str, CodeType] = {}
_known: list[CodeType] = []
_PLAIN, _OPENS, _WAITS = 0, 1, 2
#: what a future is awaited by; C does not tell it before the first one is seen
_ITERATORS: set[type] = set()
_OPENINGS = frozenset(opmap[name] for name in ("BEFORE_ASYNC_WITH", "LOAD_SPECIAL") if name in opmap)


def stack_of(coro: object, *, ask: bool = True) -> RawStack:
    """Return the frames of a coroutine that is suspended or running, outermost first.

    Args:
        coro: what to look at.
        ask: whether bodies at other places, at the end of the chain, may ask their process and wait for its answer.
    """
    found: list[Any] = []
    current, _ = _fast(coro, found)
    seen: set[int] = set()
    while current is not None and id(current) not in seen and len(seen) < LONGEST:
        seen.add(id(current))
        if is_a(current, Body) and current.coro is None:
            found.extend(current.where() if ask else current.known_where())
            break
        current = _visit(current, found)
    return tuple(found)


def arrived_at(coro: object) -> tuple[RawStack, bool]:
    """Return where a suspended coroutine is whose step has come, and whether child tasks or calls can be behind it."""
    found: RawStack = ()
    current: Any = coro
    behind = False
    while type(current) is CoroutineType:  # the loop of `_fast`, written out: every cancel comes by here
        frame = current.cr_frame
        if frame is None:
            break
        code = frame.f_code
        if plain.get(code.co_qualname) is not code and (kind := kind_of(code)):
            if kind is _WAITS:
                break
            behind = True
        found += (code, frame.f_lasti)
        current = current.cr_await
    if current is None or type(current) in _ITERATORS:
        return found, behind
    if type(current).__name__ == "FutureIter":
        _ITERATORS.add(type(current))
        return found, behind
    return found + stack_of(current, ask=False), True


def _fast(coro: object, found: list[Any]) -> tuple[Any, bool]:
    """Follow plain coroutines, the usual case; return the first that is none, and whether no group was entered before."""
    current: Any = coro
    simple = True
    while type(current) is CoroutineType and not current.cr_running:
        frame = current.cr_frame
        if frame is None:
            break
        code = frame.f_code
        kind = kinds.get(id(code))
        if kind is None:
            kind = kind_of(code)
        if kind:
            if kind is _WAITS:
                break
            simple = False
        found += (code, frame.f_lasti)
        current = current.cr_await
    return current, simple


def kind_of(code: CodeType) -> int:
    """Return whether a function may open groups (1), waits for something that it does not await (2), or neither (0)."""
    known = kinds.get(id(code))
    if known is not None:
        return known
    if len(_known) > _MOST:
        kinds.clear()
        plain.clear()
        _known.clear()
    name, known_as = code.co_name, id(code)
    ours = name in _OUR_WAITS and code.co_filename.startswith(OURS)
    if ours or name in _WAITS_BY_NAME or known_as in WAIT_FORS or known_as in WATCHES or known_as in PROCESS_WAITS:
        kind = _WAITS
    else:
        kind = _OPENS if _OPENINGS.intersection(code.co_code[::2]) else _PLAIN
    _known.append(code)  # as long as it is known by its id
    kinds[id(code)] = kind
    if kind is _PLAIN:
        plain[code.co_qualname] = code
    return kind


def parts_of(current: object) -> tuple[FrameType | None, bool, object | None] | None:
    """Return the frame of a coroutine or generator, whether it runs, and what it awaits; ``None`` for anything else."""
    if is_a(current, CoroutineType):
        coro: Any = current
        return coro.cr_frame, coro.cr_running, coro.cr_await
    if is_a(current, GeneratorType):
        generator: Any = current
        return generator.gi_frame, generator.gi_running, generator.gi_yieldfrom
    if is_a(current, AsyncGeneratorType):
        steps: Any = current
        return steps.ag_frame, steps.ag_running, steps.ag_await
    return None


def _visit(current: object, found: list[Any] | None = None) -> Any:
    """Note the frame of `current` and return what it waits for."""
    parts = parts_of(current)
    if parts is None:
        if is_a(current, FUTURES):
            return _behind(current)
        if is_a(current, Body):  # of an operation: the coroutine that it drives, if it does
            return current.coro  # type: ignore[attr-defined]  # told by its type just now
        driven = fields(current).get("coro")  # somebody else's driver of a coroutine
        return driven if type(driven) is CoroutineType else inside(current)
    frame, running, awaited = parts
    if frame is None:
        return None
    if found is not None:
        if running:
            inner = _running(frame)
            if inner is not None:
                found.extend(inner)
                return None
        found.append(_raw(frame))
    return _held_by(frame) or awaited


def _behind(future: Any) -> Any:
    """Return what has to end before `future` does."""
    if is_done(future):
        return None
    if is_a(future, TASKS):
        coro: object = coro_of(future)
        return coro
    if is_operation(future):
        inner: object = future.waits_in
        return inner
    members = children_of(future)  # asyncio.gather
    return members[0] if members else None


def coro_of(task: Any) -> Any:
    """Return the coroutine of a task, by asyncio's own method."""
    kind: Any = TASKS[0] if is_a(task, TASKS[0]) else TASKS[1]
    return kind.get_coro(task)


def is_operation(future: object) -> bool:
    """Return whether a future is an operation, which says itself what it waits in."""
    module = sys.modules.get(_OPERATIONS)
    kind = getattr(module, "Operation", None)
    return kind is not None and issubclass(type(future), kind)


def _held_by(frame: FrameType) -> Any:
    """Return the first pending child when `frame` waits for others: a group's end, or the wait for an operation."""
    code = frame.f_code
    if kind_of(code) is not _WAITS:
        return None
    name = code.co_name
    if name in GROUP_WAITS:
        members = members_of(own_self(frame))
        if members:
            return members[0]
    if code.co_filename.startswith(OURS):
        owner: Any = frame.f_locals.get("operation") or own_self(frame)
        awaited: object = getattr(owner, "waits_in", None)  # of an operation or a shield, which are our own
        return awaited
    return waited_for(frame)


def inside(opaque: object) -> Any:
    """Return the generator or future that an opaque awaitable (of C, mostly) steps through."""
    parts = gc.get_referents(opaque)
    for part in parts:
        if type(part) in _USUAL or is_a(part, _AWAITED) or _is_coroutine(type(part)):
            return part
    for part in parts:
        if type(part).__name__ in _STEPS:
            return part
    return None


def _is_coroutine(kind: type) -> bool:
    """Return whether it is somebody's own class of coroutines."""
    try:
        return issubclass(kind, _ABSTRACT)
    except Exception:  # a metaclass may raise whatever it likes
        return False


_USUAL = frozenset({CoroutineType, asyncio.Future, asyncio.Task})  # asking abstract classes takes long
_AWAITED = (CoroutineType, GeneratorType, AsyncGeneratorType, *FUTURES)
_ABSTRACT = (Coroutine, Generator, AsyncGenerator)
_STEPS = frozenset({"async_generator_asend", "async_generator_athrow", "coroutine_wrapper", "FutureIter"})
_OPERATIONS = f"{__name__.partition('.')[0]}._operation.operation"


def _running(frame: FrameType) -> list[RawFrame] | None:
    """Return the frames from `frame` inwards of the thread that runs it now, outermost first."""
    for top in next(looks(sys._current_frames)).values():
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
    """Return the coroutines and generators of one task's stack, outermost first; nothing behind a future."""
    chain: list[object] = []
    current: object | None = coro
    while current is not None and len(chain) < LONGEST:
        if type(current) is CoroutineType:  # usually, and fast
            chain.append(current)
            frame = current.cr_frame
            if frame is not None and not current.cr_running and kind_of(frame.f_code) is not _WAITS:
                current = current.cr_await
                continue
        elif is_a(current, FUTURES):
            break
        else:
            chain.append(current)
        current = _visit(current)
    return chain


def is_suspended(part: object) -> bool:
    """Return whether a coroutine or a generator can go on."""
    parts = parts_of(part)
    return parts is not None and parts[0] is not None


def leads_to(coro: object, other: object, *, through_shields: bool = True) -> bool:
    """Return whether `coro` waits for `other`, at any distance; not `through_shields`: and a cancel would reach it."""
    return any(step is other for step, _ in awaited_from(coro, through_shields))


def is_handling(coro: object, error: BaseException | type[BaseException]) -> bool:
    """Return whether a suspended coroutine is still busy with `error`: in an ``except``, ``finally`` or ``__aexit__``.

    This tells clean-up, which deserves its grace, from a cancel that was swallowed. A frame that handles an exception
    keeps it among its references; one that swallowed it has let go of it.
    """
    return any(parts_of(step) is not None and holds(step, error) for step, _ in awaited_from(coro))


def holds(step: object, error: BaseException | type[BaseException]) -> bool:
    """Return whether one frame is busy with `error`, or code in a greenlet that it awaits for is with anything."""
    parts = gc.get_referents(step)
    if any(issubclass(type(part), BaseException) and stems_from(part, error) for part in parts):
        return True
    return "greenlet" in sys.modules and any(map(is_in_handlers, greenlets_in(parts)))


def awaited_from(coro: object, through_shields: bool = True) -> Iterator[tuple[object, bool]]:
    """Everything that `coro` waits for, itself first, through every member of a group; and if it is another task's."""
    seen: set[int] = set()
    ahead: list[tuple[object, bool]] = [(coro, False)]
    while ahead and len(seen) < _MOST:
        current, is_other_task = ahead.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current, is_other_task
        if type(current) is asyncio.Future:
            continue  # nobody is known behind it
        frame: FrameType | None = None
        if type(current) is CoroutineType:
            frame = current.cr_frame
            if not current.cr_running and (frame is None or kind_of(frame.f_code) is not _WAITS):  # usually, and fast
                ahead.append((current.cr_await, is_other_task))
                continue
            if not through_shields and is_shield(frame):
                continue
        members: tuple[Any, ...] = ()
        if frame is not None and frame.f_code.co_name in GROUP_WAITS:
            members = members_of(own_self(frame))
        elif is_a(current, FUTURES):
            is_other_task = True
            members = children_of(current)  # asyncio.gather
        ahead += [(member, True) for member in members]
        ahead.append((_visit(current), is_other_task))


def shield_on_stack(outermost: FrameType) -> bool:
    """Return whether what runs now was started, eagerly, by a shield somewhere inside the frame `outermost`."""
    step: FrameType | None = sys._getframe()
    while step is not None and step is not outermost:
        if is_shield(step):
            return True
        step = step.f_back
    return False


def is_shield(frame: FrameType | None) -> bool:
    """Return whether a frame is that of a shield of ours, which no cancel passes."""
    if frame is None or not frame.f_code.co_filename.startswith(OURS):
        return False
    return getattr(own_self(frame), "is_shield", False) is True


def stems_from(held: BaseException | None, error: BaseException | type[BaseException]) -> bool:
    """Return whether `held` is `error` (or an instance of it) or was raised while that was handled."""
    step: BaseException | None = held
    for _ in range(LONGEST):
        if step is None:
            return False
        if step is error or (isinstance(error, type) and issubclass(type(step), error)):
            return True
        step = context_of(step)
    return False
