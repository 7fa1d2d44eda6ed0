"""An exception from outside comes at a moment at which it does no harm: no lock is left locked, whatever the place."""

import asyncio
import contextlib
import dis
import gc
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FrameType, SimpleNamespace, TracebackType
from typing import Any, cast

import pytest
from places import moments_bodies as bodies

import calloff
from calloff._child import bytecode, moments
from calloff._os.proc import sleep_of
from calloff._places.task import tearing
from calloff._places.task.blocker import Blocker
from calloff._places.task.interrupt import Interrupter
from calloff._places.task.stepping import steps_of
from calloff._places.task.tearing import Seek
from calloff._places.thread.call import _STILL, Call

ROUNDS = 25
#: whether the audit hook of this module does anything
hears = threading.Event()
KINDS = pytest.mark.parametrize("kind", sorted(bodies.KINDS))


@KINDS
@pytest.mark.usefixtures("patient")
async def test_a_thread_forced_at_random_moments_leaves_no_lock(kind: str) -> None:
    chance = random.Random(kind)
    left = 0
    for _ in range(ROUNDS):
        body, thing = bodies.make(kind)
        inside = threading.Event()
        op = calloff.start(calloff.thread(body, thing, lambda: inside.is_set() or inside.set()))  # type: ignore[func-returns-value]
        while not inside.is_set():
            await asyncio.sleep(0)
        await asyncio.sleep(chance.random() * 0.003)
        outcome = await op.stop(grace=0)
        assert outcome.report.rung is calloff.Rung.FORCED, outcome
        left += bodies.is_left(thing)
    assert left == 0


@pytest.mark.skipif(sys.version_info < (3, 13), reason="what is sent arrives right there")
def test_who_is_busy_at_one_call_is_not_taken_for_one_who_waits_in_it() -> None:
    """What it calls next is where a lock would be left; seldom it is found elsewhere, and may be forced there."""
    lock, inside = threading.Lock(), threading.Event()
    call = Call(lambda: bodies.adds_up(lock, inside.set))
    thread = threading.Thread(target=call.run)
    thread.start()
    inside.wait()
    for _ in range(6):
        if call.force():
            thread.join()
            assert not bodies.is_left(lock)
            return
        time.sleep(0.01)
    while not call.force(hasty=True):
        time.sleep(0.01)
    thread.join()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="what is sent arrives right there")
def test_a_place_is_judged_as_it_was_found_though_the_thread_has_gone_on() -> None:
    def rests() -> None:
        time.sleep(0)
        lock.acquire()
        try:
            halted.set()
            go.wait()
        finally:
            lock.release()

    lock, halted, go = threading.Lock(), threading.Event(), threading.Event()
    thread = threading.Thread(target=rests)
    thread.start()
    halted.wait()
    frame = sys._current_frames()[thread.ident or 0]
    while frame.f_code is not rests.__code__ and frame.f_back is not None:
        frame = frame.f_back
    calls = [step.offset for step in dis.get_instructions(rests) if step.opname.startswith("CALL")]
    try:
        assert [moments.stays_fit(frame, at, lambda _: True) for at in calls[:3]] == [False, True, True]
        assert [moments.is_fit(frame, at) for at in calls[:3]] == [True, False, True]
    finally:
        go.set()
        thread.join()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="what is sent arrives right there")
@pytest.mark.parametrize(
    ("call", "looks"),
    [
        ("sorted(items)", True),
        ("len(items)", False),
        ("isinstance(items, list)", False),
        ("type(items)", False),
        ("items.append(1)", False),
        ("generator()", False),
        ("coroutine().close()", False),
    ],
)
def test_behind_a_call_that_may_look_for_nothing_the_next_one_counts(call: str, looks: bool) -> None:
    names: dict[str, Any] = {}
    exec(NEXT.replace("CALL", call), names)
    frame = names["body"]([], threading.Lock())
    begin = next(step.offset for step in dis.get_instructions(frame.f_code) if step.opname == "RESUME")
    assert moments.stays_fit(frame, begin, lambda _: True) is looks


