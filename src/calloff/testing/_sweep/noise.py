"""What Python itself complains of during a run: coroutines never awaited, exceptions never retrieved, things unclosed.

And one thing of which it does not complain: an async generator that was left suspended inside a ``try`` or ``with`` is
closed by the garbage collector, at some time, in some other task. Generators without any clean-up don't count.
"""

import asyncio
import dis
import re
import sys
import tempfile
import warnings
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

from .course import Course, current_course
from .driver import Driver
from .opened import unclosed_at
from .points import Stack, Step, is_ours, stack_of_error

__all__ = ["NEVER_AWAITED", "Complaint", "heard"]


#: a file there has a name drawn at random
_TEMPORARY = re.compile(re.escape(tempfile.gettempdir()) + r"/[^\s'\"]+")


#: what Python says of a coroutine
NEVER_AWAITED = "never awaited"
#: frames that a coroutine keeps of where it was made
_ORIGIN = 12


class Complaint(NamedTuple):
    """One thing that Python said, or should have."""

    oracle: str
    text: str
    at: Stack = ()

    @property
    def key(self) -> str:
        """The same from run to run."""
        text = re.sub(r"name='[^']*'", "name=#", self.text) if self.oracle == "files" else self.text
        return re.sub(r"0x[0-9a-f]+|\d+", "#", _TEMPORARY.sub("#", text))


@contextmanager
def heard(
    loop: asyncio.AbstractEventLoop, course: Course, *, hand_on: Callable[[], bool] = bool, traced: bool = False
) -> Generator[list[Complaint]]:
    """Collect the complaints made while `course` runs.

    Args:
        loop: the event loop.
        course: the run.
        hand_on: tells whether somebody waits for the complaints.
        traced: keep of each coroutine where it was made, which takes longer than a turn of the loop.
    """
    complaints: list[Complaint] = []
    handler = loop.get_exception_handler()

    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        _from_loop(complaints, context, course)
        if not hand_on():
            return
        if handler is not None:
            handler(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
    unraisable = sys.unraisablehook
    sys.unraisablehook = lambda args: _from_unraisable(complaints, args)
    hooks = sys.get_asyncgen_hooks()
    born: set[int] = set()  # ids: weak references are dead by the time of the finalizer

    def first_step(generator: AsyncGenerator[Any, Any]) -> None:
        if current_course.get() is not None:
            born.add(id(generator))
        else:
            born.discard(id(generator))
        if hooks.firstiter is not None:
            hooks.firstiter(generator)

    def finalizer(generator: AsyncGenerator[Any, Any]) -> None:
        frame = getattr(generator, "ag_frame", None)
        if frame is not None and id(generator) in born and _has_clean_up(frame):
            step = Step(frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name)
            text = (
                f"the async generator {frame.f_code.co_qualname}, suspended at line {step.line}, was never closed: "
                "its clean-up runs when the garbage collector comes by"
            )
            complaints.append(Complaint("generators", text, (step,)))
        if hooks.finalizer is not None:
            hooks.finalizer(generator)

    sys.set_asyncgen_hooks(first_step, finalizer)
    depth = sys.get_coroutine_origin_tracking_depth()
    if traced:
        sys.set_coroutine_origin_tracking_depth(max(depth, _ORIGIN))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *_args, **_kw: _from_warning(complaints, message)
            yield complaints
    finally:
        sys.set_coroutine_origin_tracking_depth(depth)
        sys.set_asyncgen_hooks(*hooks)
        sys.unraisablehook = unraisable
        loop.set_exception_handler(handler)


def _from_warning(complaints: list[Complaint], message: Warning | str) -> None:
    text = str(message)
    if isinstance(message, ResourceWarning):
        if text.startswith("unclosed"):
            said = f"left for the garbage collector to close: {_plain(text)}"
            complaints.append(Complaint("files", said, unclosed_at(text)))
    elif isinstance(message, RuntimeWarning) and NEVER_AWAITED in text:
        complaints.append(Complaint("unawaited", text.partition("\n")[0], _created_at(text)))


def _created_at(text: str) -> Stack:
    """Where a coroutine was made that nobody awaited, as Python tells it when it keeps that."""
    lines = re.findall(r'^  File "(.+)", line (\d+), in (\S+)$', text, re.MULTILINE)
    return tuple(Step(file, int(line), function) for file, line, function in lines if not is_ours(file))


def _from_loop(complaints: list[Complaint], context: dict[str, Any], course: Course) -> None:
    error = context.get("exception")
    text = str(context.get("message", ""))
    if isinstance(error, GeneratorExit):
        return  # it was given up, by the sweep
    if isinstance(error, asyncio.CancelledError) or "was destroyed but it is pending" in text:
        return  # the first is asyncio's own noise, the second is told of as a task
    if "open stream object is being garbage collected" in text:
        return  # the writer's ResourceWarning says the same
    if course.repeats and error is None and _holder(context, course) is None:
        return  # what the second run returned, and nobody takes
    if "never retrieved" not in text:
        text = f"{text}: {_plain(repr(error))}" if error is not None else text
    elif error is not None:
        text = f"{text}: {_plain(repr(error))}"
    complaints.append(
        Complaint("unawaited" if "never retrieved" in text else "errors", text, _made_at(context, course))
    )


def _made_at(context: dict[str, Any], course: Course) -> Stack:
    """Where the swept code started the task complained of (who starts one must look what became of it), or raised.

    Of an object that complains of itself: the frame that had it when the function was called off.
    """
    task = context.get("task") or context.get("future")
    coro = task.get_coro() if isinstance(task, asyncio.Task) else None
    if isinstance(coro, Driver):
        return coro.made_at
    error = context.get("exception")
    if error is not None:
        return stack_of_error(error)
    holder = _holder(context, course)
    return () if holder is None else (holder,)


def _holder(context: dict[str, Any], course: Course) -> Step | None:
    return next((course.held_by[id(part)] for part in context.values() if id(part) in course.held_by), None)


def _from_unraisable(complaints: list[Complaint], args: Any) -> None:
    text = f"{args.err_msg or 'Exception ignored in'}: {_plain(repr(args.exc_value))}"
    complaints.append(Complaint("errors", text))


def _plain(text: str) -> str:
    return re.sub(r" at 0x\w+", "", text)[:300]


def _has_clean_up(frame: FrameType) -> bool:
    """Whether closing a generator that is suspended in this frame would run any code of its own."""
    code = frame.f_code
    for entry in dis.Bytecode(code).exception_entries:  # type: ignore[attr-defined]
        if entry.start <= frame.f_lasti < entry.end:
            if dis.opname[code.co_code[entry.target]] != "CALL_INTRINSIC_1":  # of every generator, by the compiler
                return True
    return False
