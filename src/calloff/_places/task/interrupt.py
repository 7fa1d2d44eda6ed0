"""Reaching a body that blocks the event loop: a signal of the kernel's clock, and an exception exactly where it is.

While a body blocks the loop no timer of the loop runs, so nothing that asyncio offers can stop it. A thread could watch,
but it can't run while C code holds the GIL. So the kernel keeps the time: its timer is always armed a little (`slack`)
behind the next point at which the loop's own timer has something to do. A loop that is not late moves that point before
the kernel's timer fires, so that in a healthy program no signal ever comes, and in an idle one nothing wakes it up.

When the signal does come, its handler runs on top of whatever the main thread is doing, and looks:

- Which task runs? None, or one whose own frames are not the ones on top (asyncio's, calloff's or the import system's
  are): try again soon. An exception there would break the loop or somebody else's state.
- Is it the same step of that task as at the last look? If not, the loop is only busy, and its own timers will be heard.
- What is due (`Decider`)? The operation of that task decides, by its ladder, as if its timer had run, and its body hands
  over the exception that is to be raised: here, now, out of the handler, into the line that blocks.
- Would that do harm, where it stands (between the taking of a lock and its ``try``, say)? Then soon; and where it goes on,
  each further instruction is looked at (`Seek`).
- Is it the last step of the ladder? Then the exception is raised again wherever it is caught (`Tear`).

Blocking calls of Python are left at once, loops and many long calculations in C (those that look for signals) too; other
C code is left as soon as it returns, and by its line in the report one sees who held everything up.

Nothing is done to what has no limit, and nothing to code in other threads or in other tasks. A program that uses SIGALRM
itself keeps it: then there is no interrupt. That goes for `signal.alarm` with its default action, too. It takes the very
timer that is used here, which is known by an interval of its own (`_INTERVAL`); a signal that was not ordered here is
given back, and has the effect that it would have had. The interval is short, so that the signal comes again until it has
been handled: one may fall between the interpreter's last look for signals and a call of the system that waits, and one may
find no room on a stack that is full. (Before one of the `os.exec` family, which keeps the timer but
not the handler, call ``signal.setitimer(signal.ITIMER_REAL, 0)``.)
"""

import asyncio
import logging
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from math import inf
from time import monotonic
from types import CodeType, FrameType
from typing import Any

from ..._child.moments import Still, is_fit, is_guarded, may_break_off
from ..._scopes.timers import NEVER, Timers, timers_of
from ..._words.errors import StopForced
from ..._words.policy import DEFAULT, Policy
from ..left import load_ctypes
from .blocker import Blocker, callback_on_top, task_on_top
from .body import TaskBody
from .deciding import Decider
from .on_stack import ForSure
from .room import Room
from .stepping import needs_ctypes
from .tearing import Seek, Tear, is_in_finally

__all__ = ["Interrupter"]

_logger = logging.getLogger("calloff")
_LONGEST_PAUSE = 0.1
_MOMENT = 0.001
#: how often the signal comes until it is handled, in seconds; no other timer has this interval
_INTERVAL = 3 / 64
#: longer waits are cut to that; so much earlier than its time may the signal seem to come, as clocks are rounded
_LONGEST, _EARLIER = 1e6, 0.001
#: seconds after which a signal has arrived, if the main thread has handled a later one
_OLD = 5.0
#: how long, and at how many looks at least, no moment was found at which an exception does no harm, until any is taken: on
#: a machine that is busy with others a second may see few of them
_LONGEST_UNFIT, _UNFIT_LOOKS = 0.3, 50
#: the same when the grace is over
_FORCED_UNFIT, _FORCED_LOOKS = 0.2, 25
#: the same in a destructor, which drops exceptions: that it is left is only good for what has called it
_LONGEST_DROPPED = 0.1
#: after how many such looks each instruction is looked at
_SEEK_LOOKS = 20
#: how soon what is ended for sure is looked at again
_SOON = 0.01


