"""Several items of a map in one job of a worker, each with its own result, limit and culprit.

The results go into a *spool*, a file in memory that the owner has made: what is there is known, whatever becomes of the
worker. At its head stand how many items have begun and since when the last one of them runs, so the owner can tell which
item is to blame when the job is stopped or the worker dies, and when the limit of that item passes.

The owner asks only when it has seen, after that point, that the item has no result. So an item that came to its end in
time is followed by the next one, and an item that ended late ends the job: an asking never hits an innocent item.
"""

import mmap
import os
import pickle
import sys
import zlib
from asyncio import CancelledError
from collections.abc import Callable
from struct import Struct
from time import monotonic
from typing import Any

from .answers import in_one

__all__ = ["HEAD", "MARK", "RECORD", "one", "run"]

#: at the head of a spool: since when the last item that has begun runs; how many have begun
HEAD = Struct("<dq")
#: before each result: its length, whether it is a value, when the item ended
RECORD = Struct("<q?d")
#: tells the owner that there is something to be read
MARK = "calloff: a batch has got on"
#: seconds between two such words
_SILENCE = 0.01

_functions: dict[bytes, Callable[[Any], Any]] = {}


def one(function: bytes, item: Any) -> Any:
    """Call the function with one item."""
    return _unpacked(function)(item)


def run(function: bytes, items: list[Any], path: str, limit: float | None, name: str) -> tuple[bool, bytes] | None:
    """Call the function with each item.

    Args:
        function: its pickle, compressed.
        items: what it is called with.
        path: of the spool.
        limit: seconds that an item may take.
        name: that of the function, for errors.

    Returns:
        The result of an item that left processes behind, which have to be killed before the result may be told; else
        ``None``.
    """
    call = _unpacked(function)
    inside = sys.modules.get("_calloff._child.inside")
    operation: Any = None if inside is None else inside.operation
    left_behind: Any = sys.modules["_calloff._child.worker"]._has_descendants if inside is not None else bool
    spool = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    try:
        with mmap.mmap(spool, HEAD.size) as head:
            told = 0.0
            began = monotonic()
            for number, item in enumerate(items, 1):
                HEAD.pack_into(head, 0, began, number)
                due = began + (limit or 0.0)
                if operation is not None:
                    operation._deadline = None if limit is None else due
                    if began - told >= _SILENCE:
                        told = began
                        operation._send(b"P", MARK)
                answer = _answer(call, item, name)
                ended = monotonic()
                if left_behind():
                    return answer
                fine, data = answer
                os.write(spool, RECORD.pack(len(data), fine, ended) + data)
                began = monotonic()
                if limit is not None and began >= due:
                    break  # the owner may be about to ask
                if operation is not None and operation.asked is not None:
                    break  # it was asked and went on
    finally:
        os.close(spool)
    return None


def _answer(call: Callable[[Any], Any], item: Any, name: str) -> tuple[bool, bytes]:
    try:
        value = call(item)
    except CancelledError:  # an asking, or the function's own: the job ends with it
        raise
    except BaseException as error:
        return in_one("error", error, name)
    return in_one("value", value, name)


def _unpacked(function: bytes) -> Callable[[Any], Any]:
    found = _functions.get(function)
    if found is None:
        found, _, _ = pickle.loads(zlib.decompress(function))
        if len(_functions) > 16:
            _functions.clear()
        _functions[function] = found
    return found
