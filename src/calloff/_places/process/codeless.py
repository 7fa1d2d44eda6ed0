"""Pickling that runs no code of the program, for what can be pickled so: it takes no time, and nothing can go wrong in it.

An object says by itself how it is pickled (`__reduce__`, `__getstate__` and the like), in code that may block, loop or
raise. So objects whose types have such code, in Python, are found out before any of it runs. That of the standard library
and of types made in C is trusted.
"""

import copyreg
import io
import pickle
import sys
from abc import ABCMeta
from collections.abc import Callable
from enum import EnumType
from pickle import PickleBuffer
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    GetSetDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["RunsCode", "dumps"]

_HOOKS = (
    "__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__", "__getnewargs_ex__",
    "__getattribute__", "__getattr__", "__class__", "__dict__",
)  # fmt: skip
#: of a list or dict that has become more than that, what is in it is asked for, too
_CONTENTS = "__iter__", "items"
_OF_C = (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    GetSetDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)
_METACLASSES = frozenset({type, ABCMeta, EnumType})
_known: WeakKeyDictionary[type, bool] = WeakKeyDictionary()


class RunsCode(Exception):
    """It can't be pickled without running code of the program."""


def dumps(value: Any, buffer_callback: Callable[[PickleBuffer], Any] | None = None) -> bytes:
    """The pickle of `value`.

    Raises:
        RunsCode: code of the program would have to run; none has.
        Exception: something of it can't be pickled.
    """
    file = io.BytesIO()
    _Pickler(file, 5, buffer_callback=buffer_callback).dump(value)
    return file.getvalue()


class _Pickler(pickle.Pickler):
    """Asks of every object that is not of the interpreter's own plain types, before anything is done with it."""

    def reducer_override(self, value: Any) -> Any:  # that of the base class
        kind = type(value)
        if kind in _METACLASSES:  # a class, which goes by its name
            return NotImplemented
        if type(kind) not in _METACLASSES:
            raise RunsCode(kind)
        found = _known.get(kind)
        if found is None:
            found = _known[kind] = _runs_code(kind)
        if found:
            raise RunsCode(kind)
        return NotImplemented


def _runs_code(kind: type) -> bool:
    reduce = copyreg.dispatch_table.get(kind)
    if reduce is not None:
        return not _is_trusted(reduce)
    names = (*_HOOKS, *_CONTENTS) if issubclass(kind, (list, dict)) else _HOOKS
    for name in names:
        for base in kind.__mro__:
            if name in base.__dict__:
                if not _is_trusted(base.__dict__[name]):
                    return True
                break
    return False


def _is_trusted(hook: Any) -> bool:
    if hook is None or type(hook) in _OF_C:
        return True
    home = getattr(hook, "__globals__", {}).get("__name__")
    return isinstance(home, str) and home.partition(".")[0] in sys.stdlib_module_names
