"""Where a function can be called off.

A point is an ``await`` at which a task was seen suspended. It is known by the stack of the coroutine (file, line and
function of each frame) and by how many times that stack was seen before, not by a running number: a step more or less
somewhere else moves no other point.
"""

import functools
import gc
import hashlib
import importlib.metadata
import json
import linecache
import os
import sys
import sysconfig
import urllib.parse
from collections.abc import AsyncGenerator, Collection, Coroutine, Generator, Iterator
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, NamedTuple

from ..._places.task.stack import stems_from

__all__ = [
    "LOOP",
    "Point",
    "Step",
    "chain",
    "is_handling",
    "is_ours",
    "is_python",
    "running_stack",
    "shown",
    "stack_of",
    "stack_of_error",
    "whose",
]


class Step(NamedTuple):
    """One frame of a stack."""

    file: str
    line: int
    function: str

    @property
    def source(self) -> str:
        """The text of the line."""
        return linecache.getline(self.file, self.line).strip()


Stack = tuple[Step, ...]


class Point(NamedTuple):
    """An await at which a task can be called off.

    `owner` is ``""`` for the swept function's own task, else the name of the child task's coroutine; `nth` counts from
    1 how many times the same owner was seen at the same stack.
    """

    owner: str
    stack: Stack
    nth: int

    @property
    def at(self) -> Step:
        """The frame to show."""
        return shown(self.stack)

    def digest(self) -> str:
        """A short name that survives a move of the lines: made of functions and source texts."""
        parts = [self.owner, str(self.nth)]
        parts += [f"{os.path.basename(s.file)}:{s.function}:{s.source}:{_twins_before(s)}" for s in self.stack]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:6]


@functools.cache
def _twins_before(step: Step) -> int:
    """How many lines of the same function, further up, have the same text."""
    found = 0
    for line in range(step.line - 1, 0, -1):
        text = linecache.getline(step.file, line).strip()
        found += text == step.source
        if f"def {step.function}(" in text:
            break
    return found


def stack_of(coro: object) -> Stack:
    """The frames of a suspended coroutine, outermost first, down to the future it waits for.

    Each await is asked for again and again, and to look lines up takes long: those of one way are remembered.
    """
    way: tuple[int, ...] = ()
    current: Any = coro
    while (kind := type(current)) is CoroutineType or kind is GeneratorType:
        if kind is CoroutineType:
            frame, current = current.cr_frame, current.cr_await
        else:
            frame, current = current.gi_frame, current.gi_yieldfrom
        if frame is None:
            return _stack_of(coro)
        way += (id(frame.f_code), frame.f_lasti)
    if current is not None and kind.__name__ != "FutureIter":
        return _stack_of(coro)
    known = _ways.get(way)
    if known is None:
        if len(_ways) >= _MOST_WAYS:
            _ways.clear()
        known = _ways[way] = _stack_of(coro), tuple(frame.f_code for _, frame in chain(coro))
    return known[0]


#: the ways that were seen, each as codes by their `id` (their hash takes long) and offsets: the stack, and the codes, which
#: are kept as long as they are known so
_ways: dict[tuple[int, ...], tuple[Stack, tuple[CodeType, ...]]] = {}
_MOST_WAYS = 10_000


def _stack_of(coro: object) -> Stack:
    found: list[Step] = []
    for _, frame in chain(coro):
        code = frame.f_code
        if not is_ours(code.co_filename):
            found.append(Step(code.co_filename, frame.f_lineno or code.co_firstlineno, code.co_name))
    return tuple(found)


def is_handling(coro: object, errors: Collection[BaseException]) -> bool:
    """Whether a suspended coroutine still has one of the errors in hand: in an ``except``, or to raise it later.

    A frame that handles an exception, or keeps it, has it among its references; one that swallowed it has not.
    """
    for part, _ in chain(coro):
        for held in gc.get_referents(part):
            if isinstance(held, BaseException) and any(stems_from(held, error) for error in errors):
                return True
    return False


