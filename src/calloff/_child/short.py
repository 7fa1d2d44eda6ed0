"""The short form of calls and values that are plain: by `marshal`, which takes a third of the time that `pickle` does.

A call is short when its function is found under its name in its module, and its arguments are builtin values that refer to
nothing else; a value when it is one of these. What that name stands for is looked up in the worker, for each job, just as a
pickle does. Everything else is pickled, and no pickle of the protocols from 2 on begins as a short form does.
"""

import copyreg
import io
import marshal
import pickle
import sys
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

__all__ = ["LONG", "PLAIN", "SHORT", "load_call", "load_value", "short_call", "short_value"]

#: the first byte: that of any tuple
SHORT = b"("
#: the types of values that have a short form
PLAIN = frozenset({bool, bytes, complex, float, int, str, type(None)})
#: bytes or characters: what is longer has none; it is sent apart, without a copy
LONG = 1 << 12
#: a version of marshal in which each object stands for itself, so that a tuple is its parts one after the other
_VERSION = 2
_dumps, _loads, _modules, _reducers = marshal.dumps, marshal.loads, sys.modules, copyreg.dispatch_table
#: how a tuple of four begins, and what ends a call without keywords
_FOUR, _NO_KEYWORDS = _dumps((None,) * 4, _VERSION)[:5], _dumps({}, _VERSION)
#: of a function: module, name, and with what its calls begin
_Known = tuple[str, ModuleType, dict[str, Any], str, bytes]
#: the functions that were called last; it is looked each time whether they are still found where they were
_known: dict[Any, _Known] = {}
_MANY = 64


def short_call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes | None:
    """A call in short form; ``None`` where it has none."""
    kind = type(function)
    if kind is BuiltinFunctionType:
        if kind in _reducers:
            return None
    elif kind is not FunctionType:
        return None
    known = _known.get(function) or _know(function)
    if known is None:
        return None
    module, home, names, name, start = known
    if _modules.get(module) is not home or names.get(name) is not function:
        _known.pop(function, None)
        return None
    for value in args:
        kind = type(value)
        if kind not in PLAIN or ((kind is str or kind is bytes) and len(value) > LONG):
            return None
    if not kwargs:
        return start + _dumps(args, _VERSION) + _NO_KEYWORDS
    if not _are_plain(tuple(kwargs.values())):
        return None
    return start + _dumps(args, _VERSION) + _dumps(kwargs, _VERSION)


def _know(function: Any) -> _Known | None:
    """Where a function is found under its name, and how each call of it begins; ``None`` where it is not."""
    if type(function) is BuiltinFunctionType and type(function.__self__) is not ModuleType:
        return None
    module, name = function.__module__, function.__qualname__
    if type(module) is not str or module == "__main__":
        return None
    home = _modules.get(module)
    if type(home) is not ModuleType or home.__dict__.get(name) is not function:
        return None
    if len(_known) >= _MANY:
        _known.clear()
    start = _FOUR + _dumps(module, _VERSION) + _dumps(name, _VERSION)
    found = _known[function] = (module, home, home.__dict__, name, start)
    return found


def _are_plain(values: tuple[Any, ...]) -> bool:
    for value in values:
        kind = type(value)
        if kind not in PLAIN or ((kind is str or kind is bytes) and len(value) > LONG):
            return False
    return True


def load_call(data: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Function and arguments of a call in short form; raises what unpickling it would."""
    module, name, args, kwargs = _loads(data)
    home = _modules.get(module)
    function = home.__dict__.get(name) if type(home) is ModuleType else None
    if function is None:
        function = pickle.Unpickler(io.BytesIO()).find_class(module, name)
    return function, args, kwargs


def short_value(value: Any) -> bytes | None:
    """A value in short form; ``None`` where it has none."""
    kind = type(value)
    if kind not in PLAIN or ((kind is str or kind is bytes) and len(value) > LONG):
        return None
    return _dumps((value,), _VERSION)


def load_value(data: Any) -> Any:
    """A value from its short form."""
    return _loads(data)[0]
