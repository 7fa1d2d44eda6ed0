"""One call of a blocking function in a thread, and the force that may end it there, and nowhere else.

`PyThreadState_SetAsyncExc` raises an exception in another thread "at its next bytecode": wherever that is. Left alone
it may hit after the function has returned, in the machinery around it, or in the next call that the thread serves.
Here it can't, for these reasons:

1. Force is sent under the call's gate, and only while `_ident` is set. The thread sets `_ident` under the gate before
   the function is called, and clears it in the step in which the function ends. A sender may be on the way then, so
   the thread passes the gate once more; after that nothing is sent.
2. What is on its way then is made to arrive at once, in `_leave`, by running a bytecode that looks for it.
3. Everything between the setting and that point stands in `run`, inside nested ``try``. The innermost one notes how the
   function ended and clears `_ident`, in lines that call nothing, so that nothing can arrive in them. After the
   clearing two exceptions can arrive at most: the one that waits already (a thread has room for one, the next takes its
   place) and that of the sender on the way. Each of them is caught by one of the outer two, which end the call again.
4. The function's value is never lost on the way out. The interpreter looks for such exceptions when a call returns to
   Python code, before the value is stored; so the function is called and its value stored within one instruction, by
   the `__missing__` of a `defaultdict`, which is C. A value that is there means that the function returned, whatever
   came later.

Force that arrives in a destructor or in a callback of the garbage collector is lost there: the interpreter prints it
and goes on. In the code of a lock it would leave it locked. So the frame on top is looked at first (`_child.moments`),
and force is sent in the same step of C in which frame and instruction are found to be still the ones that were looked
at: the thread can't have gone on. Where they are not fit, the thread gets a moment and is looked at anew.

From Python 3.15 on a thread that waits in a system call is brought out of it, too (`kick`). What stays in its call all the
same, or can't be kicked, may be waiting for a lock: force would arrive when it has that, with nobody to give it back. So
nothing is left on its way to a thread that sleeps in a call behind which a block begins.

The body sends it again, less and less often, until the function has ended. It is let alone while it handles one: its
clean-up is not cut short. A function that swallows force gets it again.
"""

import sys
from _thread import allocate_lock
from collections import defaultdict, deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from operator import methodcaller
from threading import Condition, get_ident, get_native_id
from time import monotonic, sleep
from types import CodeType, FrameType
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from ..._child.bytecode import enters, names_before
from ..._child.moments import Still, is_fit, is_importing, stays_fit
from ..._os.proc import sleep_of, waits_in
from ..._os.threads import looks
from ..._words.errors import StopForced
from ..._words.frame import RawFrame, RawStack
from ..._words.untouched import context_of, drop_frame, is_a
from .kick import kick, reaches
from .sending import Taken
from .sending import send as _send

__all__ = ["HIDDEN", "Call"]

#: code that calls the user's function, of whose stack it is no part; force does no harm there
HIDDEN: set[CodeType] = set()


