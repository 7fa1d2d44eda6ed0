"""What is sent to a worker and what comes back, as pickles; the other end of it is in `_child/worker.py`."""

import io
import pickle
from asyncio import CancelledError
from collections.abc import Callable
from importlib import import_module
from pickle import PickleBuffer
from typing import Any

__all__ = ["RemoteTraceback", "pack", "unpack_error"]

#: from how many bytes on a `bytes` object is sent as it is, not as a part of the pickle
_LARGE = 1 << 16

Packed = tuple[bytes, list[PickleBuffer]]


class RemoteTraceback(Exception):
    """The traceback in the worker process, as text: the ``__cause__`` of an error that came from there."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def pack(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Packed:
    """A call as a pickle: by reference where that will do, by value (cloudpickle) where it will not.

    Raises:
        TypeError: something of it can't be sent; the text says what.
    """
    args = tuple([PickleBuffer(arg) if type(arg) is bytes and len(arg) > _LARGE else arg for arg in args])
    call = (function, args, kwargs)
    try:
        buffers: list[PickleBuffer] = []
        data = pickle.dumps(call, 5, buffer_callback=lambda buffer: _apart(buffer, buffers))
        if b"__main__" not in data:
            return data, buffers
    except Exception:  # a lambda, a local function, or something that can't be sent at all
        pass
    try:
        buffers = []
        return _by_value(call, buffers), buffers
    except Exception as error:
        raise TypeError(_culprit(function, args, kwargs, name, error)) from error


def _apart(buffer: PickleBuffer, buffers: list[PickleBuffer]) -> bool:
    """Only what can't change until it is sent is sent from where it is; the rest is copied now."""
    if buffer.raw().readonly:
        buffers.append(buffer)
        return False
    return True


def _by_value(value: Any, buffers: list[PickleBuffer]) -> bytes:
    cloudpickle: Any = import_module("cloudpickle")
    file = io.BytesIO()
    cloudpickle.Pickler(file, 5, buffer_callback=lambda buffer: _apart(buffer, buffers)).dump(value)
    return file.getvalue()


def _culprit(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str, error: Exception
) -> str:
    parts = [("the function", function)]
    parts += [(f"argument {number}", arg) for number, arg in enumerate(args, 1)]
    parts += [(f"argument {key!r}", arg) for key, arg in kwargs.items()]
    for what, part in parts:
        try:
            _by_value(part, [])
        except Exception as reason:
            of = "" if part is function else f" ({type(part).__module__}.{type(part).__qualname__})"
            return f"{name} can't be sent to a process: {what}{of} can't be pickled: {reason}"
    return f"{name} can't be sent to a process: {error}"


def unpack_error(data: Any, name: str) -> BaseException:
    """The error that the function raised, with its traceback there as the cause."""
    whole, text = pickle.loads(data)
    try:
        found: Any = pickle.loads(whole)
    except Exception as problem:
        found = f"{text.strip().splitlines()[-1]} (the error itself can't be unpickled here: {problem})"
    error: BaseException
    if isinstance(found, BaseException):
        error = found
    elif isinstance(found, tuple):  # an error whose own pickle can't be unpickled
        kind, args, state = found
        error = kind.__new__(kind, *args)
        error.args = args
        error.__dict__.update(state)
    else:
        error = RuntimeError(found)
    if isinstance(error, StopIteration):  # a future can't hold it
        error = RuntimeError(f"{name} raised StopIteration")
    if not isinstance(error, CancelledError):
        error.__cause__ = RemoteTraceback(text)
    return error
