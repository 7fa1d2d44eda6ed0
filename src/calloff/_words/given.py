"""What callers give at the door, looked at before anything is started: functions and their names, and whole numbers."""

import inspect
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any

__all__ = ["name_of", "need_function", "whole"]


def need_function(fn: object, text: str) -> None:
    """Raise `TypeError` for what can't be called; a coroutine is closed, so that only that error is heard."""
    if callable(fn):
        return
    if inspect.iscoroutine(fn) and inspect.getcoroutinestate(fn) == inspect.CORO_CREATED:
        fn.close()
    raise TypeError(f"{text}, not {fn!r}")


def name_of(fn: Callable[..., Any]) -> str:
    """What a function is called in lists, errors and reports."""
    if type(fn) is FunctionType or type(fn) is BuiltinFunctionType:
        return fn.__qualname__
    while isinstance(fn, partial):
        fn = fn.func
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__


def whole(value: int, name: str, least: int) -> int:
    """A whole number from `least` on; `TypeError` or `ValueError`, with its name, for anything else."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, not {value!r}")
    return value
