"""One timer per event loop for every deadline, watch and retry.

Most deadlines never come: the work ends first. So setting and dropping one must cost next to nothing, and keeping
precise order is put off until a deadline is near. Time is cut into slots of an eighth of a second. Entries further
away than the current slot lie unsorted in a bucket per slot (a dict used as a set: O(1) in, O(1) out, nothing left
behind); when a slot begins, what is left of its bucket moves to a heap that is exact. One `loop.call_at` stands for all
of it, at the next moment that matters, so an idle program is woken by nothing but its own deadlines. After the timing
wheel of Varghese and Lauck (1987) and its use for timeouts in the Linux kernel: coarse far away, exact close by.

Many entries may be due at the same moment, and what they do may take its time: a thousand bodies that refuse are walked
and asked again. So one turn of the loop is given to them for a few milliseconds (`_BUDGET`), and what is left over is due
in the next turn, before anything that is due later. Nothing is put off for longer than all that was due takes. Blocks of
one deadline are never parted: a block inside another would end before its own timer has said that its time is up.
"""

import asyncio
import heapq
from collections.abc import Callable, Iterable
from contextvars import Context
from itertools import count
from math import inf
from time import monotonic
from typing import Protocol, runtime_checkable

__all__ = ["Entry", "Hosted", "Timers", "known_timers", "timers_of"]

NEVER = -1.0
#: seconds; a power of two, so that where a slot starts is an exact number
_SLOT = 0.125
_COMPACT = 1024
#: seconds that the entries which are due may take of one turn of the loop; one of them, at least, is always called
_BUDGET = 0.005


class Entry(Protocol):
    """Something that waits for a point on the clock; on the timer at most once."""

    timer_at: float
    """When it is due; set by `Timers.add`, `NEVER` while it is not waiting."""
    timer_bucket: "dict[Entry, None] | None"
    """Kept by the timer."""

    def timer_due(self, now: float, /) -> None:
        """The point has come; may add itself again."""


@runtime_checkable
class Hosted(Protocol):
    """An entry that calls off a block in some task."""

    @property
    def timer_host(self) -> "asyncio.Task[object] | None":
        """The task, until it was called off."""
        ...


