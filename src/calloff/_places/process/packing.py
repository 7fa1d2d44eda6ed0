"""What is sent to a worker and what comes back, as pickles; the other end of it is in `_child/worker.py`."""

import contextlib
import functools
import os
import pickle
import sys
from asyncio import CancelledError
from collections import Counter
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.machinery import PathFinder
from pickle import PickleBuffer
from threading import Lock
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from ..._child.by_value import dumps
from ..._words.bears import bears
from ..._words.errors import WorkerDied
from ..._words.untouched import is_a
from . import codeless
from .culprits import culprit
from .unpickling import attempt, load, may_block, parts_may_block

bears(dumps)
__all__ = [
    "FOUND",
    "RemoteTraceback",
    "by_value",
    "error_may_block",
    "out_of_reach",
    "pack",
    "pack_quickly",
    "unpack_error",
]

#: from how many bytes on a `bytes` object is sent as it is, not as a part of the pickle
_LARGE = 1 << 16

Packed = tuple[bytes, list[PickleBuffer]]

#: modules that are pickled by value for now, and by how many threads; held for a few steps only
_registered: Counter[str] = Counter()
_registering = Lock()


class RemoteTraceback(Exception):
    """The traceback in the worker process, as text: the ``__cause__`` of an error that came from there."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


@bears
def pack(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str, item: int | None = None
) -> Packed:
    """A call as a pickle: by reference where that will do, by value (cloudpickle) where it will not.

    Of a map, `item` is which of the arguments is the item.

    Raises:
        TypeError: something of it can't be sent; the text says what.
    """
    if bytes in map(type, args):
        args = tuple([PickleBuffer(arg) if type(arg) is bytes and len(arg) > _LARGE else arg for arg in args])
    call = (function, args, kwargs)
    parts = (function, *args, *kwargs.values()) if kwargs else (function, *args)
    apart = [module for module in map(out_of_reach, parts) if module is not None]
    if not apart:
        try:
            buffers: list[PickleBuffer] = []
            data = pickle.dumps(call, 5, buffer_callback=lambda buffer: _apart(buffer, buffers))
            if b"__main__" not in data:
                return data, buffers
        except Exception:  # a lambda, a local function, or something that can't be sent at all
            pass
    try:
        buffers = []
        return by_value(call, buffers, apart), buffers
    except Exception as error:
        raise TypeError(culprit(function, args, kwargs, name, error, item)) from error


def pack_quickly(function: Callable[..., Any], args: tuple[Any, ...]) -> Packed | None:
    """The same where no code of the program has to run for it; ``None`` where some might, or where it can't be sent."""
    args = tuple([PickleBuffer(arg) if type(arg) is bytes and len(arg) > _LARGE else arg for arg in args])
    try:
        buffers: list[PickleBuffer] = []
        data = codeless.dumps((function, args, {}), lambda buffer: _apart(buffer, buffers))
        if b"__main__" in data or any(out_of_reach(arg) is not None for arg in args):
            return None
    except Exception:
        return None
    return data, buffers


def _apart(buffer: PickleBuffer, buffers: list[PickleBuffer]) -> bool:
    """Only what can't change until it is sent is sent from where it is; the rest is copied now."""
    if buffer.raw().readonly:
        buffers.append(buffer)
        return False
    return True


@bears
def by_value(value: Any, buffers: list[PickleBuffer], apart: Iterable[ModuleType] = ()) -> bytes:
    """Pickle with the code of functions and classes, if they are of the main script, local, or of a module `apart`."""
    cloudpickle: Any = import_module("cloudpickle")
    registered = []
    for module in apart:
        with _registering:
            if module.__name__ in _registered or module.__name__ not in cloudpickle.list_registry_pickle_by_value():
                if not _registered[module.__name__]:
                    cloudpickle.register_pickle_by_value(module)
                _registered[module.__name__] += 1
                registered.append(module)
    try:
        return dumps(value, lambda buffer: _apart(buffer, buffers))
    finally:
        for module in registered:
            with _registering:
                _registered[module.__name__] -= 1
                if not _registered[module.__name__]:
                    del _registered[module.__name__]
                    cloudpickle.unregister_pickle_by_value(module)


