"""Ends what blocks the event loop and catches everything: an exception that is raised again wherever it was caught.

What has swallowed `StopForced` for as long as the ladder allows is not asked any more. From then on the exception is
raised anew before each further instruction of the body, and of what it called: so it leaves every ``try``, however many
there are and whatever they catch, and so does what C code has dropped (in a destructor, or a callback of the garbage
collector). At first ``except``, ``finally`` and the ends of ``with`` blocks are let alone until they end, so that locks
are given back. After `_PATIENCE` seconds nothing is.

The same look at each instruction finds the next moment at which an exception does no harm, where those at which the
interpreter looks for signals are none (`Seek`). That lets a ``finally`` that has begun, or comes next, alone as long: right
behind ``return f()`` the ``try`` has been left already.
"""

from collections.abc import Callable
from itertools import dropwhile, islice
from time import thread_time
from types import FrameType

from ..._child.bytecode import handles, is_finally
from ..._child.moments import is_fit
from ..._words.errors import StopForced
from .stepping import Steps, steps_of

__all__ = ["Seek", "Tear", "is_in_finally"]

#: how long handlers and each ``finally`` are let alone, in seconds
_PATIENCE = 0.1
#: so many frames are looked at, from the one on top
_DEEP = 50


def is_in_finally(frames: list[FrameType], top: FrameType) -> bool:
    """Whether one of the frames, from `top` on outwards, is in a ``finally``, or comes to one next."""
    outwards = islice(dropwhile(lambda frame: frame is not top, frames), _DEEP)
    return any(is_finally(frame.f_code, frame.f_lasti) for frame in outwards)


class Tear:
    """Raises `StopForced` in frames until they are left.

    Args:
        frames: those of the body, from the one on top to its own.
        now: the clock.
        former: the one before, whose frames may have changed meanwhile.
    """

    def __init__(self, frames: list[FrameType], now: Callable[[], float], former: "Tear | None") -> None:
        self._frames = frames
        self._now = now
        self._until: float = now() + _PATIENCE if former is None else former._until
        self._handler: FrameType | None = None
        self._steps: Steps | None = steps_of(frames, self._act)

    def _act(self, frame: FrameType) -> None:
        if self._now() < self._until:
            if handles(frame.f_code, frame.f_lasti):
                self._handler = frame
                return
            if is_in_finally(self._frames, frame):
                return
            # right behind a handler that has swallowed it nothing has been taken that would have to be given back
            if frame is not self._handler and not is_fit(frame, before=True):
                return
        raise StopForced

    def end(self) -> None:
        """The body has been left, or waits."""
        self._handler = None
        self._frames = []
        if self._steps is not None:
            self._steps.end()


class Seek:
    """Runs `act`, once, as soon as one of the frames comes to where an exception does no harm; raises what it returns.

    Args:
        frames: those of the body, from the one on top to its own.
        act: what is to be done there.
        used: the clock by which a ``finally`` is let alone for `_PATIENCE`, which stands still while the machine gives the
            thread no turn. Who waits in one does not use it up; the interrupter sees to that.
    """

    def __init__(
        self,
        frames: list[FrameType],
        act: Callable[[], BaseException | None],
        used: Callable[[], float] = thread_time,
    ) -> None:
        self._frames = frames
        self._used = used
        self._until: float = used() + _PATIENCE
        self._look = act
        self._steps: Steps | None = steps_of(frames, self._act)

    def _act(self, frame: FrameType) -> None:
        if not is_fit(frame, before=True):
            return
        if is_in_finally(self._frames, frame) and self._used() < self._until:
            return
        self.end()
        error = self._look()
        if error is not None:
            raise error

    def end(self) -> None:
        """It is not needed any more."""
        self._frames = []
        if self._steps is not None:
            self._steps.end()
