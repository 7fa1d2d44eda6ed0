"""A limit on the memory of one item, in the process that runs it.

What counts is the private memory that can be written (`RLIMIT_DATA`): what Python and its extensions allocate, not the
libraries that they map nor the addresses that they only reserve. An allocation beyond the limit fails, which Python code
sees as `MemoryError`; so nothing else of the machine is short of memory, and nobody else's process is picked by the kernel.
"""

import inspect
import os
from collections.abc import Callable, Coroutine
from typing import Any

from .._os import inherit

__all__ = ["bounded"]

#: not by an import: whoever finds that module loaded looks at all limits before and after each job
resource: Any = inherit.resource()
_WHICH: int = resource.RLIMIT_DATA
_PAGE = os.sysconf("SC_PAGESIZE")


def bounded(call: Callable[[Any], Any], most: int) -> Callable[[Any], Any]:
    """The same function, which may take `most` bytes more than the process has when it begins."""

    def limited(item: Any) -> Any:
        before = _lower(most)
        try:
            value = call(item)
        except MemoryError as error:
            _restore(before)
            raise _told(error, most) from error.__cause__
        finally:
            _restore(before)
        return _awaited(value, most) if inspect.iscoroutine(value) else value

    return limited


async def _awaited(coro: Coroutine[Any, Any, Any], most: int) -> Any:
    before = _lower(most)
    try:
        return await coro
    except MemoryError as error:
        _restore(before)
        raise _told(error, most) from error.__cause__
    finally:
        _restore(before)


def _lower(most: int) -> tuple[int, int]:
    """Set the limit; returned is the one before."""
    before: tuple[int, int] = resource.getrlimit(_WHICH)
    bounds = [each for each in before if each != resource.RLIM_INFINITY]
    resource.setrlimit(_WHICH, (min([_used() + most, *bounds]), before[1]))
    return before


def _restore(limits: tuple[int, int]) -> None:
    resource.setrlimit(_WHICH, limits)


def _used() -> int:
    """Bytes that count, as of now."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[5]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def _told(error: MemoryError, most: int) -> MemoryError:
    if error.args:
        return error
    return MemoryError(f"it wanted more than the {most} bytes that it may take").with_traceback(error.__traceback__)