class Interrupter:
    """Interrupts what blocks one event loop in the main thread.

    Args:
        current: the operation that the running code belongs to.
        caller: the function that runs the loop.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        current: Callable[[], Any],
        policy: Policy = DEFAULT,
        *,
        caller: CodeType | None = None,
    ) -> None:
        self._loop = loop
        self._caller = caller
        self._timers: Timers = timers_of(loop)
        self._now = self._timers.now
        self._slack = policy.slack
        self._pause = policy.slack
        #: when the kernel's timer is to fire, infinity while it is off
        self._fires_at = inf
        #: the same on a clock that is exact: that of libuv counts milliseconds
        self._due = inf
        self.decider: Decider = Decider(self._timers, current, policy, self._run_calls)
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._called_at = 0.0
        #: when `_call` has sent signals that have not arrived; as some arrive as one, an old entry means nothing
        self._sent: deque[float] = deque(maxlen=64)
        #: held while a signal is sent, and while the handler is taken away; a handler of signals may send, too
        self._sending = threading.RLock()
        #: whether the kernel's timer has fired and the handler has not run yet
        self._fired = False
        #: whether the handler has run since the loop turned: the signal may come once more for each time that it came
        self._repeats = False
        #: whether the kernel's timer is being set anew, and no signal has come meanwhile
        self._setting = False
        #: since when a look is due that was interrupted by another one, before it knew how late it is
        self._was_due = inf
        #: what ran at the last look, until the loop turns
        self._suspect: object = None
        #: what looks at each instruction of it
        self._steps: Seek | Tear | None = None
        self._still = Still(own=True)
        #: whether a destructor was ended, and another one or the same still blocks
        self._dropped = False
        #: since when each look found a place at which an exception would do harm, and how many these were
        self._unfit_since: float | None = None
        self._unfit = 0
        self._room = Room(self._on_alarm, lasts=lambda: self._steps is not None)
        self._handler = self._room.handler
        self._former: Any = None
        self._main_thread = threading.get_ident()

    # --- being there

    def install(self) -> bool:
        """Begin; ``False``, and nothing happens, where it can't be or where the program uses SIGALRM itself."""
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
            _logger.debug("a blocked loop is not interrupted: not in the main thread, or no kernel timer")
            return False
        taken = signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL
        if taken or signal.getitimer(signal.ITIMER_REAL)[0] > 0:
            _logger.debug("a blocked loop is not interrupted: SIGALRM or its timer is used by the program")
            return False
        try:
            self._former = signal.signal(signal.SIGALRM, self._handler)
        except ValueError:
            _logger.debug("a blocked loop is not interrupted: this is a subinterpreter, where no signals are heard")
            return False
        if needs_ctypes:
            load_ctypes()
        self._timers.on_arm = self._arm
        self._timers.on_call = self._call
        self._arm(self._timers.wake)
        return True

    def remove(self) -> None:
        """End, and leave SIGALRM as it was found."""
        if self._timers.on_arm is None:
            return
        self._timers.on_arm = self._timers.on_call = None  # first: a signal that has come already orders no other one
        with self._sending:
            self._set(inf)  # a call of the system: what was sent has arrived at its end
            if _getsignal(signal.SIGALRM) is self._handler:
                signal.signal(signal.SIGALRM, self._former)
        self._calls.clear()
        self._turned()
        self.decider.last_resort = self.decider.ends_at = None

    # --- the kernel's timer

    def _arm(self, wake: float) -> None:
        """The loop has a new point at which it has something to do: it turns."""
        self._pause = self._slack
        self._unfit_since = None
        self._was_due = inf
        if not self._room.is_running:  # or it is the handler itself that does so, and it may have interrupted itself
            self._repeats = False
        self._set(self._late_at(wake, self._now()))

    def _late_at(self, wake: float, now: float) -> float:
        late_at = max(wake, now) + self._slack
        return min(late_at, self._called_at + self._slack) if self._calls else late_at

    def _again(self, now: float) -> None:
        self._set(now + self._pause)
        self._pause = min(self._pause * 1.5, _LONGEST_PAUSE)

    def _set(self, at: float) -> None:
        """Let the kernel's timer fire at that point, unless the program has taken it for itself meanwhile."""
        if _getsignal(signal.SIGALRM) is not self._handler:
            self._take_back()
            self._stand_down()
            return
        now = self._now()
        after = 0.0 if at == inf else min(max(at - now, 1e-4), _LONGEST)
        # the signal of the former setting may be handled before that is known to have fired: with tracing at any line
        self._setting = True
        self._fires_at = now + after if after else inf
        due, self._due = self._due, monotonic() + after if after else inf
        found, interval = signal.setitimer(signal.ITIMER_REAL, after, _INTERVAL)
        handled, self._setting = not self._setting, False
        if found and interval != _INTERVAL:
            signal.signal(signal.SIGALRM, self._former)
            signal.setitimer(signal.ITIMER_REAL, found, interval)
            self._stand_down()
        elif found and not handled and 0 <= _INTERVAL - found <= monotonic() - due:  # it came since, and is not heard
            self._fired = True

    def _take_back(self) -> float:
        """Stop the timer if it is the one that was set here; seconds that one of the program has left."""
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        if interval != _INTERVAL:
            return left
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        return 0.0

    def _stand_down(self) -> None:
        _logger.debug("a blocked loop is not interrupted any more: the program uses SIGALRM or its timer")
        self._timers.on_arm = self._timers.on_call = None

    # --- calls from other threads and from signal handlers

    def _call(self, callback: Callable[..., object], *args: object) -> None:
        """`Timers.call`: through the loop, and if that does not turn, from the handler."""
        self._calls.append((callback, args))
        self._called_at = self._now()
        self._loop.call_soon_threadsafe(self._run_calls)
        with self._sending:
            if _getsignal(signal.SIGALRM) is self._handler:
                self._sent.append(self._called_at)
                signal.pthread_kill(self._main_thread, signal.SIGALRM)

    def _run_calls(self) -> None:
        """Make the calls that have not been made."""
        while self._calls:
            callback, args = self._calls.popleft()
            callback(*args)

    # --- the look

    def _on_alarm(self, frame: FrameType) -> None:
        if not self._ordered():
            self._give_back()
            return
        if self._timers.on_arm is None:
            return
        self._fired = False
        now = self._now()
        due, self._was_due = min(self._fires_at, self._was_due), inf
        # what has come until now is handled here; what comes while the timer is set anew is not
        self._fires_at, self._due = now, monotonic()
        late_at = self._late_at(self._timers.wake, 0.0)
        if now < late_at:
            self._set(late_at)
            return
        self._again(now)
        task = asyncio.current_task(self._loop)
        found = self._on_top(frame, task)
        if found is None:
            if self._room.holds(frame):
                self._was_due = due
                return
            found = self._on_top(frame, task, below=True)
            if found is None:
                return
        self._was_due = inf  # another look may have interrupted this one since it was asked how late it is
        if found.host is not self._suspect and now - due < self._slack:
            self._suspect = found.host
            self._loop.call_soon(self._turned)
            return
        if found.importing or (found.dropped and self._dropped):
            found.is_over = self.decider.is_over(found.coro, now)
            if found.importing and not found.is_over:
                return
        if not self._is_fit(found, now):
            self._set(now + _MOMENT)
            dropped = 0 if found.is_over else found.dropped
            if self._steps is None and (self._unfit >= _SEEK_LOOKS or dropped):
                self._steps = Seek(found.frames[dropped:], lambda: self._sought(task, found))
                self._loop.call_soon(self._turned)
            if dropped and not found.is_below and self._is_late(_SEEK_LOOKS, _LONGEST_DROPPED, now):
                self._unfit_since = None
                self._dropped = True
                self._set(now + self._slack)
                raise StopForced  # it only ends the destructor
            return
        self._unfit_since = None
        error = self._look(task, found, now)
        if error is not None:
            raise error

    def _on_top(self, frame: FrameType, task: "asyncio.Task[Any] | None", *, below: bool = False) -> Blocker | None:
        if task is not None:
            return task_on_top(frame, task, below=below)
        return callback_on_top(frame, self._loop, self._caller, below=below)

    def _sought(self, task: "asyncio.Task[Any] | None", found: Blocker) -> BaseException | None:
        """A moment was found."""
        self._unfit_since = None
        seek = self._steps
        error = self._look(task, found, self._now())
        if self._steps is seek:  # until now, as it is the reason that there is room
            self._steps = None
        return error

    def _look(self, task: "asyncio.Task[Any] | None", found: Blocker, now: float) -> BaseException | None:
        """Take the steps that are due; return what is to be raised."""
        error = self.decider.decide(task, found.coro, now)
        if isinstance(found.coro, TaskBody):  # its next step may be due before the next look
            at: float = getattr(found.coro.sink, "timer_at", NEVER)
            if now < at < self._fires_at:
                self._set(at)
        if isinstance(error, ForSure) and not found.is_direct:
            former = self._steps
            if former is not None:
                former.end()
            self._steps = Tear(found.frames, self._now, former if isinstance(former, Tear) else None)
            self._loop.call_soon(self._turned)
            self._set(now + _SOON)
            return StopForced()
        return StopForced() if isinstance(error, ForSure) else error

    def _ordered(self) -> bool:
        """Whether the signal comes from our own timer, or was sent by `_call`."""
        ours = signal.getitimer(signal.ITIMER_REAL)[1] == _INTERVAL
        # in this order: the next signal may be handled in the midst of it, which orders another one and says so
        came = ours and (self._now() >= self._fires_at - _EARLIER or self._repeats)
        if came or self._fired or self._setting:
            self._setting = False
            self._repeats = True
            return True
        sent = self._sent
        if not sent:
            return False
        sent.popleft()
        while sent and sent[0] < self._now() - _OLD:
            sent.popleft()
        return True

    def _give_back(self) -> None:
        """The program uses SIGALRM: let the signal have the effect that it would have without us."""
        signal.signal(signal.SIGALRM, self._former)
        left = self._take_back()
        self._stand_down()
        if not left:
            signal.raise_signal(signal.SIGALRM)

    def _is_fit(self, found: Blocker, now: float) -> bool:
        """Whether an exception now does no harm; what waits in C may be left, and so may what is never seen elsewhere."""
        if found.is_below:
            self._note_unfit(now)
            return False
        frame = found.frames[0]
        waits = self._still.look(frame)
        if found.is_direct:
            return waits and is_guarded(frame)
        dropped = found.dropped and not found.is_over
        if not dropped:
            if (waits and may_break_off(frame)) or (found.dropped and is_fit(frame, hasty=True)):
                return True
            if is_fit(frame) and not is_in_finally(found.frames, frame):
                return True
        self._note_unfit(now)
        if dropped:
            return False
        looks, longest = (_FORCED_LOOKS, _FORCED_UNFIT) if found.is_forced(now) else (_UNFIT_LOOKS, _LONGEST_UNFIT)
        return self._is_late(looks, longest, now) and is_fit(frame, hasty=True)

    def _note_unfit(self, now: float) -> None:
        if self._unfit_since is None:
            self._unfit_since = now
            self._unfit = 0
        self._unfit += 1

    def _is_late(self, looks: int, longest: float, now: float) -> bool:
        since = self._unfit_since
        return since is not None and self._unfit >= looks and now - since >= longest

    def _turned(self) -> None:
        self._suspect = self._unfit_since = None
        self._dropped = False
        self._was_due = inf
        steps, self._steps = self._steps, None
        if steps is not None:
            steps.end()
        self._room.take_back()


#: the one of C: that of `signal` looks for an enum first, which takes longer than all the rest
_getsignal: Callable[[int], object] = sys.modules["_signal"].getsignal