def out_of_reach(part: object) -> ModuleType | None:
    """The module of a function or an object, if a worker could not import it by its name: it was loaded by its path."""
    if type(part) in _PLAIN:
        return None
    while isinstance(part, functools.partial):
        part = part.func
    name = getattr(part, "__module__", None) if isinstance(part, _NAMED) else type(part).__module__
    if name in FOUND:
        return None
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or name == "__main__" or _can_import(module):
        if isinstance(name, str):
            FOUND.add(name)
        return None
    return module


def _can_import(module: ModuleType) -> bool:
    name, file = module.__name__, getattr(module, "__file__", None)
    folders = getattr(module, "__path__", None)
    if file is None and folders is None:
        return True  # of C
    above, _, _ = name.rpartition(".")
    parent = sys.modules.get(above)
    path = getattr(parent, "__path__", None) if above else None
    if above and path is None:
        return False
    try:
        spec = PathFinder.find_spec(name, None if path is None else list(path))
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    if file is None:  # a namespace, which may have been put there for the sake of a module that was loaded by its path
        found = {os.path.realpath(folder) for folder in spec.submodule_search_locations or ()}
        is_found = found.issuperset(map(os.path.realpath, folders or ()))
    else:
        is_found = spec.origin is not None and os.path.realpath(spec.origin) == os.path.realpath(file)
    return is_found and (parent is None or _can_import(parent))


_NAMED = (FunctionType, BuiltinFunctionType, MethodType, type, type(functools.lru_cache(len)))
_PLAIN = frozenset({bool, bytes, complex, dict, float, int, list, set, str, tuple, type(None)})
#: names of modules that a worker can import
FOUND = {"builtins"}


def error_may_block(data: Any) -> bool:
    """Whether unpacking that error may take long: it is large, or runs code that is not Python's own."""
    return may_block(data) or parts_may_block(attempt(pickle.loads, data)[0])


def unpack_error(data: Any, name: str) -> BaseException:
    """The error that the function raised, with its traceback there as the cause."""
    form, text = load(data)
    error = _rebuilt(form)
    if is_a(error, StopIteration):  # a future can't hold it
        error = RuntimeError(f"{name} raised StopIteration")
    if is_a(error, (SystemExit, KeyboardInterrupt)):  # meant for the process that it ran in, not for ours
        error = WorkerDied(f"{name} ended its process: it raised {error!r}", status=_status(error))
    if not is_a(error, CancelledError):
        error.__cause__ = RemoteTraceback(text)
    return error


def _status(error: BaseException) -> int | None:
    """The exit status that a process has which such an error ends."""
    code = error.code if isinstance(error, SystemExit) else 1
    return 0 if code is None else code if isinstance(code, int) else 1


def _rebuilt(form: tuple[Any, ...]) -> BaseException:
    """An error from the form in which it was sent (`_child/answers.py`)."""
    sort, *rest = form
    if sort == "whole":
        try:
            found = load(rest[0])
        except Exception as problem:
            return RuntimeError(f"an error that can't be unpickled here: {problem}")
        return found if isinstance(found, BaseException) else RuntimeError(repr(found))
    if sort == "text":
        return _with_state(RuntimeError(rest[0]), rest[1])
    kind = _loaded(rest[0])
    if sort == "members":
        message, members, state = rest[2:]
        errors = [_rebuilt(member) for member in members]
        for make in (kind, BaseExceptionGroup):
            try:
                return _with_state(make(message, errors), state)
            except Exception:
                continue
    name, args, state = rest[1:]
    try:
        made: BaseException = BaseException.__new__(kind, *map(_loaded, args))
    except Exception:
        return _with_state(RuntimeError(name), state)
    return _with_state(made, state)


def _with_state(error: BaseException, state: dict[str, bytes]) -> BaseException:
    for key, value in state.items():
        with contextlib.suppress(Exception):
            error.__dict__[key] = load(value)
    return error


def _loaded(data: bytes | None) -> Any:
    try:
        return None if data is None else load(data)
    except Exception:
        return None
