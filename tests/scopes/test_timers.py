"""The timer that all deadlines of a loop share: what is due is called in order, and never holds the loop for long."""

from collections.abc import Callable
from typing import Any

import pytest

from calloff._scopes.timers import NEVER, Entry, Timers


class Handle:
    """Of a call that nobody takes back: `turn` makes it all the same, and nothing is due then."""

    def cancel(self) -> None: ...


class Clock:
    """A loop's clock that stands still unless somebody takes time; calls are made by `turn`, as a loop would."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.calls: list[tuple[float, Callable[[], object]]] = []
        self.failures: list[Any] = []

    def time(self) -> float:
        return self.at

    def call_at(self, when: float, callback: Callable[[], object]) -> "Handle":
        self.calls.append((when, callback))
        return Handle()

    def call_exception_handler(self, context: Any) -> None:
        self.failures.append(context)

    def turn(self) -> None:
        due = [callback for when, callback in self.calls if when <= self.at]
        self.calls = [call for call in self.calls if call[0] > self.at]
        for callback in due:
            callback()


class Slow:
    """Takes a millisecond when it is called, and may want to be called again at once."""

    def __init__(self, clock: Clock, called: list["Slow"], again: Timers | None = None) -> None:
        self.clock, self.called, self.again = clock, called, again
        self.timer_at = NEVER
        self.timer_bucket: dict[Entry, None] | None = None

    def timer_due(self, now: float) -> None:
        self.called.append(self)
        self.clock.at += 0.001
        if self.again is not None:
            self.again.add(self, now)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize("way", ["add", "insisting"])
def test_a_thousand_that_are_due_at_once_are_spread_over_turns_in_their_order(clock: Clock, way: str) -> None:
    timers = Timers(clock)  # type: ignore[arg-type]
    add = timers.add if way == "add" else timers.insisting.add
    called: list[Slow] = []
    entries = [Slow(clock, called) for _ in range(1000)]
    for entry in entries:
        add(entry, clock.at + 0.01)
    clock.at += 0.01
    turns = []
    while len(called) < 1000:
        before = len(called)
        clock.turn()
        turns.append(len(called) - before)
        assert turns[-1], "what is left over is due in the very next turn"
    assert called == entries
    assert max(turns) <= 6, "at a millisecond each, five milliseconds are a turn's share"
    assert len(turns) < 250, "and the share is used"


class SlowBlock(Slow):
    """A block of a task that takes its time to be called off."""

    timer_host = None


def test_blocks_of_one_deadline_are_called_off_in_one_turn_however_long_it_takes(clock: Clock) -> None:
    timers = Timers(clock)  # type: ignore[arg-type]
    called: list[Slow] = []
    nested = [SlowBlock(clock, called) for _ in range(20)]
    later = SlowBlock(clock, called)
    for entry in nested:
        timers.add(entry, clock.at + 0.01)
    timers.add(later, clock.at + 0.02)
    clock.at += 0.02
    clock.turn()
    assert called == nested, "another deadline waits for the next turn, once the budget of this one is used up"
    clock.turn()
    assert called == [*nested, later]


def test_what_is_due_again_at_once_waits_for_its_turn_behind_the_others(clock: Clock) -> None:
    timers = Timers(clock)  # type: ignore[arg-type]
    called: list[Slow] = []
    eager = [Slow(clock, called, again=timers) for _ in range(3)]
    other = Slow(clock, called)
    for entry in (*eager, other):
        timers.add(entry, clock.at)
    clock.turn()
    assert called == [*eager, other]
    clock.turn()
    assert called[4:7] == eager


def test_one_that_fails_keeps_nobody_else_from_being_called(clock: Clock) -> None:
    timers = Timers(clock)  # type: ignore[arg-type]
    called: list[Slow] = []
    bad = Slow(clock, called)
    bad.timer_due = lambda now: 1 / 0  # type: ignore[assignment, method-assign]
    good = Slow(clock, called)
    timers.insisting.add(bad, clock.at)
    timers.insisting.add(good, clock.at)
    timers.add(last := Slow(clock, called), clock.at)
    for _ in range(3):
        clock.turn()
    assert set(called) == {good, last}
    assert len(clock.failures) == 1
