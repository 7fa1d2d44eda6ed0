"""Force in a thread is tied to the running call: thousands of them at random moments, and nothing else is ever hit."""

import asyncio
import gc
import itertools
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import pytest

import calloff
from calloff._os.threads import begin
from calloff._places.thread import call as call_module
from calloff._places.thread.body import ThreadBody
from calloff._places.thread.call import Call
from calloff._places.thread.pool import POOL

ROUNDS = 3000


@pytest.fixture(autouse=True)
def many_switches() -> Iterator[None]:
    """Threads take turns as often as possible, so that force arrives everywhere, but in nobody else's destructors."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    gc.disable()
    yield
    gc.enable()
    sys.setswitchinterval(before)


def spin(turns: int) -> int:
    total = 0
    for turn in range(turns):
        total += turn
    return total


def spin_and_fail(turns: int) -> int:
    spin(turns)
    raise ValueError(turns)


def spin_and_swallow(turns: int) -> int:
    try:
        return spin(turns)
    except calloff.StopForced:
        return spin(turns)


def witnessed(function: Callable[[int], Any], turns: int) -> tuple[Callable[[], None], list[Any]]:
    """The function, and a list that has its value if and only if it returned: written by C code, in no bytecode."""
    seen: list[Any] = []
    return partial(seen.extend, map(function, [turns])), seen


@pytest.mark.parametrize("function", [spin, spin_and_fail, spin_and_swallow])
def test_thousands_of_forces_at_random_moments(function: Callable[[int], Any]) -> None:
    stray: list[BaseException] = []
    turn, done = threading.Semaphore(0), threading.Semaphore(0)
    calls: list[Call] = []

    def worker() -> None:
        for number in range(ROUNDS):
            turn.acquire()
            try:
                calls[number].run()
                spin(20)  # what is still on its way would hit here
                for _ in range(5):
                    witnessed(spin, 3)
            except BaseException as error:
                stray.append(error)
            done.release()

    thread = threading.Thread(target=worker, daemon=True)
    thread.start()
    chance = random.Random(7)
    endings = {"returned": 0, "forced": 0, "failed": 0}
    for _ in range(ROUNDS):
        body, seen = witnessed(function, chance.randrange(3000))
        call = Call(body)
        calls.append(call)
        turn.release()
        if chance.random() < 0.8:  # else it may come before the start, too
            while not (call.is_running() or call.value or call.error):
                pass
            spin(chance.randrange(1000))
        call.force()
        for _ in range(chance.randrange(3)):
            spin(chance.randrange(100))
            call.force()
        assert done.acquire(timeout=30), "the worker is dead"
        assert bool(call.value) == bool(seen), "a value that was returned is kept, and no other"
        if call.value:
            assert call.error is None
            endings["returned"] += 1
        elif isinstance(call.error, calloff.StopForced):
            endings["forced"] += 1
        else:
            assert isinstance(call.error, ValueError)
            assert function is spin_and_fail
            endings["failed"] += 1
    thread.join(30)
    assert not stray
    assert not thread.is_alive()
    assert endings["forced"] > 30, endings  # else this test has tested nothing
    print(endings)
    assert sum(endings.values()) - endings["forced"] > 30, endings


@pytest.mark.usefixtures("patient")
async def test_operations_forced_at_random_moments() -> None:
    chance = random.Random(11)
    rounds = 700

    failed: list[Any] = []
    hook, threading.excepthook = threading.excepthook, failed.append
    try:
        endings: dict[str, int] = {"Completed": 0, "Cancelled": 0}
        for _ in range(rounds):
            body, seen = witnessed(spin, chance.randrange(400))
            op = calloff.start(calloff.thread(body))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            spin(chance.randrange(400))
            op.cancel(grace=0)
            outcome = await op.outcome()
            endings[type(outcome).__name__] += 1
            assert isinstance(outcome, calloff.Completed) == bool(seen)
            assert outcome.report is None or outcome.report.started or not seen
        assert endings["Cancelled"] > 10, endings
        before = threading.active_count()
        assert await calloff.call(calloff.thread(spin, 4)) == 6  # the threads are as good as new
        assert threading.active_count() <= before + 1
    finally:
        threading.excepthook = hook
    assert not failed
    assert calloff.thread.counts().abandoned == 0


def test_a_function_that_ended_just_before_is_completed() -> None:
    call = Call(lambda: 42)
    call.run()
    call.force()
    assert call.value[0] == 42
    spin(10)


def test_force_before_the_function_runs() -> None:
    ran: list[int] = []
    call = Call(partial(ran.append, 1))
    call.force()
    call.run()
    assert not ran
    assert isinstance(call.error, calloff.StopForced)


def test_swallowed_force_is_noticed() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def swallow() -> str:
        try:
            while True:
                inside.set()
        except calloff.StopForced:
            go_on.wait(30)
            return "no"

    call = Call(swallow)
    thread = threading.Thread(target=call.run, daemon=True)
    thread.start()
    assert inside.wait(30)
    while not call.force():  # never inside of Event.set
        pass
    deadline = 3000
    while not call.is_handling(calloff.StopForced) and deadline:
        threading.Event().wait(0.01)
        deadline -= 1
    assert call.is_handling(calloff.StopForced)
    go_on.set()
    thread.join(30)
    assert call.swallowed
    assert call.value[0] == "no"


def test_force_that_came_too_late_for_c_code_is_not_called_swallowed() -> None:
    """A call blocked in C ends by itself with force still on its way: its value counts."""
    release = threading.Lock()
    release.acquire()
    call = Call(partial(release.acquire, True, 30))
    thread = threading.Thread(target=call.run, daemon=True)
    thread.start()
    while not call.is_running():
        threading.Event().wait(0.001)
    threading.Event().wait(0.05)
    call.force()
    release.release()
    thread.join(30)
    assert call.value[0] is True
    assert call.error is None
    assert not call.swallowed


@pytest.mark.parametrize("same", [True, False])
def test_one_that_was_found_there_in_another_sleep_may_have_gone_on(
    same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets no turn between waking and the next step: in code that others rely on it is not forced for that."""
    naps = itertools.count(1)
    monkeypatch.setattr(call_module, "sleep_of", lambda thread: 1 if same else next(naps))
    gate = threading.Event()
    call = Call(lambda: gate.wait(60))
    thread = threading.Thread(target=call.run, daemon=True)
    thread.start()
    while not is_in_a_wait(call):
        time.sleep(0.001)
    sent = [call.force() for _ in range(6)]
    gate.set()
    thread.join(30)
    assert any(sent) == same


