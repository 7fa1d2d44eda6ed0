"""Several items of a map in one job of a worker, each with its own result, limit and culprit.

The results go into a *spool*, memory that the owner shares with the worker: what is there is known, whatever becomes of
the worker. At its head stand how many results there are and how far they go, in one number, and how many items have begun,
and when the last of them did; so the owner can tell which item is to blame when the job is stopped or the worker dies, and
when the limit of that item passes. A result counts from the one step in which that number is written.

The owner asks only when it has seen, after that point, that the item has no result. After every result the worker looks
whether the limit of that item has passed meanwhile, and goes no further then. So an asking never hits the next item.

A result may be told when nothing is left of what its item has started. That is looked after every 30 ms, when the owner
is told, too; up to where it is certain, the head says. When something is left, the job ends, so that it is killed.

Behind a slow item nothing has to wait: the owner says in the head that it is the last, and sees then that it still runs.

Items that are more than plain values are unpickled one by one, each as a part of its own call: what their code does then,
ends, hangs or raises, is theirs. A child that an item has forked and that comes back here leaves at once, without a word.
"""

import marshal
import mmap
import os
import pickle
import sys
import zlib
from asyncio import CancelledError
from collections.abc import Callable
from functools import partial
from struct import Struct
from time import monotonic
from typing import Any

from .answers import in_one
from .memory import bounded

__all__ = ["COUNT", "ENDS", "END_HERE", "FIRST", "HEAD", "MARK", "MOST", "SIZE", "from_afar", "one", "run"]

#: at the head of a spool: how many results there are, and where they end; how many items have begun; when the last of them
#: did; how many of the results may be told, and where these end; since when the first item ran; whether the item that runs
#: is the last
HEAD = Struct("@qqdqd?7x")
_RESULTS, _BEGUN, _BEGAN, _CERTAIN, _BEGIN = range(5)
END_HERE = 40
#: by how many bits the number of results stands above where they end
COUNT = 32
#: behind it, at this number of 8 bytes, when each item ended; so many items have room there
ENDS, MOST = HEAD.size // 8, 1 << 14
#: and behind that, from this byte on, the results, which `marshal` reads as if they were elements of a list: plain values,
#: or tuples. Of these the first element says whether there is a value, the second is the pickle of that or of the error.
FIRST = 8 * (ENDS + MOST)
_PLAIN = frozenset({bool, bytes, complex, float, int, str, type(None)})
#: a version in which each object stands for itself
_VERSION = 2
#: the bytes of a spool
SIZE = FIRST + (1 << 20)
#: tells the owner that there is something to be read
MARK = "calloff: a batch has got on"
#: seconds between two such words
_SILENCE = 0.03

#: holds something in a child that an item has forked
_in_child: list[bool] = []
_is_noted = False
_functions: dict[bytes, Callable[[Any], Any]] = {}


def one(function: bytes, item: Any, memory: int | None = None) -> Any:
    """Call the function with one item; an async one gives a coroutine."""
    call = _unpacked(function)
    return call(item) if memory is None else bounded(call, memory)(item)


def run(
    function: bytes, items: bytes | list[Any], path: str, limit: float | None, name: str, memory: int | None = None
) -> tuple[Any] | None:
    """Call the function with each item.

    Args:
        function: its pickle, compressed.
        items: what it is called with: the pickle of a list of plain values, or a list with each sealed by itself.
        path: of the spool.
        limit: seconds that an item may take.
        name: that of the function, for errors.
        memory: bytes that an item may take.

    Returns:
        The result of an item for which the spool had no room, as what would stand there; else ``None``.
    """
    call = _unpacked(function)
    each: list[Any]
    if isinstance(items, bytes):
        each = pickle.loads(items)
    else:
        each, call = items, partial(_opened, call)
    if memory is not None:
        call = bounded(call, memory)
    _note_forks()
    inside: Any = sys.modules.get("_calloff._child.inside")
    operation = None if inside is None else inside.operation
    left_behind: Any = bool if inside is None else sys.modules["_calloff._child.around"].has_descendants
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        spool = mmap.mmap(file, SIZE)
    finally:
        os.close(file)
    with spool, memoryview(spool) as view, view.cast("q") as whole, view.cast("d") as real:
        at, dumps = FIRST, marshal.dumps
        began = due = monotonic()
        real[_BEGIN] = began
        for number, item in enumerate(each, 1):
            if began >= due:
                if left_behind():
                    break  # with the end of the job it is killed
                whole[_CERTAIN] = whole[_RESULTS]
                due = began + _SILENCE
                if operation is not None:
                    operation._send(b"P", MARK)
            if limit is not None and operation is not None:
                operation._deadline = began + limit
            real[_BEGAN] = began
            whole[_BEGUN] = number
            try:
                value = call(item)
            except CancelledError:  # an asking, or the function's own: the job ends with it
                raise
            except BaseException as error:
                if _in_child:
                    raise
                value = in_one("error", error, name)
            else:
                if _in_child:
                    break
                if type(value) not in _PLAIN:
                    value = _pickled(value, name)
            data = dumps(value, _VERSION)
            ended = monotonic()
            after = at + len(data)
            if after > SIZE:
                return (value,)
            spool[at:after] = data
            real[number + _LAST] = ended
            at = after
            whole[_RESULTS] = number << COUNT | at
            now = monotonic()
            if limit is not None and now >= began + limit:
                break  # the owner may be about to ask
            if operation is not None and operation.asked is not None:
                break  # it was asked and went on
            if view[END_HERE]:
                break  # it was a slow one, and those behind it have gone elsewhere
            began = now
    return None


def from_afar(path: str, call: bytes) -> tuple[Any] | None:
    """Do the same for an owner on another machine, who does not know the spool: its agent here has it, and reads it."""
    function, items, limit, name = pickle.loads(call)
    return run(function, items, path, limit, name)


#: where the end of an item stands, less its number, which counts from 1
_LAST = ENDS - 1


def _pickled(value: Any, name: str) -> tuple[bool, bytes]:
    """A value, or the error that says why it can't be sent."""
    try:
        data = pickle.dumps(value, 5)
    except Exception:
        data = b"__main__"
    return in_one("value", value, name) if b"__main__" in data else (True, data)


def _note_forks() -> None:
    """From now on know of a child that it is one, without a call of the system for each item."""
    global _is_noted
    if not _is_noted:
        _is_noted = True
        os.register_at_fork(after_in_child=partial(_in_child.append, True))


def _opened(function: Callable[[Any], Any], sealed: tuple[Any, list[Any]]) -> Any:
    """Call it with an item that was sealed by itself."""
    data, buffers = sealed
    try:
        _, (_, item), _ = pickle.loads(data, buffers=buffers)
    except Exception as error:
        error.add_note("while the item was unpickled in the worker process")
        raise
    return function(item)


def _unpacked(function: bytes) -> Callable[[Any], Any]:
    found = _functions.get(function)
    if found is None:
        found, _, _ = pickle.loads(zlib.decompress(function))
        if len(_functions) > 16:
            _functions.clear()
        _functions[function] = found
    return found
