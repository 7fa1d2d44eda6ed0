"""What the guard of a worker is told of the limits of a job, should the owner not come to look at a clock itself."""

from asyncio import AbstractEventLoop
from time import monotonic
from typing import Any

from ..._child.wire import SLACK, reminder
from ..._words.place import Sink
from ..kept import Guarded

__all__ = ["Limits"]

#: seconds that a job has to reach its worker before the guard looks there for its limits
_ON_ITS_WAY = 1.0


class Limits:
    """Tells the guard of a worker, and has it woken no more than needed.

    The limits of a job go with the job, and the worker notes them where its guard can read them. So a letter is due only
    for limits that pass before those that came in the letter before: at these the guard reads what counts then.

    Args:
        guarded: the way to the guard.
    """

    __slots__ = ("_guarded", "_rings_at")

    def __init__(self, guarded: Guarded) -> None:
        self._guarded = guarded
        #: when the guard looks at its clock for us
        self._rings_at = 0.0

    def plan(self, number: int, sink: Sink, loop: AbstractEventLoop) -> tuple[float, float] | None:
        """What goes with a job that begins: when force is due at the latest, and its deadline; ``None`` without one."""
        deadline = sink.deadline
        if deadline is None or (force_at := sink.force_at) is None:
            return None
        now = monotonic()
        here = now - loop.time()
        force_at += here + SLACK
        deadline += here
        if not now + _ON_ITS_WAY < self._rings_at <= min(force_at, deadline + SLACK):
            self.tell(number, sink, loop)
        return force_at, deadline

    def tell(self, number: int, sink: Sink, loop: AbstractEventLoop, *before: tuple[Any, ...]) -> None:
        """Leave with the guard when force is due at the latest, and with the function what its deadline is.

        Letters that are due before that one go with it: the guard wakes up once.
        """
        force_at, deadline = sink.force_at, sink.deadline
        here = monotonic() - loop.time()
        force_at = None if force_at is None else force_at + here + SLACK
        asking = None
        if deadline is not None:
            deadline += here
            if sink.reason is None:  # should we not come to it, the guard asks
                asking = reminder(deadline)
        self._rings_at = min(force_at or 0.0, 0.0 if asking is None else asking[0])
        self._guarded.write_all(*before, ("limit", number, force_at, deadline, asking))