def is_in_a_wait(call: Call) -> bool:
    return any(part[0] is threading.Condition.wait.__code__ for part in call.where() if isinstance(part, tuple))


def test_who_waits_for_the_begin_of_a_thread_is_not_forced_before_3_12() -> None:
    """The new thread has the number of the one that starts it until it begins itself: force would reach that."""
    begins, started = threading.Event(), threading.Thread(target=spin, args=(1,))
    heard: Any = started._started  # type: ignore[attr-defined]  # what `start` waits for
    tell = heard.set
    heard.set = lambda: begins.wait(30) and tell()
    call = Call(started.start)
    thread = threading.Thread(target=call.run, daemon=True)
    thread.start()
    while not is_in_a_wait(call):
        time.sleep(0.001)
    sent = []
    for turn in range(10):
        sent.append(call.force(hasty=turn > 5))
        time.sleep(0.001)
    begins.set()
    while thread.is_alive():
        call.force()
        thread.join(0.01)
    assert any(sent) == (sys.version_info >= (3, 12))


def test_a_thread_that_was_just_started_by_who_is_traced_is_not_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a debugger or by coverage: in Python 3.11 who forces a thread takes an exception of its own, too."""
    lost: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)
    born, inside, out = threading.Event(), threading.Event(), list[int]()

    def stays() -> None:
        inside.set()
        while not out:
            pass

    call = Call(stays)
    thread = threading.Thread(target=call.run, daemon=True)
    thread.start()
    assert inside.wait(30)
    spin(1000)
    before = sys.gettrace()
    sys.setswitchinterval(1)  # nobody else has a turn before one is given
    sys.settrace(lambda frame, event, argument: None)
    try:
        begin(born.set)
        call.force()
    finally:
        sys.settrace(before)
        sys.setswitchinterval(1e-6)
    assert born.wait(30)
    out.append(1)
    thread.join(30)
    assert not lost


async def force(body: Callable[[], object], inside: threading.Event) -> None:
    """Force it once it is inside."""
    op = calloff.start(calloff.thread(body))
    while not inside.is_set():
        await asyncio.sleep(0.001)
    outcome = await op.stop(grace=0)
    assert isinstance(outcome, calloff.Cancelled), outcome
    assert outcome.report.rung is calloff.Rung.FORCED


class Lingering:
    """Stays in its destructor until force has arrived there."""

    def __init__(self, inside: threading.Event) -> None:
        self.inside = inside

    def __del__(self) -> None:
        while True:
            self.inside.set()


@pytest.mark.usefixtures("patient")
async def test_force_that_a_destructor_swallows_comes_again(monkeypatch: Any) -> None:
    lost: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)
    inside = threading.Event()

    def body() -> None:
        Lingering(inside)
        while True:
            pass

    await force(body, inside)
    # On a busy machine the next one may come when the function has hardly gone on: what tells that the first one
    # only ended the destructor is that it was lost there, and that the function ended by force all the same.
    assert [type(each.exc_value) for each in lost] == [calloff.StopForced]
    lost.clear()
    assert calloff.thread.counts().abandoned == 0


@pytest.mark.usefixtures("patient")
async def test_the_clean_up_is_forced_once() -> None:
    inside = threading.Event()
    hits: list[BaseException] = []

    def body() -> None:
        try:
            while True:
                inside.set()
        finally:
            try:
                end = time.monotonic() + 0.3
                while time.monotonic() < end:
                    pass
            except BaseException as error:
                hits.append(error)
                raise

    await force(body, inside)
    assert not hits


@pytest.mark.usefixtures("patient")
async def test_who_is_traced_goes_on_while_force_waits_for_a_blocked_thread() -> None:
    """By a debugger or by coverage: Python 3.11 then entered no function until the thread woke up."""
    go = threading.Event()
    operation = calloff.start(calloff.thread(go.wait, 60))
    while not operation.where():
        await asyncio.sleep(0.001)
    before = sys.gettrace()
    sys.settrace(lambda frame, event, argument: None)
    try:
        operation.cancel(grace=0)
        while not operation.body.call._forced:
            await asyncio.sleep(0.001)
    finally:
        sys.settrace(before)
    go.set()
    assert isinstance(await operation.outcome(), calloff.Cancelled)


class Standing:
    """A call whose thread stands where force does harm, and has gone on `moves` times."""

    def __init__(self, moves: int) -> None:
        self.moves = moves
        self.tried: list[bool] = []

    def force(self, *, hasty: bool = False) -> bool:
        self.tried.append(hasty)
        return False


@pytest.mark.parametrize(("seconds", "looked"), [(0.0, 16), (1.0, 1)])
def test_a_thread_is_looked_at_for_a_short_time_only(
    seconds: float, looked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the machine is busy each look takes long, and the loop that looks wants its turn in between."""
    clock, naps = itertools.count(0.0, seconds), list[float]()
    monkeypatch.setattr(call_module, "monotonic", lambda: next(clock))
    monkeypatch.setattr(call_module, "sleep", naps.append)
    lock = threading.Lock()
    call = Call(partial(takes, lock))
    with lock:
        thread = threading.Thread(target=call.run)
        thread.start()
        while not call.where():
            time.sleep(0.001)
        assert not call.force()
    assert len(naps) == looked - 1
    monkeypatch.undo()
    while thread.is_alive():
        call.force()
        thread.join(0.01)


