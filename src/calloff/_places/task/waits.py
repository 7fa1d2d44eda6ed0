"""The functions of asyncio that wait for futures without awaiting them: known by their code, found in their frames."""

import asyncio
import gc
import sys
from types import FrameType, GeneratorType
from typing import Any

from .objects import FUTURES, fields, handlers_of, is_a, is_done, own_self, pending

__all__ = ["WAIT_FORS", "WATCHES", "waited_for", "watched_by"]

_tasks = sys.modules["asyncio.tasks"]
#: asyncio's own, which are kept as long as they are known by their id
_WAIT_CODES = (asyncio.wait_for.__code__, _tasks._cancel_and_wait.__code__)
WAIT_FORS = frozenset(map(id, _WAIT_CODES))
#: of `asyncio.wait`, `asyncio.as_completed` and servers: with the name under which each keeps its futures
_WATCH_CODES = {_tasks._wait.__code__: "fs", asyncio.Server.wait_closed.__code__: "self"}
if hasattr(_tasks, "_AsCompletedIterator"):
    _WATCH_CODES[_tasks._AsCompletedIterator._wait_for_one.__code__] = "_todo"
else:  # until Python 3.12
    _inner = asyncio.as_completed.__code__.co_consts
    _WATCH_CODES.update({code: "todo" for code in _inner if getattr(code, "co_name", "") == "_wait_for_one"})
WATCHES = {id(code): name for code, name in _WATCH_CODES.items()}


def waited_for(frame: FrameType) -> Any:
    """Return the future that a `asyncio.wait_for` of Python 3.11 waits for by way of another one, until it is done."""
    if id(frame.f_code) in WAIT_FORS:
        future = frame.f_locals.get("fut")
        if is_a(future, FUTURES) and not is_done(future):
            return future
    return None


def watched_by(frame: FrameType, outer: object) -> tuple[Any, ...]:
    """Return the futures that are watched in `frame` and not done: of a wait for the end of a server, its handlers.

    Until Python 3.12 `asyncio.as_completed` is a generator, which is known only to the loop that goes through it, in the
    coroutine `outer`: it lies on the evaluation stack there, which the garbage collector sees.
    """
    name = WATCHES.get(id(frame.f_code))
    if name is None:
        return ()
    if name == "self":
        return handlers_of(own_self(frame))
    if name == "fs":
        return pending(frame.f_locals.get(name))
    if name == "_todo":
        return pending(fields(own_self(frame)).get(name))
    for part in gc.get_referents(outer):
        if type(part) is GeneratorType and part.gi_code is asyncio.as_completed.__code__ and part.gi_frame is not None:
            return pending(part.gi_frame.f_locals.get(name))
    return ()
