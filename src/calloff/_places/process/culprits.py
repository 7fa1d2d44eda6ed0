"""Which part of a call can't be sent to a process: looked for only when there is one, to say it in the error."""

from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any

from ..._child.by_value import dumps

__all__ = ["culprit"]

_DEEPEST = 8


def culprit(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    name: str,
    error: Exception,
    item: int | None = None,
) -> str:
    """In words, what of a call can't be pickled, and where it is."""
    parts = [("the function", function)]
    parts += [(f"argument {at + 1}" if at != item else "the item", arg) for at, arg in enumerate(args)]
    parts += [(f"argument {key!r}", arg) for key, arg in kwargs.items()]
    for what, part in parts:
        reason = _refusal(part)
        if reason is not None:
            of = "" if part is function else f" ({_kind(part)})"
            inner = _inner(part, _DEEPEST)
            if inner:
                return f"{name} can't be sent to a process: {inner} can't be pickled: {reason}"
            return f"{name} can't be sent to a process: {what}{of} can't be pickled: {reason}"
    return f"{name} can't be sent to a process: {error}"


def _inner(part: Any, depth: int) -> str | None:
    """The innermost global, closed-over variable or attribute that can't be pickled, with its name and its owner."""
    for what, value in _parts(part):
        if depth and _refusal(value) is not None:
            return _inner(value, depth - 1) or f"{what}, a {_kind(value)},"
    return None


def _parts(part: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(part, MethodType):
        part = part.__self__
    if isinstance(part, FunctionType):
        of = part.__qualname__.rpartition("<locals>.")[2]
        for name in part.__code__.co_names:
            if name in part.__globals__:
                yield f"the global {name!r}, which {of} uses", part.__globals__[name]
        for name, cell in zip(part.__code__.co_freevars, part.__closure__ or (), strict=False):
            try:
                yield f"the variable {name!r}, which {of} uses", cell.cell_contents
            except ValueError:  # it has no value yet
                continue
        return
    try:
        attributes = dict(vars(part))
    except TypeError:
        return
    for name, value in attributes.items():
        yield f"the attribute {name!r} of {type(part).__qualname__}", value


def _refusal(value: Any) -> Exception | None:
    """Why it can't be pickled; ``None`` when it can."""
    try:
        dumps(value)
    except Exception as reason:
        return reason
    return None


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