async def test_any_moment_will_do_only_when_the_thread_had_others() -> None:
    """One that the machine gives no turn, right behind the taking of a lock, is not forced there."""
    for moves, late, tries, hasty in (
        (0, 0.1, 99, False),
        (0, 0.5, 99, True),
        (0, 0.5, 9, False),  # nor where the machine gave the loop hardly any turn to look
        (100, 0.1, 0, True),
        (100, -0.1, 0, False),
    ):
        body = ThreadBody(int, "standing", POOL)
        body._loop = asyncio.get_running_loop()
        call = Standing(moves)
        body.call = cast("Call", call)
        body._press(0.02, body._loop.time() - late, 0, tries)
        body._let_be()
        assert call.tried == [False, True][: 1 + hasty]


def takes(lock: threading.Lock) -> None:
    lock.acquire()
    try:
        while True:
            time.sleep(0.001)
    finally:
        lock.release()


def takes_by_with(lock: threading.Lock) -> None:
    with lock:
        while True:
            time.sleep(0.001)


@pytest.mark.parametrize("body", [takes, takes_by_with])
async def test_who_was_left_waiting_for_a_lock_gives_it_back_and_ends(body: Callable[..., None]) -> None:
    """Force that was on its way already would come right behind the taking: nobody would give it back."""
    lock = threading.Lock()
    with lock:
        outcome = await calloff.start(calloff.thread(body, lock), timeout=0.2, grace=0).outcome()
        assert isinstance(outcome, calloff.Abandoned), outcome
        assert "lock" in outcome.report.stuck_at[-1].source
        abandoned = calloff.thread.counts().abandoned
    async with asyncio.timeout(60):  # it is forced where it does no harm, though it was left behind
        while calloff.thread.counts().abandoned == abandoned:
            await asyncio.sleep(0.01)
    assert not lock.locked()