class Timers:
    """The entries of one event loop."""

    __slots__ = (
        "_dead",
        "_far",
        "_handle",
        "_horizon",
        "_near",
        "_sequence",
        "_starts",
        "insisting",
        "loop",
        "now",
        "on_arm",
        "on_call",
        "until",
        "wake",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        is_usual = type(loop).time is asyncio.BaseEventLoop.time and "time" not in vars(loop)
        #: the loop's clock; asyncio's own is this function behind a method
        self.now: Callable[[], float] = monotonic if is_usual else loop.time
        #: called with each new `wake`: the interrupter keeps its kernel timer beside ours
        self.on_arm: Callable[[float], None] | None = None
        #: what `call` hands to when there is an interrupter, which reaches a blocked loop, too
        self.on_call: Callable[..., object] | None = None
        #: the point the loop is asked to wake us at, infinity when there is none
        self.wake: float = inf
        #: while entries are called: the point at which the loop gets its turn
        self.until: float = inf
        self._handle: asyncio.TimerHandle | None = None
        self._near: list[tuple[float, int, Entry]] = []
        self._far: dict[float, dict[Entry, None]] = {}
        self._starts: list[float] = []
        self._horizon = 0.0
        self._sequence = count()
        self._dead = 0
        #: for entries that all wait equally long: the pause before asking again
        self.insisting: FifoTimer = FifoTimer(self)

    def add(self, entry: Entry, at: float) -> None:
        """Call ``entry.timer_due`` at `at`; a point in the past is due at the next turn of the loop."""
        entry.timer_at = at
        if at >= self._horizon:
            bucket = self._far.get(at // _SLOT * _SLOT)
            if bucket is None:
                bucket = self._open(at)
            if bucket is not None:
                bucket[entry] = None
                entry.timer_bucket = bucket
                return
        entry.timer_bucket = None
        heapq.heappush(self._near, (at, next(self._sequence), entry))
        if at < self.wake:
            self._arm(at)

    def remove(self, entry: Entry) -> None:
        """Forget the entry; nothing happens when it is not waiting."""
        bucket = entry.timer_bucket
        if bucket is not None:
            del bucket[entry]
            entry.timer_bucket = None
        elif entry.timer_at != NEVER:
            self._dead += 1
            if self._dead > _COMPACT and self._dead * 2 > len(self._near):
                entry.timer_at = NEVER
                self._compact()
        entry.timer_at = NEVER

    def call(self, callback: Callable[..., object], *args: object) -> None:
        """Call it on the loop's thread, soon; from any thread and from signal handlers."""
        (self.on_call or self.loop.call_soon_threadsafe)(callback, *args)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        """Call it in that many seconds; with many others it has its share of each turn of the loop."""
        self.add(_Call(callback), self.now() + seconds)

    def late(self, now: float) -> "list[Entry]":
        """What should have been called by now; for the one who finds that the loop is blocked."""
        late = [
            entry for at, _, entry in self._near if at <= now and entry.timer_at == at and entry.timer_bucket is None
        ]
        for start in self._starts:
            if start <= now:
                late += [entry for entry in self._far[start] if entry.timer_at <= now]
        for entry in tuple(late):
            members: Callable[[float], Iterable[Entry]] | None = getattr(entry, "late", None)  # a queue, a pool
            if members is not None:
                late += members(now)
        return late

    def _open(self, at: float) -> "dict[Entry, None] | None":
        """A new bucket for the slot of `at`, or ``None`` when that slot has begun: use the heap."""
        following = self.now() // _SLOT * _SLOT + _SLOT
        if at < following:
            self._horizon = max(self._horizon, following)
            return None
        slot = at // _SLOT * _SLOT
        if len(self._starts) > 128:  # empty buckets of limits that were never reached
            for start in [start for start, bucket in self._far.items() if not bucket]:
                del self._far[start]
            self._starts = sorted(self._far)
        bucket: dict[Entry, None] = {}
        self._far[slot] = bucket
        heapq.heappush(self._starts, slot)
        if slot < self.wake:
            self._arm(slot)
        return bucket

    def _compact(self) -> None:
        self._near = [item for item in self._near if item[2].timer_at == item[0] and item[2].timer_bucket is None]
        heapq.heapify(self._near)
        self._dead = 0

    def _arm(self, at: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self.wake = at
        # a context of its own: it stands for many, and keeps nothing alive of the one that happened to come first
        self._handle = Context().run(self.loop.call_at, at, self._fire)
        if self.on_arm is not None:
            self.on_arm(at)

    def _fire(self) -> None:
        self._handle = None
        self.wake = NEVER  # while entries run they may add others: nobody arms until the end
        now = self.now()
        self.until = now + _BUDGET
        last = next(self._sequence)
        again: list[tuple[float, int, Entry]] = []  # added just now, and due at once: in the next turn
        try:
            while self._starts and self._starts[0] <= now:
                slot = heapq.heappop(self._starts)
                self._horizon = max(self._horizon, slot + _SLOT)
                bucket = self._far.pop(slot)
                for entry in bucket:
                    entry.timer_bucket = None
                self._near += [(entry.timer_at, next(self._sequence), entry) for entry in bucket]
                last = next(self._sequence)
                heapq.heapify(self._near)  # there may be many thousands, and the first of them is due
            while (near := self._near) and near[0][0] <= now:  # a compaction may replace it
                item = heapq.heappop(near)
                at, number, entry = item
                if entry.timer_at != at or entry.timer_bucket is not None:
                    self._dead -= 1
                    continue
                if number > last:
                    again.append(item)
                    continue
                entry.timer_at = NEVER
                try:
                    entry.timer_due(now)
                except Exception as error:
                    name = type(entry).__name__
                    self.loop.call_exception_handler(
                        {"message": f"calloff: a timer of {name} failed", "exception": error}
                    )
                if self.now() > self.until and not (near and near[0][0] == at and isinstance(near[0][2], Hosted)):
                    break
        finally:  # something like KeyboardInterrupt may have come in between
            self.until = inf
            near = self._near
            for item in again:
                heapq.heappush(near, item)
            while near and (near[0][2].timer_at != near[0][0] or near[0][2].timer_bucket is not None):
                heapq.heappop(near)
                self._dead -= 1
            while self._starts and not self._far[self._starts[0]]:  # all of its limits were dropped
                del self._far[heapq.heappop(self._starts)]
            following = min(near[0][0] if near else inf, self._starts[0] if self._starts else inf)
            self.wake = inf
            if following < inf:
                self._arm(following)
            elif self.on_arm is not None:
                self.on_arm(inf)


class _Call:
    """A callback that waits for a point on the clock."""

    __slots__ = ("_callback", "timer_at", "timer_bucket")

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback = callback
        self.timer_at: float = NEVER
        self.timer_bucket: dict[Entry, None] | None = None

    def timer_due(self, _now: float, /) -> None:
        self._callback()


class FifoTimer:
    """Entries that all wait the same time are due in the order in which they came: a queue, and one entry for all."""

    __slots__ = ("_timers", "entries", "timer_at", "timer_bucket")

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self.entries: dict[Entry, None] = {}
        self.timer_at: float = NEVER
        self.timer_bucket: dict[Entry, None] | None = None

    def add(self, entry: Entry, at: float) -> None:
        """Like `Timers.add`, for a point not before the one added last; `Timers.remove` takes it out again."""
        entries = self.entries
        if not entries and self.timer_at == NEVER:
            self._timers.add(self, at)
        entry.timer_at = at
        entry.timer_bucket = entries
        entries[entry] = None

    def late(self, now: float) -> list[Entry]:
        """Those that should have been called by now."""
        return [entry for entry in self.entries if entry.timer_at <= now]

    def timer_due(self, now: float) -> None:
        """The first entries are due."""
        entries = self.entries
        timers = self._timers
        try:
            for entry in list(entries):
                if entry.timer_at > now:
                    break
                if entry in entries:  # an earlier one may have taken it out
                    timers.remove(entry)
                    entry.timer_due(now)
                    if timers.now() > timers.until:
                        break
        finally:  # also when one has failed, or time is up: the timer calls again for the others
            if entries and self.timer_at == NEVER:
                timers.add(self, next(iter(entries)).timer_at)


def timers_of(loop: asyncio.AbstractEventLoop) -> Timers:
    """The timer of `loop`, made at the first call."""
    try:
        return known_timers[loop]
    except KeyError:
        for closed in [known for known in list(known_timers) if known.is_closed()]:
            known_timers.pop(closed, None)
        return known_timers.setdefault(loop, Timers(loop))


known_timers: dict[asyncio.AbstractEventLoop, Timers] = {}