NEXT = """
import sys

def generator():
    yield

async def coroutine():
    pass

def body(items, lock):
    CALL
    lock.acquire()
    try:
        return sys._getframe()
    finally:
        lock.release()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no other system tells which sleep a thread is in")
def test_who_waits_in_c_is_forced_though_a_lock_is_taken_next() -> None:
    lock, (there, here) = threading.Lock(), os.pipe()

    def waits() -> None:
        os.read(there, 1)
        lock.acquire()
        try:
            time.sleep(0)
        finally:
            lock.release()

    call = Call(waits)
    thread = threading.Thread(target=call.run)
    thread.start()
    while sleep_of(thread.native_id or 0) == 0 or not call.where():
        time.sleep(0.001)
    assert any(call.force() for _ in range(_STILL + 1))
    os.write(here, b"x")
    thread.join()
    assert type(call.error) is calloff.StopForced
    assert not bodies.is_left(lock)
    os.close(there)
    os.close(here)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="calls by ctypes are not told to audit hooks")
@KINDS
@pytest.mark.usefixtures("patient", "told_calls")
async def test_nor_where_audit_hooks_run_in_between(kind: str) -> None:
    await test_a_thread_forced_at_random_moments_leaves_no_lock(kind)


@pytest.fixture
def told_calls() -> Iterator[None]:
    """Now and then other threads go on while an audit hook is told of a call of C."""
    _hook()
    hears.set()
    yield
    hears.clear()


@cache
def _hook() -> None:
    """Once: it can't be taken away again."""

    def told(event: str, _: object) -> None:
        if event == "ctypes.call_function" and hears.is_set() and random.random() < 0.5:
            time.sleep(0)

    sys.addaudithook(told)


@KINDS
def test_a_coroutine_interrupted_at_random_moments_leaves_no_lock(arun: Callable[..., Any], kind: str) -> None:
    chance = random.Random(kind)

    async def blocks(body: Callable[..., None], thing: Any) -> None:
        body(thing, int)

    async def main() -> None:
        left = 0
        for _ in range(ROUNDS):
            body, thing = bodies.make(kind)
            op = calloff.start(blocks(body, thing), timeout=0.001 + chance.random() * 0.003)
            with pytest.raises(calloff.TimedOut):
                await op
            left += bodies.is_left(thing)
        assert left == 0

    calloff.run(main())