class Wrapped:
    """A lock of somebody's own class."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __enter__(self) -> "Wrapped":
        self.lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def locked(self) -> bool:
        return self.lock.locked()


def sleeps_under(lock: Any) -> None:
    with lock:
        while True:
            time.sleep(0.001)


async def leave_behind(function: Callable[..., object], *args: object) -> Callable[[], Any]:
    """A thread that was abandoned in it; what waits until that has ended."""
    before = calloff.thread.counts().abandoned
    outcome = await calloff.start(calloff.thread(function, *args), timeout=0.2, grace=0).outcome()
    assert isinstance(outcome, calloff.Abandoned), outcome

    async def has_ended() -> None:
        async with asyncio.timeout(60):
            while calloff.thread.counts().abandoned > before:
                await asyncio.sleep(0.01)

    return has_ended


@pytest.mark.parametrize("kind", [Wrapped, threading.Semaphore, threading.Condition])
async def test_so_does_who_waits_for_it_in_other_code(kind: Callable[[], Any]) -> None:
    lock = kind()
    with lock:
        has_ended = await leave_behind(sleeps_under, lock)
    await has_ended()
    assert getattr(lock, "lock", lock).acquire(False)


async def test_no_notification_is_lost_with_a_thread_that_was_left_behind() -> None:
    """It takes what it is told of, as it was the first to wait, and nobody else waits beside it."""
    items: queue.Queue[int] = queue.Queue()
    taken: list[int] = []

    def works() -> None:
        taken.append(items.get())
        while True:
            time.sleep(0.001)

    has_ended = await leave_behind(works)
    items.put(1)
    await has_ended()
    assert (items.qsize(), taken) == (0, [1])
