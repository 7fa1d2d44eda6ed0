"""Looks at where all threads stand, which on an early Python 3.11 must not come upon the collection of garbage.

`sys._current_frames` and `sys._current_exceptions` hold a lock of the interpreter while they make objects, and up to 3.11.8
that may begin a collection, which runs code of Python: finalizers, callbacks of weak references. As soon as that lets
another thread run which wants the same lock, to begin or to end, all threads wait for ever (cpython#106883).
"""

import gc
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat, starmap
from operator import attrgetter, itemgetter
from sys import version_info
from typing import TypeVar

__all__ = ["looks"]

T = TypeVar("T")
_MAY_HANG = version_info < (3, 11, 9)


def looks(at: Callable[[], dict[int, T]]) -> Iterator[dict[int, T]]:
    """What one of the two tells, as often as it is asked for: each time in one step of C, with no frame of ours in it."""
    if not _MAY_HANG or not gc.isenabled():
        return iter(at, None)  # it never tells nothing
    never, once, always = starmap(gc.disable, repeat(())), starmap(at, repeat(())), starmap(gc.enable, repeat(()))
    three = map(partial(partial, len), never, once, always)  # not `zip`, which holds what it told last
    return map(itemgetter(1), map(attrgetter("args"), three))
