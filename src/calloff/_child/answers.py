"""What came of a function, as it is sent back: the value, or the error in whatever form it can be sent."""

import pickle
import traceback
from collections.abc import Callable
from typing import Any

__all__ = ["packed"]


def packed(kind: str, value: Any, name: str) -> tuple[str, bytes, list[pickle.PickleBuffer]]:
    """The result as a pickle with its large buffers apart."""
    if kind == "cancelled":
        return kind, b"", []
    if kind == "error":
        return kind, _packed_error(value), []
    buffers: list[pickle.PickleBuffer] = []
    whole = pickle.PickleBuffer(value) if type(value) in (bytes, bytearray) and len(value) > 1 << 16 else value
    try:
        return kind, _dumps(whole, buffers), buffers
    except Exception as error:
        wrong = TypeError(f"the result of {name} can't be sent back: {type(value).__qualname__}: {error}")
        return "error", _packed_error(wrong), []


def _dumps(value: Any, buffers: list[pickle.PickleBuffer] | None = None) -> bytes:
    callback: Callable[[Any], Any] | None = None if buffers is None else buffers.append
    try:
        data = pickle.dumps(value, 5, buffer_callback=callback)
        if b"__main__" not in data:
            return data
    except Exception:
        pass
    from importlib import import_module

    if buffers is not None:
        buffers.clear()
    by_value: bytes = import_module("cloudpickle").dumps(value, 5, buffer_callback=callback)
    return by_value


def _packed_error(error: BaseException) -> bytes:
    """The error (whole, or in parts, or as text: what can be sent) and the text of its traceback."""
    lines = traceback.TracebackException(type(error), error, _users(error), compact=True).format()
    text = "".join(lines)
    whole: bytes | None
    try:
        whole = _dumps(error)
        pickle.loads(whole)  # many an exception can be pickled and not be unpickled
    except Exception:
        whole = None
    if whole is None:
        try:
            whole = _dumps((type(error), error.args, dict(error.__dict__)))
        except Exception:
            whole = _dumps(f"{type(error).__module__}.{type(error).__qualname__}: {error}")
    return pickle.dumps((whole, text), 5)


def _users(error: BaseException) -> Any:
    """The traceback without our own frames at its beginning."""
    step = error.__traceback__
    while step is not None and step.tb_frame.f_globals.get("__name__") in _OURS:
        step = step.tb_next
    return step or error.__traceback__


_OURS = (__name__, f"{__package__}.worker")