class Call:
    """A call, seen from the thread that runs it (`run`) and from the event loop (the rest)."""

    __slots__ = (
        "_before",
        "_forced",
        "_gate",
        "_ident",
        "_kicked",
        "_kicks",
        "_native",
        "_still",
        "error",
        "moves",
        "swallowed",
        "value",
    )

    def __init__(self, function: Callable[[], Any]) -> None:
        #: holds the value, as the only one, from the moment the function returned
        self.value: defaultdict[int, Any] = defaultdict(function)
        #: what the function raised, when it has no value
        self.error: BaseException | None = None
        #: whether `StopForced` arrived in the function and did not end it
        self.swallowed: bool = False
        #: how many looks found that the thread had gone on since the one before
        self.moves: int = 0
        self._gate = allocate_lock()
        self._ident: int | None = None
        self._native = 0
        self._forced = False
        self._still = Still(_STILL)
        self._before: tuple[int, int] | None = None  # where the last look found it
        #: the call of C that it was to be kicked out of, and whether force was on its way then for the first time
        self._kicked: tuple[tuple[int, int], bool] | None = None
        #: how often it was
        self._kicks = 0

    # --- in the thread

    def run(self) -> None:
        """Call the function. Raises nothing, and nothing is raised in this thread after it."""
        try:
            try:
                try:
                    self._enter()
                    self.value[0]
                    self._ident = None
                except BaseException as error:
                    self.error = error
                    self._ident = None
                self._leave()
            except BaseException:  # force, too late
                self._leave()
                self.swallowed = False
        except BaseException:  # and once more
            self._leave()
            self.swallowed = False
        if self.value:
            self.error = None
        elif self.error is not None:
            drop_frame(self.error)  # this one, which holds the error

    def _enter(self) -> None:
        with self._gate:
            if self._forced:
                raise StopForced
            self._native = get_native_id()
            self._ident = get_ident()

    def _leave(self) -> None:
        """From here on nothing is sent, and what was sent before has arrived."""
        # One step of C: in 3.14 an exception can arrive between the __enter__ of a `with` and its block.
        deque(map(_call, (self._gate.acquire, self._gate.release)), 0)
        if self._forced:
            self.swallowed = not is_a(self.error, StopForced)
            try:
                _look()
            except StopForced:
                self.swallowed = False
            _send(get_ident(), Taken)

    # --- on the event loop

    def force(self, *, hasty: bool = False, left: bool = False) -> bool:
        """Raise `StopForced` in the function, if it is running; if it is about to run, it never will.

        Called again, it raises it once more, unless the function handles one now. It does nothing and returns ``False``
        when the thread was not found at a moment at which that does no harm.

        Args:
            hasty: only see to it that no lock of the standard library is left locked and nothing is lost.
            left: whether it was left behind: it may wait for ever, and nothing is to come in the moment in which it gets
                what it waits for.
        """
        with self._gate:
            ident = self._ident
            if ident is None or ident == get_ident():
                if ident is not None:
                    _send(ident, StopForced)
                self._forced = True
                return True
            if self._forced and self.is_handling(StopForced):
                return True
            self._take_back(ident)
            sent = self._aim(ident, hasty, left)
            self._forced = self._forced or sent
            if sent:  # the gate keeps the thread alive
                kick(ident)
            return sent

    def give_up(self) -> None:
        """Leave nothing on its way that would do harm when it arrives."""
        with self._gate:
            ident = self._ident
            if ident is None:
                return
            self._take_back(ident)
            frame = next(looks(sys._current_frames)).get(ident)
            if frame is not None and _gets(frame):
                _send(ident, None, frame, frame.f_lasti)

    def _take_back(self, ident: int) -> None:
        """Take back the force that the thread was kicked for, if that has not brought it out of its call."""
        kicked = self._kicked
        if kicked is None:
            return
        frame = next(looks(sys._current_frames)).get(ident)
        if frame is None or (id(frame), frame.f_lasti) != kicked[0]:
            self._kicked, self._kicks = None, 0
        elif _send(ident, None, frame, kicked[0][1]):
            self._forced = self._forced and not kicked[1]
            self._kicked = kicked[0], False

    def _aim(self, ident: int, hasty: bool, left: bool) -> bool:
        """Send it at a good moment; ``False`` when there was none."""
        nap, began = sleep_of(self._native), monotonic()
        with _quick_switches():
            for look in range(_LOOKS):
                if look:
                    sleep(0)  # the thread goes on
                frame = next(looks(sys._current_frames)).get(ident)
                if frame is None:
                    return False
                at = frame.f_lasti
                if left and _gets(frame):
                    return False
                place = id(frame), at
                self.moves += self._before is not None and self._before != place
                self._before = place
                waits = not look and self._still.look(frame, nap)
                kicks = hasty and waits and not _is_prepared(frame) and enters(frame.f_code, at)
                if kicks and not self._may_kick():
                    return False
                if _is_good(frame, at, waits, hasty) and _send(ident, StopForced, frame, at):
                    if kicks:
                        self._kicked = place, not self._forced
                        self._kicks += 1
                    return True
                if monotonic() - began > _BRIEF:  # the machine is busy: the loop has its turn before the next look
                    return False
        return False

    def _may_kick(self) -> bool:
        """Whether a kick is of use: once, and again where it is known to wait for no lock, and the machine is just busy."""
        if not reaches():
            return False
        if not self._kicks:
            return True
        waits = waits_in(self._native) if self._kicks < _KICKS else ""
        return waits != "" and "futex" not in waits

    def is_here(self) -> bool:
        """Whether the calling code runs in the thread of the function."""
        return self._ident == get_ident()

    def is_running(self) -> bool:
        """Whether the function is being called now."""
        return self._ident is not None

    def where(self) -> RawStack:
        """The stack of the function now, outermost first; empty while it runs in C alone, and when it does not run."""
        found: list[RawFrame] = []
        frame = None if self._ident is None else next(looks(sys._current_frames)).get(self._ident)
        while frame is not None and frame.f_code is not _RUN:
            if frame.f_code not in HIDDEN:
                found.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back
        return tuple(found[::-1]) if frame is not None else ()

    def is_handling(self, error: BaseException | type[BaseException]) -> bool:
        """Whether the function is in an ``except`` or ``finally`` because of `error` (itself, or one of that type)."""
        ident = self._ident
        if ident is None:
            return False
        now: Any = next(looks(sys._current_exceptions)).get(ident)
        step: BaseException | None = now[1] if isinstance(now, tuple) else now  # a tuple up to 3.11
        for _ in range(_CHAIN):
            if step is None:
                return False
            if step is error or (isinstance(error, type) and is_a(step, error)):
                return True
            step = context_of(step)
        return False