@KINDS
async def test_a_process_asked_at_random_moments_leaves_no_lock(kind: str, tmp_path: Path) -> None:
    chance = random.Random(kind)
    left = 0
    for number in range(ROUNDS // 3):
        mark = tmp_path / str(number)
        op = calloff.start(calloff.process(bodies.run_in_worker, kind, str(mark)))
        while not mark.exists():
            await asyncio.sleep(0.001)
        await asyncio.sleep(chance.random() * 0.003)
        outcome = await op.stop(grace=30)
        assert outcome.report.rung is calloff.Rung.ASKED, outcome
        left += await calloff.call(calloff.process(bodies.is_left_in_worker))
    assert left == 0


@pytest.mark.parametrize("twice", [False, True])
async def test_a_process_that_seldom_stands_where_it_may_be_asked_is_looked_at_often(
    tmp_path: Path, twice: bool
) -> None:
    """A tenth of the time: ten looks a second would not find that within the second that it has at most.

    And an asking within the handler of another one raises nothing there: it would come where the first must not raise.
    """
    for number in range(5):
        mark = tmp_path / str(number)
        op = calloff.start(calloff.process(bodies.gives_back_most_of_the_time, str(mark), twice))
        while not mark.exists():
            await asyncio.sleep(0.001)
        outcome = await op.stop(grace=30)
        assert outcome.report.rung is calloff.Rung.ASKED, outcome
        assert mark.read_text() == "outside"
        assert await calloff.call(calloff.process(bodies.seen_before_in_worker)) is None


async def test_an_asking_that_comes_as_a_lost_one_is_noted_is_not_refused(tmp_path: Path) -> None:
    """The function has heard of nothing so far: it is asked again."""
    mark = tmp_path / "in"
    op = calloff.start(calloff.process(bodies.asked_again_as_what_is_lost_is_noted, str(mark)))
    while not mark.exists():
        await asyncio.sleep(0.001)
    outcome = await op.stop(grace=30)
    assert outcome.report.rung is calloff.Rung.ASKED, outcome
    assert outcome.report.refusals == 0


def test_a_wait_for_a_lock_is_interrupted(arun: Callable[..., Any]) -> None:
    """Whoever waits has taken nothing."""
    lock = threading.Lock()
    lock.acquire()

    async def waits() -> None:
        with lock:
            pass

    async def waits_for_an_item() -> None:
        import queue

        queue.Queue().get()

    async def main() -> None:
        for body in (waits, waits_for_an_item, waits):
            began = time.monotonic()
            with pytest.raises(calloff.TimedOut):
                await calloff.call(body(), timeout=0.05)
            assert time.monotonic() - began < 5

    calloff.run(main())
    assert lock.locked()


# --- the table itself


def stops(code: Any, lines: set[int]) -> dict[int, list[bool]]:
    """By line, for each instruction that looks for exceptions: whether a block begins right behind it."""
    import dis

    found: dict[int, list[bool]] = {line: [] for line in lines}
    for step in dis.get_instructions(code):
        assert step.positions is not None
        if step.opname in ("CALL", "JUMP_BACKWARD") and step.positions.lineno in lines:
            found[step.positions.lineno].append(bytecode.enters(code, step.offset))
    return found


def test_the_gap_before_a_block_is_seen() -> None:
    def body(lock: Any) -> None:
        lock.acquire()
        try:
            lock.locked()
        finally:
            lock.release()
        if lock.acquire(False):
            try:
                lock.locked()
            finally:
                lock.release()

    code = body.__code__
    first = code.co_firstlineno
    found = stops(code, {first + 1, first + 3, first + 6})
    assert found[first + 1] == [True], "between acquire and try"
    assert found[first + 3] == [False], "inside"
    assert found[first + 6] == [True], "behind the if"


def test_the_gap_in_a_with_is_seen_where_there_is_one() -> None:
    def body(lock: Any) -> None:
        with lock:
            lock.locked()

    code = body.__code__
    first = code.co_firstlineno
    found = stops(code, {first + 1, first + 2})
    assert found[first + 2] == [False]
    assert any(found[first + 1]) == (sys.version_info >= (3, 14))


def test_a_process_that_has_begun_is_not_lost() -> None:
    """Whoever starts one knows of it only at the end of the last function that has a part in that."""
    fit: dict[str, bool] = {}

    def look(frame: FrameType, event: str, arg: object) -> Any:
        frame.f_trace_opcodes = True
        if event == "opcode" and getattr(frame.f_locals.get("self"), "pid", None):
            now = moments.is_fit(frame) or moments.is_fit(frame, hasty=True)
            fit[frame.f_code.co_name] = fit.get(frame.f_code.co_name, False) or now
        return look

    former = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # before, for 3.12
    sys.settrace(look)
    try:
        process = subprocess.Popen(["true"])
        process.__enter__()  # only this half is looked at
    finally:
        sys.settrace(former)
    process.wait()
    assert {"__init__", "_execute_child", "__enter__"} <= fit.keys()
    assert not any(fit.values()), fit


def test_the_blocks_are_those_of_the_standard_library() -> None:
    import dis

    for function in (threading.Condition.wait, asyncio.Runner.run, bodies.acquire_and_try):
        code = function.__code__
        expected = [(each.start, each.end, each.target) for each in dis._parse_exception_table(code)]  # type: ignore[attr-defined]
        assert list(bytecode._blocks(code)) == expected


def test_a_bad_moment_of_an_earlier_block_says_nothing_of_this_one() -> None:
    """Only where one block of the loop is never seen at a good moment, and is seen often, any moment is taken."""

    def release() -> Any:  # a function of that name is to come to its end
        return sys._getframe()

    loop = asyncio.new_event_loop()
    try:
        interrupter = Interrupter(loop, lambda: None)
        frame = Blocker(None, [release()], importing=False)
        assert not interrupter._is_fit(frame, 100.0)
        assert not interrupter._is_fit(frame, 150.0)  # the machine was busy with others
        for _ in range(400):
            interrupter._is_fit(frame, 100.5)
        assert interrupter._is_fit(frame, 101.0)
        interrupter._turned()
        assert not interrupter._is_fit(frame, 102.0)
        for _ in range(400):
            interrupter._is_fit(frame, 110.0)
        interrupter._arm(1e9)
        assert not interrupter._is_fit(frame, 120.0)
    finally:
        loop.close()


Begin = Callable[[Any], object]


def _with(lock: threading.Lock, begin: Begin) -> None:
    begin(sys._getframe())
    for _ in range(2):
        with lock:
            pass
        with lock:
            len("")


def _finally(lock: threading.Lock, begin: Begin) -> None:
    begin(sys._getframe())
    for _ in range(2):
        lock.acquire()
        try:
            len("")
        finally:
            lock.release()


def _return(lock: threading.Lock, begin: Begin) -> int:
    begin(sys._getframe())
    with lock:
        return len("")


def _break(lock: threading.Lock, begin: Begin) -> None:
    begin(sys._getframe())
    while True:
        with lock:
            if not len(""):
                break
    len("")


def _error(lock: threading.Lock, begin: Begin) -> None:
    begin(sys._getframe())
    try:
        with lock:
            int("no number")
    except ValueError:
        pass


def _generator(lock: threading.Lock, begin: Begin) -> None:
    def passes() -> Iterator[None]:
        begin(sys._getframe())
        with lock:
            pass
        yield

    list(passes())


def _loop_in_it(lock: threading.Lock, begin: Begin) -> Any:
    """On Python 3.13 and 3.14 the jump of the `if` is in no block."""
    begin(sys._getframe())
    with lock:
        for found in (1, None):
            if found is None:
                return found
    return None


def _calls_in_a_loop(lock: threading.Lock, begin: Begin) -> Any:
    begin(sys._getframe())
    with lock:
        for found in (1, 2):
            if len("") is None:
                size = len("")
                begin(size)
                return size
            if found is None:
                return found
    return None


class _Out(BaseException):
    pass


@pytest.mark.parametrize(
    "function",
    [_with, _finally, _return, _break, _error, _generator, _loop_in_it, _calls_in_a_loop],
)
def test_whoever_looks_before_each_instruction_leaves_no_lock(
    function: Callable[[threading.Lock, Begin], object],
) -> None:
    """An exception at the first moment that is fit from the n-th instruction on, for each n there is."""
    for number in range(1000):
        lock = threading.Lock()
        # in a generator, which has what is handled to itself: left at POP_EXCEPT, that stays behind in the thread
        if not next(_is_left(function, lock, number) for _ in (1,)):
            break
        assert not lock.locked(), number
    assert 10 < number < 999


def _is_left(function: Callable[[Any, Begin], object], what: Any, number: int) -> bool:
    seen = 0
    steps: list[Any] = []

    def act(frame: Any) -> None:
        nonlocal seen
        seen += 1
        at = frame.f_code, frame.f_lasti
        if seen > number and moments.is_fit(frame, before=True) and not bytecode.is_finally(*at):
            steps[0].end()
            raise _Out

    try:
        function(what, lambda frame: steps.append(steps_of([frame], act)))
    except _Out:
        return True
    finally:
        steps[0].end()
    return False


def _value(trace: list[str], begin: Begin) -> int:
    begin(sys._getframe())
    try:
        trace.append("begun")
        return len("")
    finally:
        trace.append("one")
        trace.append("two")


def _constant(trace: list[str], begin: Begin) -> int:
    begin(sys._getframe())
    for _ in range(2):
        try:
            trace.append("begun")
            if len(trace) > 3:
                return 4
        except ValueError:
            return 5
        finally:
            if len(trace) < 100:
                trace.append("one")
            trace.append("two")
    return 6


def _loop(trace: list[str], begin: Begin) -> None:
    begin(sys._getframe())
    for turn in range(3):
        try:
            trace.append("begun")
            if turn == 1:
                continue
            if turn == 2:
                break
        finally:
            try:
                trace.append("one")
            finally:
                trace.append("two")


def _coroutine(trace: list[str], begin: Begin) -> None:
    async def finishes(word: str) -> None:
        trace.append(word)

    async def body() -> int:
        begin(sys._getframe())
        try:
            trace.append("begun")
            with contextlib.suppress(KeyError):
                return len("")
        finally:
            await finishes("one")
            await finishes("two")
        return 1

    asyncio.run(body())


def _jumps(trace: list[str], begin: Begin) -> Any:
    begin(sys._getframe())
    try:
        for found in (1, 2):
            trace.append("begun") if not trace else None
            if found is None:
                return found
    finally:
        trace.append("one")
        trace.append("two")


def _error_in_it(trace: list[str], begin: Begin) -> None:
    begin(sys._getframe())
    with contextlib.suppress(ValueError):
        try:
            trace.append("begun")
            int("no number")
        finally:
            trace.append("one")
            trace.append("two")


@pytest.mark.parametrize("function", [_value, _constant, _loop, _coroutine, _jumps, _error_in_it])
def test_whoever_looks_before_each_instruction_passes_no_finally_by(
    function: Callable[[list[str], Begin], object],
) -> None:
    """What has begun a `try` does all of its `finally`, whichever way it takes out of it."""
    for number in range(1000):
        trace: list[str] = []
        if not next(_is_left(function, trace, number) for _ in (1,)):
            break
        done = [word for word in trace if word != "begun"]
        assert done == ["one", "two"] * (len(done) // 2), number
        assert trace.count("begun") <= len(done) // 2, number
    assert 5 < number < 999


def test_a_finally_is_let_alone_for_a_while_only() -> None:
    clock, trace = [0.0], []

    def function() -> Iterator[None]:
        seek = Seek([sys._getframe()], _Out, lambda: clock[0])
        try:
            trace.append("begun")
        finally:
            trace.append("one")
            clock[0] = 1.0
            trace.append("two")
        yield
        seek.end()

    def comes_late(frame: FrameType, **kinds: bool) -> bool:
        """Nothing is fit before the `finally`."""
        return bytecode.is_finally(frame.f_code, frame.f_lasti)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(_Out):
        patch.setattr(tearing, "is_fit", comes_late)
        list(function())
    assert trace == ["begun", "one"]


def test_a_while_without_a_turn_is_none_of_that() -> None:
    """The machine may be busy just then: nothing of the `finally` was done, and it was passed by."""
    trace = []

    def function() -> Iterator[None]:
        seek = Seek([sys._getframe()], _Out)
        try:
            trace.append("begun")
            time.sleep(0.2)  # uses as little of the processor as who has no turn
        finally:
            trace.append("one")
            trace.append("two")
        yield
        seek.end()

    def comes_late(frame: FrameType, **kinds: bool) -> bool:
        return bytecode.is_finally(frame.f_code, frame.f_lasti)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tearing, "is_fit", comes_late)
        list(function())
    assert trace == ["begun", "one", "two"]


def test_what_handles_exceptions_in_another_way_is_no_finally() -> None:
    def handles(lock: threading.Lock) -> None:
        try:
            len("")
        except KeyError:
            len("")
        try:
            len("")
        except:  # noqa: E722
            len("")
        try:
            len("")
        except* KeyError:
            len("")
        with lock:
            len("")

    code = handles.__code__
    assert not any(bytecode.is_finally(code, step.offset) for step in dis.get_instructions(code))


def test_a_jump_in_the_middle_of_a_block_that_is_no_part_of_it_is_seen() -> None:
    def jumps(given: list[Any]) -> int:
        try:
            for found in given:
                if found is None:
                    return 5
        except BaseException:
            given.clear()
            raise
        return 6

    code = jumps.__code__
    for step in dis.get_instructions(code):
        if step.opname.startswith("POP_JUMP") and not bytecode.handlers_around(code, step.offset):
            assert bytecode.block_of(code, step.offset) or bytecode.enters(code, step.offset, before=True)


def test_an_error_on_its_way_is_not_replaced() -> None:
    def handles() -> None:
        try:
            int("no number")
        except KeyError:
            pass
        finally:
            sys.exception()

    code = handles.__code__
    unfit = {step.opname for step in dis.get_instructions(code) if not _is_fit_before(code, step.offset)}
    assert {"PUSH_EXC_INFO", "RERAISE"} <= unfit


def test_what_stands_behind_a_raise_is_not_entered_by_it() -> None:
    def raises() -> None:
        if threading.active_count():
            raise KeyError
        try:
            int("no number")
        finally:
            sys.exception()

    code = raises.__code__
    (at,) = (step.offset for step in dis.get_instructions(code) if step.opname == "RAISE_VARARGS")
    assert not bytecode.enters(code, at)


def _is_fit_before(code: CodeType, at: int) -> bool:
    frame = SimpleNamespace(f_code=code, f_lasti=at, f_globals={"__name__": "a"}, f_back=None, f_trace=None)
    return moments.is_fit(cast("FrameType", frame), before=True)


# --- the code of calloff's own, in a thread or process that has an event loop of its own


def _runs_a_loop(begun: threading.Event, arrived: Callable[[BaseException], object]) -> None:
    """Keep a loop busy with operations that begin and are called off."""

    async def short() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        begun.set()
        try:
            while True:
                operations = [calloff.start(short(), timeout=5) for _ in range(5)]
                operations[0].cancel()
                for operation in operations:
                    await operation.outcome()
                await asyncio.sleep(0.001)  # one that never rests is seldom where it may be forced
        except BaseException as error:
            arrived(error)
            raise

    asyncio.run(main())


def _last(error: BaseException) -> TracebackType:
    step = error.__traceback__
    assert step is not None
    while step.tb_next is not None:
        step = step.tb_next
    return step


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
# force that comes just as a coroutine is closed by its destructor is dropped there, and comes again
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <coroutine object _runs_a_loop:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.usefixtures("patient")
async def test_a_thread_with_a_loop_is_not_forced_in_the_middle_of_our_own_code() -> None:
    """Half a step of the ladder would leave that loop without one: its operations would never be forced, and never end."""
    found: Counter[str] = Counter()
    chance = random.Random(1)

    def arrived(error: BaseException) -> None:
        step = _last(error)
        code = step.tb_frame.f_code
        ours = code.co_filename.startswith(os.path.dirname(calloff.__file__))
        has_begun = step.tb_lineno > code.co_firstlineno
        if isinstance(error, calloff.StopForced) and ours and has_begun:
            found[code.co_qualname] += 1

    for _ in range(ROUNDS):
        begun = threading.Event()
        op = calloff.start(calloff.thread(_runs_a_loop, begun, arrived), grace=0.01)
        while not begun.is_set():
            await asyncio.sleep(0)
        await asyncio.sleep(chance.random() * 0.02)
        outcome = await op.stop()
        assert outcome.report.rung is calloff.Rung.FORCED, outcome
    assert not found
    gc.collect()  # coroutines that force has kept from being awaited


async def test_our_own_code_is_no_place_for_an_exception_unless_it_waits() -> None:
    with pytest.raises(TypeError) as caught:
        calloff.start(3)  # type: ignore[arg-type]  # that is what is tried
    frame = _last(caught.value).tb_frame
    assert frame.f_globals["__name__"].startswith("calloff.")
    assert not moments.is_fit(frame)
    assert not moments.is_fit(frame, hasty=True)
    assert moments.is_fit(frame, waits=True)
    assert moments.may_break_off(frame)
