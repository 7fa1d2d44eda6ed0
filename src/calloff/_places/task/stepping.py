"""Doing something before each instruction of chosen frames of this thread, and raising there.

A signal handler runs where the interpreter happens to look for signals: at calls and at jumps back. So it never sees most
of the code, and what it raises inside a ``try`` is caught there. From Python 3.12 on `sys.monitoring` shows every
instruction, of the chosen code alone; the callback stays when it has raised.

Before that there is only tracing, and a trace function in Python is taken away when it raises. One in C is not. Any
function of the C API will do that is given an object of ours first, calls a method of it, and fails with the error of that
method: `PyObject_IsTrue` does, and asks ``__bool__``.
"""

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import CodeType, FrameType
from typing import Any, Protocol

from ..._child.bytecode import JUMPS_BACK

__all__ = ["Steps", "needs_ctypes", "steps_of"]


class Steps(Protocol):
    """The look at each instruction, from the beginning on, until it is ended."""

    def end(self) -> None:
        """End it; more than once does no harm."""


def steps_of(frames: Iterable[FrameType], act: Callable[[FrameType], object]) -> Steps | None:
    """Call `act` before each instruction of the frames from now on; what it raises is raised there.

    Returns:
        What ends it; ``None``, and nothing happens, where the interpreter has no room for one more observer.
    """
    return _begin(dict.fromkeys(frames), act)


class _Monitored:
    """By `sys.monitoring`."""

    def __init__(self, tool: int, frames: dict[FrameType, None], act: Callable[[FrameType], object]) -> None:
        self._tool: int | None = tool
        self._frames = frames
        self._act = act
        self._codes = {frame.f_code for frame in frames}
        events = _monitoring.events.INSTRUCTION
        _monitoring.register_callback(tool, events, self._on_instruction)
        for code in self._codes:
            _monitoring.set_local_events(tool, code, events)

    def _on_instruction(self, code: CodeType, offset: int) -> None:
        frame = sys._getframe(1)
        if frame in self._frames:
            self._act(frame)

    def end(self) -> None:
        tool, self._tool = self._tool, None
        if tool is None:
            return
        for code in self._codes:
            _monitoring.set_local_events(tool, code, 0)
        _monitoring.register_callback(tool, _monitoring.events.INSTRUCTION, None)
        _monitoring.free_tool_id(tool)
        self._frames = {}


class _Traced:
    """By the trace function of the thread, which is put back at the end.

    It is called for more than instructions: once before for each new line, and once more where an instruction raises or
    returns. What it is called for it is not told, but these do not move the frame on; a jump to itself is all else that
    does not.
    """

    def __init__(self, frames: dict[FrameType, None], act: Callable[[FrameType], object]) -> None:
        from ctypes import c_void_p, cast, py_object, pythonapi

        self._frames = frames
        self._act = act
        self._at = {frame: frame.f_lasti for frame in frames}
        self._former = sys.gettrace()
        for frame in frames:
            frame.f_trace_opcodes = True
        pythonapi.PyEval_SetTrace(cast(pythonapi.PyObject_IsTrue, c_void_p), py_object(self))

    def __bool__(self) -> bool:
        frame = sys._getframe(1)
        if frame in self._frames:
            at = frame.f_lasti
            if self._at[frame] != at or frame.f_code.co_code[at] in JUMPS_BACK:
                self._at[frame] = at
                self._act(frame)
        return False

    def end(self) -> None:
        frames, self._frames = self._frames, {}
        if frames:
            self._at = {}
            sys.settrace(self._former)
            for frame in frames:
                frame.f_trace_opcodes = False


_monitoring: Any = getattr(sys, "monitoring", None)
#: whether it works by way of `ctypes`
needs_ctypes = _monitoring is None


def _begin(frames: dict[FrameType, None], act: Callable[[FrameType], object]) -> Steps | None:
    if _monitoring is None:
        with suppress(ImportError, AttributeError, OSError):  # an interpreter without ctypes, or no file can be opened
            return _Traced(frames, act)
        return None
    for tool in reversed(range(6)):
        if _monitoring.get_tool(tool) is None:
            _monitoring.use_tool_id(tool, "calloff")
            return _Monitored(tool, frames, act)
    return None