@contextmanager
def _quick_switches() -> Generator[None]:
    """Threads take turns quickly, so that one that is busy can be looked at often."""
    if not _switches.acquire(False):  # they do already
        yield
        return
    before = sys.getswitchinterval()
    try:
        sys.setswitchinterval(min(before, _SWITCH))
        yield
    finally:
        sys.setswitchinterval(before)
        _switches.release()


def _is_good(frame: FrameType, at: int, waits: bool, hasty: bool) -> bool:
    """Whether force may be sent to a thread that stands there.

    Args:
        frame: the one on top.
        at: the instruction at which it was found. The thread may go on meanwhile, and come back.
        waits: whether it was found there again and again, in the same sleep: force arrives when its call of C returns.
        hasty: only see to it that no lock of the standard library is left locked.
    """
    if _is_prepared(frame):  # before or behind the function, or it is one of C
        return True
    if not is_fit(frame, at, waits=waits) and not (hasty and is_fit(frame, at, hasty=True)):
        return False
    if hasty:
        return True
    if _is_in_destructor(frame) or is_importing(frame):
        return False
    return waits or stays_fit(frame, at, _is_prepared)


def _gets(frame: FrameType) -> bool:
    """Whether a thread that waits there gets a lock or a notification when it goes on, for which others may wait, too."""
    if frame.f_code is _WAIT:
        return frame.f_locals.get("timeout") is None
    return not _is_prepared(frame) and not _TAKES.isdisjoint(names_before(frame.f_code, frame.f_lasti))


def _is_prepared(frame: FrameType) -> bool:
    """Whether it only calls the function, and bears whatever comes."""
    return frame.f_code is _RUN or frame.f_code in HIDDEN


def _is_in_destructor(frame: FrameType | None) -> bool:
    """Whether a destructor, or a callback of a weak reference, is on the stack."""
    while frame is not None and frame.f_code is not _RUN:
        if frame.f_code.co_name == "__del__" or frame.f_code.co_filename in _CALLBACKS:
            return True
        frame = frame.f_back
    return False


def _look() -> None:
    """Entering any Python function makes the interpreter raise what was sent to this thread."""


#: where the callbacks of the standard library's weak collections are
_CALLBACKS = frozenset(kind.__init__.__code__.co_filename for kind in (WeakSet, WeakValueDictionary))
_CHAIN = 16
#: how often the thread is looked at, in how many seconds at most, and how long it goes on between two looks, at least
_LOOKS, _BRIEF, _SWITCH = 16, 0.01, 5e-5
#: how often it is kicked in the same call, at most
_KICKS = 5
#: how many sendings that find it where it was show that it waits in C
_STILL = 3
_switches = allocate_lock()
#: what takes a lock, and where one waits for a condition, an event, a queue or a semaphore
_TAKES, _WAIT = frozenset({"__enter__", "acquire"}), Condition.wait.__code__
#: as `operator.call`, whose stub does not fit into `map`
_call = methodcaller("__call__")
_RUN = Call.run.__code__