def chain(coro: object) -> Iterator[tuple[object, FrameType]]:
    """What a suspended coroutine steps through, outermost first, each with its frame."""
    current: Any = coro
    for _ in range(500):
        part, kind = current, type(current)
        if kind is CoroutineType:
            frame, current = current.cr_frame, current.cr_await
        elif kind is GeneratorType:
            frame, current = current.gi_frame, current.gi_yieldfrom
        elif kind is AsyncGeneratorType:
            frame, current = current.ag_frame, current.ag_await
        elif current is None or hasattr(current, "_asyncio_future_blocking"):
            return
        elif hasattr(current, "cr_frame"):  # a coroutine of another make, or a driver
            inner = getattr(current, "coro", None)
            frame, current = (None, inner) if inner is not None else (current.cr_frame, current.cr_await)
        else:
            frame, current = None, _inside(current)
        if frame is not None:
            yield part, frame


def stack_of_error(error: BaseException) -> Stack:
    """The frames that an exception came through, outermost first.

    A frame that caught it and raised it by its name stands in a traceback twice; here it is where it called what failed.
    """
    found: list[Step] = []
    trace = error.__traceback__
    while trace is not None:
        code, inner = trace.tb_frame.f_code, trace.tb_next
        again = inner is not None and inner.tb_frame is trace.tb_frame
        if not again and not is_ours(code.co_filename):
            found.append(Step(code.co_filename, trace.tb_lineno, code.co_name))
        trace = inner
    return tuple(found)


def _inside(opaque: object) -> object | None:
    """What an awaitable made in C (a step of an async generator, mostly) steps through."""
    parts = gc.get_referents(opaque)
    for part in parts:
        if isinstance(part, (Coroutine, Generator, AsyncGenerator)):
            return part
    steps: list[object] = [part for part in parts if type(part).__name__ in _STEPS]
    return steps[0] if steps else None


_STEPS = frozenset({"async_generator_asend", "async_generator_athrow", "coroutine_wrapper"})


def running_stack(limit: int = 60) -> Stack:
    """The frames that run now, outermost first, without those of the event loop and of the sweep."""
    found: list[Step] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(found) < limit:
        code = frame.f_code
        if is_ours(code.co_filename):
            if found and code.co_filename != _PASSED_THROUGH:
                break  # what drives the coroutine
        elif code.co_filename.endswith(LOOP):
            break
        else:
            found.append(Step(code.co_filename, frame.f_lineno or 0, code.co_name))
        frame = frame.f_back
    return tuple(reversed(found))


#: where an event loop begins: what is called by it is above
LOOP = tuple(os.path.join("asyncio", name) for name in ("events.py", "runners.py"))


def is_ours(file: str) -> bool:
    """Whether the file belongs to the sweep itself."""
    return file.startswith(_OURS)


def is_python(file: str) -> bool:
    """Whether the file belongs to Python's own library."""
    return file.startswith(_STDLIB) and not any(part in file for part in _PACKAGES)


def whose(file: str) -> str:
    """``yours``, ``library`` or ``python``."""
    if is_python(file):
        return "python"
    if file.startswith(_CALLOFF) or any(part in file for part in _PACKAGES) or not os.path.isfile(file):
        return "library"  # the last: what was compiled has the name of a source that is not here
    return "library" if any(_is_apart(file, folder) for folder in _editable()) else "yours"


def _is_apart(file: str, folder: str) -> bool:
    """Whether it lies in a folder that has nothing to do with the one in which the sweep takes place."""
    here = os.getcwd() + os.sep
    return file.startswith(folder) and not here.startswith(folder) and not folder.startswith(here)


@functools.cache
def _editable() -> tuple[str, ...]:
    """The folders of packages that are installed as they are there."""
    found: list[str] = []
    for distribution in importlib.metadata.distributions():
        text = distribution.read_text("direct_url.json")
        about = json.loads(text) if text else {}
        if about.get("dir_info", {}).get("editable"):
            found.append(urllib.parse.unquote(urllib.parse.urlsplit(about["url"]).path).rstrip(os.sep) + os.sep)
    return tuple(found)


def shown(stack: Stack) -> Step:
    """The frame that a person wants to see: the innermost that is not Python's own library's."""
    for step in reversed(stack):
        if not is_python(step.file):
            return step
    return stack[-1] if stack else Step("<unknown>", 0, "<unknown>")


#: stands around calls of the swept code
_PASSED_THROUGH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "opened.py")
_PATHS = sysconfig.get_paths()
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_CALLOFF = os.path.dirname(os.path.dirname(_OURS)) + os.sep
_STDLIB = (*(_PATHS[name] + os.sep for name in ("stdlib", "platstdlib")), "<frozen")
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
