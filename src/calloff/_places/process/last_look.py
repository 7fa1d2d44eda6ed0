"""Where the function of a worker is that is about to be killed."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from contextvars import Context

from ..._child.wire import DUMP
from ..looking import Looker

__all__ = ["LastLook"]

#: seconds that a worker gets at most to show where it is: it does so in C, as soon as it has a turn
_PATIENCE = 0.2


class LastLook:
    """Has C write where a worker is, and waits for that.

    C finds the frames half made, and crashes, when Python code is just making them: so that worker is killed next, or
    else not used again.
    """

    __slots__ = ("_looker", "_timer", "is_asked")

    def __init__(self, looker: Looker) -> None:
        self._looker = looker
        self._timer: TimerHandle | None = None
        #: whether C was to write, which the worker may have died of
        self.is_asked: bool = False

    def ask(self) -> bool:
        """Have it written; whether it will be."""
        self.is_asked = self.is_asked or self._looker.signal(DUMP)
        return self.is_asked

    def wait(self, loop: AbstractEventLoop, done: Callable[[], None]) -> bool:
        """Call `done` when it was written, or takes too long; ``False`` when there is nothing to wait for."""
        looker = self._looker
        if looker.stack() is not None or not self.ask() or not looker.has_state("R", "S"):
            return False
        self._timer = Context().run(loop.call_later, _PATIENCE, done)
        Context().run(loop.add_reader, looker.stacks, self._came, done)
        return True

    def _came(self, done: Callable[[], None]) -> None:
        """Something of it."""
        if self._looker.has_stack():
            done()
            self._looker.stack()  # read while the worker dies

    def end(self, loop: AbstractEventLoop) -> None:
        """No more waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            if self._looker.stacks >= 0 and not loop.is_closed():
                loop.remove_reader(self._looker.stacks)
