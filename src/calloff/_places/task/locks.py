"""How force brings a coroutine out of its wait for a lock without harm to others, who wait for the same one.

A lock of asyncio wakes the first who waits for it. Where that one is cancelled in that moment, it wakes the next, and what
waits for a lock of anyio leaves the queue; both do so in an ``except CancelledError``, which `StopForced` alone would pass
by. Nobody would ever have the lock again, and a semaphore would have one place less. So there an exception is raised that
is both, as in all code that `repairs`, and to the very last. Code of the body that swallows it as a `CancelledError` gets
`StopForced` in the very same step, before any other task can have woken it; code of a child task a moment later.

And what waits for a condition takes the lock of that once more before it goes on, whatever is raised in it; who leaves that
without the lock gives back somebody else's in the next ``__aexit__``. So nothing is raised there at all until it has it.
"""

from asyncio import CancelledError

from ..._words.errors import StopForced
from .stack import parts_of

__all__ = ["TAKEN_SOON", "ForcedOut", "takes_lock_again", "waits_for_lock"]

#: seconds until it is looked again whether who takes the lock of a condition again has it by now
TAKEN_SOON = 0.02
_MODULES = frozenset({"anyio._backends._asyncio", "anyio._core._synchronization", "asyncio.locks"})
_TAKES = frozenset({"acquire", "acquire_on_behalf_of"})
_TAKES_AGAIN = "Condition.wait"


class ForcedOut(CancelledError, StopForced):
    """Force, for what puts things in order when it is cancelled: what waits for a lock, or repairs something.

    Attributes:
        is_last: whether the next one is `StopForced`, whatever may be there to be put in order.
    """

    is_last = False


def waits_for_lock(chain: list[object]) -> bool:
    """Return whether a suspended coroutine, given with all that it awaits, waits for a lock or semaphore."""
    return any(name.rpartition(".")[2] in _TAKES for name in _names(chain))


def takes_lock_again(chain: list[object]) -> bool:
    """Return whether a suspended coroutine waits for the lock of a condition, which it gave back when it began to wait."""
    names = _names(chain)
    return _TAKES_AGAIN in names and any(
        name.rpartition(".")[2] in _TAKES for name in names[names.index(_TAKES_AGAIN) :]
    )


def _names(chain: list[object]) -> list[str]:
    """Return the functions of locks that it is in, outermost first."""
    frames = [parts[0] for part in chain if (parts := parts_of(part)) is not None]
    return [
        frame.f_code.co_qualname
        for frame in frames
        if frame is not None and dict.get(frame.f_globals, "__name__") in _MODULES
    ]
