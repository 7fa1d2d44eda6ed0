"""Pickling by value: with the code of what can't be imported, by cloudpickle, and with the file that the code is from.

cloudpickle from 3.1.3 on names that ``<dynamic-code>``, to have the same bytes for the same code. Here it is wanted: for
tracebacks, and to tell where a function is. Both ends of the wire use this.
"""

import io
from collections import ChainMap
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pickle import PickleBuffer
from types import CodeType
from typing import Any

__all__ = ["dumps"]

_NAMELESS = "<dynamic-code>"


def dumps(value: Any, buffer_callback: Callable[[PickleBuffer], Any] | None = None) -> bytes:
    """The pickle of `value`.

    Raises:
        Exception: something of it can't be pickled.
    """
    file = io.BytesIO()
    _pickler()(file, 5, buffer_callback=buffer_callback).dump(value)
    return file.getvalue()


@cache
def _pickler() -> Any:
    cloudpickle: Any = import_module("cloudpickle")
    former: Any = cloudpickle.Pickler
    table = ChainMap({CodeType: _code(former.dispatch_table[CodeType])}, former.dispatch_table)
    return type("Pickler", (former,), {"dispatch_table": table})


def _code(
    reduce: Callable[[CodeType], tuple[Any, tuple[Any, ...]]],
) -> Callable[[CodeType], tuple[Any, tuple[Any, ...]]]:
    """What cloudpickle makes of code, with its file."""

    def reduce_with_file(code: CodeType) -> tuple[Any, tuple[Any, ...]]:
        make, args = reduce(code)
        return make, tuple([code.co_filename if type(arg) is str and arg == _NAMELESS else arg for arg in args])

    return reduce_with_file
