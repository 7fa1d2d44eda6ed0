"""A line of code as evidence: where a body is suspended, running or stuck."""

import linecache
import os
import stat
import sys
from _thread import LockType, allocate_lock
from functools import cache
from types import CodeType
from typing import NamedTuple, cast

from .._os.threads import begin
from .untouched import args_of, cause_of, trace_of

__all__ = [
    "OURS",
    "Frame",
    "RawFrame",
    "RawStack",
    "at_line",
    "culprit",
    "develop",
    "located",
    "raised_at",
    "remote_traceback",
]

#: One frame, noted as cheaply as can be: the code and the offset of its last instruction; or, from another process,
#: file, line and function, and the source where that is no line of a file. Lines and texts are looked up when somebody
#: asks.
RawFrame = tuple[CodeType, int] | tuple[str, int, str] | tuple[str, int, str, str]
#: A stack, outermost first: frames, or flat (code, offset, code, offset, ...), which is one object to allocate.
RawStack = tuple[RawFrame | CodeType | int, ...]

#: seconds for which the loop may wait for a file, and for one while another keeps it waiting
_MOMENT, _SHORT_MOMENT = 0.25, 0.02
#: the files that are being read
_reading: set[str] = set()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reading.clear)

#: characters at the end of a traceback from another process that are read
_TOLD = 8000


class Frame(NamedTuple):
    """One step of a stack.

    Attributes:
        file: path of the source file.
        line: line number, from 1; 0 where there are no lines (a function of C, a program).
        function: name of the function.
        source: the line's text without indentation, or ``""`` where the source can't be read; of a command, its command
            line and the number of its process.
    """

    file: str
    line: int
    function: str
    source: str = ""

    def __str__(self) -> str:
        if not self.line:
            return self.source or f"{self.function} ({self.file})"
        place = f"{self.function} ({_short(self.file)}:{self.line})"
        return f"{place}: {self.source}" if self.source else place


def develop(stack: RawStack) -> tuple[Frame, ...]:
    """Frames with their source lines, calloff's own left out."""
    return tuple(frame._replace(source=frame.source or _source(frame.file, frame.line)) for frame in located(stack))


def located(stack: RawStack) -> tuple[Frame, ...]:
    """Frames without their source lines, for which no file is read, calloff's own left out."""
    parts = iter(stack)
    found: list[Frame] = []
    for part in parts:
        if isinstance(part, CodeType):
            found.append(_locate(part, cast(int, next(parts))))
        elif isinstance(part, tuple):
            found.append(
                _locate(part[0], part[1]) if isinstance(part[0], CodeType) else Frame(*cast(tuple[str, int, str], part))
            )
    return tuple(frame for frame in found if not frame.file.startswith(OURS))


def _source(file: str, line: int) -> str:
    """The text of a line, or nothing where the file does not say it soon: it may lie on a file system that hangs."""
    return linecache.getline(file, line).strip() if file.startswith("<") or _is_known(file) or _is_read(file) else ""


def _is_known(file: str) -> bool:
    return len(linecache.cache.get(file, ())) > 1  # else it is a function that would read it


def _is_read(file: str) -> bool:
    """Read the lines of that file, in a thread, for which no loop waits for long; ``False`` where they are not there."""
    if file in _reading:
        return False
    moment = _SHORT_MOMENT if _reading else _MOMENT
    read = allocate_lock()
    read.acquire()
    _reading.add(file)
    try:
        begin(_read, file, read)
    except RuntimeError:  # none is to be had, or the interpreter ends
        _read(file, read)
    return read.acquire(timeout=moment) and _is_known(file)


def _read(file: str, read: LockType) -> None:
    """Only from a plain file: a pipe or a device may never end."""
    try:
        if _may_be_plain(file):
            linecache.getlines(file)
    except Exception:  # a loader of the program's may raise anything
        pass
    finally:
        _reading.discard(file)
        read.release()


def _locate(code: CodeType, offset: int) -> Frame:
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            return Frame(code.co_filename, line, code.co_name)
    return Frame(code.co_filename, code.co_firstlineno, code.co_name)


def _may_be_plain(file: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(file).st_mode)
    except (OSError, ValueError):
        return True  # it may lie in an archive, or below the search path


def raised_at(error: BaseException) -> RawStack:
    """The frames that an exception has come through, outermost first; of one from another process, those there."""
    if told := remote_traceback(error):
        return _frames_in(told)
    found: list[object] = []
    trace = trace_of(error)
    while trace is not None:
        found += (trace.tb_frame.f_code, trace.tb_lasti)
        trace = trace.tb_next
    return tuple(found)  # type: ignore[arg-type]


def remote_traceback(error: BaseException) -> str:
    """The traceback that came as text with an error from another process, as its cause; of any other, nothing."""
    cause = cause_of(error)
    if cause is None or type(cause).__name__ != "RemoteTraceback":
        return ""
    told = args_of(cause)[:1]
    return told[0] if told and type(told[0]) is str else ""


def _frames_in(traceback: str) -> RawStack:
    """The frames that the end of a printed traceback names."""
    lines = traceback[-_TOLD:].splitlines()
    found: list[RawFrame] = []
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        file, _, rest = line.removeprefix('  File "').rpartition('", line ')
        number, _, function = rest.partition(", in ")
        if line.startswith('  File "') and function and number.isdecimal():
            found.append((file, int(number), function, below.strip() if below.startswith("    ") else ""))
    return tuple(found)


def culprit(frames: tuple[Frame, ...]) -> Frame | None:
    """The frame a person wants to see: the innermost of their own code, else the innermost of all."""
    for frame in reversed(frames):
        if not frame.file.startswith(_foreign()):
            return frame
    return frames[-1] if frames else None


def at_line(frames: tuple[Frame, ...]) -> str:
    """``call_api (examples/call_api.py:6): await asyncio.sleep(delay)``, or ``""`` without frames."""
    frame = culprit(frames)
    return "" if frame is None else str(frame)


def _short(file: str) -> str:
    """The path from the current directory, when it lies below it."""
    try:
        below = os.getcwd() + os.sep
    except OSError:  # the current directory was removed
        return file
    return file[len(below) :] if file.startswith(below) else file


#: where calloff's own code lies
OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def _foreign() -> tuple[str, ...]:
    """Return how the files begin whose code is nobody's own: Python's, what is installed, calloff's."""
    try:
        return _all_foreign()
    except (ImportError, OSError):  # nothing can be loaded now: no files are left, or the interpreter ends
        paths = [str(path) for path in sys.path or ()]  # of an interpreter that ends nothing is left
        installed = [path + os.sep for path in paths if path.endswith(("site-packages", "dist-packages"))]
        return (os.path.dirname(os.__file__) + os.sep, *installed, OURS, "<frozen")


@cache
def _all_foreign() -> tuple[str, ...]:
    import sysconfig  # loads what a Python was built with, which takes longer than most of calloff

    paths = sysconfig.get_paths()
    return (*(paths[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")), OURS, "<frozen")
