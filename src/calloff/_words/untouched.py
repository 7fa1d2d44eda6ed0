"""Looks at values and errors of the program without running any code of theirs.

`isinstance` asks an object for its ``__class__``, which may be a property that raises: that of a proxy that is not bound to
anything does. An error may override ``args``, ``__traceback__``, ``__cause__`` and ``__context__``, and may be false.
"""

from types import TracebackType
from typing import Any

__all__ = ["args_of", "cause_of", "context_of", "drop_frame", "fields_of", "is_a", "trace_of"]

_args: Any = BaseException.__dict__["args"]
_cause: Any = BaseException.__dict__["__cause__"]
_context: Any = BaseException.__dict__["__context__"]
_fields: Any = BaseException.__dict__["__dict__"]
_traceback: Any = BaseException.__dict__["__traceback__"]


def is_a(thing: object, kinds: type | tuple[type, ...]) -> bool:
    """Return whether the type of `thing` is one of `kinds`, whatever `thing` says its ``__class__`` is."""
    try:
        return issubclass(type(thing), kinds)
    except BaseException:  # an abstract class looks at the type, whose own type may raise
        return False


def args_of(error: BaseException) -> tuple[Any, ...]:
    """Return what an exception was made with."""
    found: tuple[Any, ...] = _args.__get__(error)
    return found


def trace_of(error: BaseException) -> TracebackType | None:
    """Return the traceback of an exception."""
    found: TracebackType | None = _traceback.__get__(error)
    return found


def cause_of(error: BaseException) -> Any:
    """Return what an exception was raised from."""
    return _cause.__get__(error)


def context_of(error: BaseException) -> BaseException | None:
    """Return what an exception was raised from, or during the handling of."""
    found: BaseException | None = _cause.__get__(error)
    if found is None:
        found = _context.__get__(error)
    return found


def fields_of(error: BaseException) -> dict[str, Any]:
    """Return what was noted at an exception."""
    found: dict[str, Any] = _fields.__get__(error)
    return found


def drop_frame(error: BaseException) -> None:
    """Take the outermost frame out of its traceback, which would hold the error."""
    trace = trace_of(error)
    if trace is not None:
        _traceback.__set__(error, trace.tb_next)
