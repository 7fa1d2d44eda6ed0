"""Tracebacks of the user's code, without the frames of calloff and of the machinery that called it."""

import os
import traceback

from .._words.frame import remote_traceback

__all__ = ["frames_of", "traceback_text"]

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARY = os.path.dirname(os.__file__) + os.sep
_IMPORTING = ("<frozen importlib", "<frozen runpy", f"{_LIBRARY}importlib{os.sep}")
_CALLING = tuple(_LIBRARY + part for part in (f"asyncio{os.sep}", f"concurrent{os.sep}", "threading.py"))


def traceback_text(error: BaseException) -> str:
    """The traceback as Python prints it, with its causes and members, trimmed to what is not ours."""
    remote = _remote_text(error)
    if remote:
        return remote
    told = traceback.TracebackException.from_exception(error, compact=True)
    _trim(told, set())
    return "".join(told.format())


def frames_of(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of the error itself, trimmed in the same way."""
    return _theirs(traceback.TracebackException.from_exception(error, compact=True).stack)


def _trim(told: traceback.TracebackException, seen: set[int]) -> None:
    if id(told) in seen:
        return
    seen.add(id(told))
    told.stack[:] = _theirs(told.stack)
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            _trim(other, seen)


def _theirs(stack: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """Nothing of ours anywhere, and nothing of the event loop or the threads before the first frame of the user."""
    kept = [frame for frame in stack if not _is_ours(frame.filename)]
    first = next((i for i, frame in enumerate(kept) if not frame.filename.startswith(_CALLING)), 0)
    return kept[first:]


def _is_ours(file: str) -> bool:
    return file.startswith((_OURS, *_IMPORTING))


def _remote_text(error: BaseException) -> str:
    """The traceback that came with an error from another process, where the error has no frames of its own here."""
    text = remote_traceback(error)
    if not text or frames_of(error):
        return ""
    kept: list[str] = []
    ours = False
    for line in text.splitlines():
        if line.startswith('  File "'):
            ours = _is_ours(line[8:])
        elif not line.startswith("    "):
            ours = False
        if not ours:
            kept.append(line)
    return "\n".join(kept).strip("\n") + "\n"
