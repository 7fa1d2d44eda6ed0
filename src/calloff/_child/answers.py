"""What came of a function, as it is sent back: the value, or the error in whatever form it can be sent."""

import pickle
import traceback
from collections.abc import Callable
from typing import Any

from . import by_value

__all__ = ["in_one", "packed"]

#: characters at either end of the text of a traceback that are sent; the error itself is sent as it is
_SHOWN = 1 << 17
#: what the code of a value may raise; a request to stop is none of it
_RAISED = (Exception, SystemExit, GeneratorExit)


def packed(kind: str, value: Any, name: str) -> tuple[str, bytes, list[pickle.PickleBuffer]]:
    """The result as a pickle with its large buffers apart; no request to stop arrives any more, whatever is raised here."""
    try:
        return _packed(kind, value, name)
    except BaseException as error:
        wrong = TypeError(f"what came of {name} can't be sent back: packing it raised {type(error).__qualname__}")
        return "error", _packed_error(wrong), []


def _packed(kind: str, value: Any, name: str) -> tuple[str, bytes, list[pickle.PickleBuffer]]:
    if kind == "cancelled":
        return kind, b"", []
    if kind == "error":
        return kind, _packed_error(value), []
    buffers: list[pickle.PickleBuffer] = []
    whole = pickle.PickleBuffer(value) if type(value) in (bytes, bytearray) and len(value) > 1 << 16 else value
    try:
        return kind, _dumps(whole, buffers), buffers
    except _RAISED as error:
        wrong = TypeError(f"the result of {name} can't be sent back: {type(value).__qualname__}: {error}")
        return "error", _packed_error(wrong), []


def in_one(kind: str, value: Any, name: str) -> tuple[bool, bytes]:
    """Whether it is a value, and its pickle with everything in it."""
    if kind == "error":
        return False, _packed_error(value)
    try:
        return True, _dumps(value)
    except _RAISED as error:
        wrong = TypeError(f"the result of {name} can't be sent back: {type(value).__qualname__}: {error}")
        return False, _packed_error(wrong)


def _dumps(value: Any, buffers: list[pickle.PickleBuffer] | None = None) -> bytes:
    callback: Callable[[Any], Any] | None = None if buffers is None else buffers.append
    try:
        data = pickle.dumps(value, 5, buffer_callback=callback)
        if b"__main__" not in data:
            return data
    except Exception:
        pass
    if buffers is not None:
        buffers.clear()
    return by_value.dumps(value, callback)


def _packed_error(error: BaseException) -> bytes:
    """The error, in the form in which it can be sent, and the text of its traceback."""
    try:
        lines = traceback.TracebackException(type(error), error, _users(error), compact=True).format()
        text = "".join(lines)
    except Exception:
        text = f"{_name_of(error)}\n"
    if len(text) > 2 * _SHOWN:
        left_out = f"\n... ({len(text) - 2 * _SHOWN} characters are left out) ...\n"
        text = text[:_SHOWN] + left_out + text[-_SHOWN:]
    return pickle.dumps((_form(error), text), 5)


def _form(error: BaseException) -> tuple[Any, ...]:
    """An error as ``(form, ...)`` of bytes and texts: "whole", its "members" (of a group), its "parts", or as "text"."""
    try:
        whole = _dumps(error)
        pickle.loads(whole)  # many an exception can be pickled and not be unpickled
        return "whole", whole
    except _RAISED:
        pass
    name = _name_of(error)
    kind = _attempt(type(error))
    state = {key: sent for key, value in vars(error).items() if (sent := _attempt(value)) is not None}
    if isinstance(error, BaseExceptionGroup):
        return "members", kind, name, error.message, [_form(member) for member in error.exceptions], state
    args = [sent if (sent := _attempt(arg)) is not None else _dumps(_text(arg)) for arg in error.args]
    if kind is None:
        return "text", name, state
    return "parts", kind, name, args, state


def _attempt(value: Any) -> bytes | None:
    """The pickle of something, if it can be pickled and unpickled again."""
    try:
        data = _dumps(value)
        pickle.loads(data)
    except _RAISED:
        return None
    return data


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__qualname__}>"


def _name_of(error: BaseException) -> str:
    """Type and text."""
    return f"{type(error).__module__}.{type(error).__qualname__}: {_text(error)}"


def _users(error: BaseException) -> Any:
    """The traceback without our own frames at its beginning."""
    step = error.__traceback__
    while step is not None and step.tb_frame.f_globals.get("__name__") in _OURS:
        step = step.tb_next
    return step or error.__traceback__


_OURS = (__name__, f"{__package__}.worker", "calloff._child.batch")
