"""Functions in worker processes: values, errors, what crosses over, the pool."""

import asyncio
import functools
import gc
import math
import os
import signal
import threading

import places.process_bodies as bodies
import pytest
from places.process_table import gone

import calloff
from calloff._os.fds import is_readable
from calloff._places.process.pool import SETTINGS, pool_of


@pytest.fixture(autouse=True)
def settings():
    before = vars(SETTINGS).copy()
    yield
    vars(SETTINGS).update(before)


def call(*args, **kwargs):
    return calloff.call(calloff.process(*args, **kwargs))


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "value"),
    [
        (bodies.add, (1,), {"b": 2}, 3),
        (math.sqrt, (16.0,), {}, 4.0),
        (bodies.async_add, (1, 2), {}, 3),
        (functools.partial(bodies.async_add, 1), (), {"b": 5}, 6),
        (functools.partial(bodies.add, 1, b=4), (), {}, 5),
        (lambda x: x * 2, (4,), {}, 8),
        (dict, (), {"a": 1}, {"a": 1}),
    ],
)
async def test_values(fn, args, kwargs, value):
    assert await call(fn, *args, **kwargs) == value
    op = calloff.start(calloff.process(fn, *args, **kwargs))
    assert op.place == "process"
    assert await op.outcome() == calloff.Completed(value)


async def test_the_garbage_collector_is_on_again_in_a_worker():
    assert await call(gc.isenabled)


async def test_it_runs_in_another_process_that_is_kept():
    pids = {await call(os.getpid) for _ in range(5)}
    assert len(pids) == 1
    assert os.getpid() not in pids


async def test_classes_and_functions_of_this_scope_are_sent_by_value():
    factor = 3

    def scale(x):
        return x * factor

    assert await call(scale, 5) == 15


async def test_an_error_has_the_traceback_of_the_worker_as_its_cause():
    with pytest.raises(ValueError, match="no good") as caught:
        await call(bodies.fail, "no good")
    text = str(caught.value.__cause__)
    assert "process_bodies.py" in text
    assert "in fail" in text
    assert "worker.py" not in text


async def test_errors_that_can_not_be_unpickled_arrive_all_the_same():
    with pytest.raises(bodies.Odd, match="odd: 3") as caught:
        await call(bodies.raise_odd)
    assert (caught.value.number, caught.value.hint) == (3, "even")
    with pytest.raises(Exception, match=r"^local$") as local:
        await call(bodies.raise_unpicklable)
    assert type(local.value).__name__ == "Local"
    with pytest.raises(RuntimeError, match="StopIteration"):
        await call(bodies.raise_kind, "StopIteration")
    op = calloff.start(calloff.process(bodies.raise_kind, "SystemExit"))
    outcome = await op.outcome()
    assert isinstance(outcome, calloff.Failed)
    assert isinstance(outcome.error, calloff.WorkerDied), "it is not our program that is to end"


async def test_an_answer_whose_own_code_ends_the_program_ends_no_worker():
    pid = await call(os.getpid)
    with pytest.raises(ValueError, match="quits"):
        await call(bodies.raise_quits)
    with pytest.raises(TypeError, match="the result of return_what_cannot_leave can't be sent back"):
        await call(bodies.return_what_cannot_leave)
    with pytest.raises(
        TypeError, match="return_what_interrupts can't be sent back: packing it raised KeyboardInterrupt"
    ):
        await call(bodies.return_what_interrupts)
    assert await call(os.getpid) == pid


async def test_a_function_that_closes_the_files_of_its_worker_is_named_and_no_lines_of_ours_are_shown(capfd):
    shown = ""
    for _ in range(20):  # the workers of earlier tests have the outputs of then
        with pytest.raises(calloff.WorkerDied):
            await call(bodies.close_all_files)
        shown += capfd.readouterr().err
        if "close_all_files can't be sent back" in shown:
            break
    else:
        raise AssertionError("nothing was printed")
    assert "Traceback" not in shown


async def test_a_cancelled_error_of_its_own():
    outcome = await calloff.start(calloff.process(bodies.raise_cancelled)).outcome()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.reason.kind == "external"


async def test_what_can_not_be_sent_is_named_before_anything_starts():
    with pytest.raises(TypeError, match=r"echo can't be sent to a process: argument 1 \(_thread.lock\)"):
        calloff.start(calloff.process(bodies.echo, threading.Lock()))
    with pytest.raises(TypeError, match=r"argument 'b' \(_thread.lock\)"):
        calloff.start(calloff.process(bodies.add, 1, b=threading.Lock()))
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"the variable 'lock', which .*, can't be pickled"):
        calloff.start(calloff.process(lambda: lock))
    with pytest.raises(TypeError, match="result of lock can't be sent back"):
        await call(bodies.lock)
    with pytest.raises(TypeError, match="needs a function"):
        calloff.process(3)  # type: ignore[call-overload]  # on purpose
    assert not calloff.operations()


@pytest.mark.parametrize("junk", [b"junk", b"(junk", b"(\x08\0\0\0junk", b"\0" * 100])
async def test_a_function_that_writes_to_files_of_others_does_not_hold_up_the_loop(junk):
    """Of what begins as a tuple of C its length would be believed: the memory for `(junk` took a minute."""
    op = calloff.start(calloff.process(bodies.write_to_files_of_others, junk), timeout=5, grace=0)
    with pytest.raises(calloff.WorkerDied, match="what came from the worker process can't be read"):
        await op


@pytest.mark.parametrize(
    ("how", "signum", "status"),
    [("exit", None, 7), ("SIGSEGV", 11, None), ("SIGKILL", 9, None), ("SIGTERM", 15, None)],
)
async def test_a_worker_that_dies_fails_its_own_operation_only(how, signum, status):
    others = [calloff.start(calloff.process(bodies.short, 50)) for _ in range(3)]
    with pytest.raises(calloff.WorkerDied) as caught:
        await call(bodies.die, how)
    assert (caught.value.signal, caught.value.status) == (signum, status)
    assert await asyncio.gather(*others) == [50] * 3
    assert await call(bodies.add, 1) == 1


async def test_an_idle_worker_that_was_killed_costs_nobody_anything():
    for _ in range(5):
        pid = await call(os.getpid)
        os.kill(pid, signal.SIGKILL)
        assert await call(bodies.add, 2) == 2  # at once: nobody has looked after the worker yet
        assert gone(pid)


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000, 300_000, 40_000_000])
async def test_payloads_of_any_size(size):
    data = os.urandom(min(size, 1000)) * (size // min(size, 1000) if size else 0)
    back = await call(bodies.echo, data)
    assert type(back) is bytes
    assert back == data
    changeable = await call(bodies.echo, bytearray(data))
    assert type(changeable) is bytearray
    assert changeable == data
    text = await call(bodies.echo, {"deep": [data, "x" * size]})
    assert text == {"deep": [data, "x" * size]}


async def test_the_loop_runs_while_large_payloads_travel():
    ops = [calloff.start(calloff.process(bodies.echo, bytes(30_000_000))) for _ in range(3)]
    turns = 0
    while not all(op.done() for op in ops):
        await asyncio.sleep(0)
        turns += 1
    assert turns > 20
    assert all(len(op.result()) == 30_000_000 for op in ops)


async def test_arguments_are_taken_as_they_are_at_the_start():
    data = bytearray(b"a" * 1_000_000)
    op = calloff.start(calloff.process(bodies.echo, data))
    data[:] = b"b" * 1_000_000
    assert await op == b"a" * 1_000_000


async def test_progress_and_the_operation_cross_over():
    op = calloff.start(calloff.process(bodies.report_progress, 5), name="counting")
    assert await op == "counting"
    assert op.progress == (5, 5)
    op = calloff.start(calloff.process(bodies.tell), timeout=30)
    id, name, place, left, left_too = await op
    assert (id, name, place) == (op.id, "tell", "process")
    assert 0 < left <= 30
    assert 0 < left_too <= 30
    assert await call(bodies.tell) == (str(int(op.id) + 1), "tell", "process", None, math.inf)


async def test_more_progress_than_anybody_reads():
    op = calloff.start(calloff.process(bodies.report_progress, 20_000))
    await op
    assert op.progress is not None


async def test_progress_counts_against_a_stall():
    for stall in (0.8, 5.0):  # a busy machine may give the worker no turn for as long as the first
        count = int(25 * stall)  # in all it takes longer than the silence that is allowed
        outcome = await calloff.start(calloff.process(bodies.many_stalls, count), stall=stall).outcome()
        if outcome == calloff.Completed(count):
            return
    raise AssertionError(outcome)


async def test_operations_inside_end_with_the_job(tmp_path):
    assert await calloff.call(calloff.process(bodies.nested, str(tmp_path / "inner")), name="outer") == "outer"
    assert (tmp_path / "inner").read_text() == "inner ended"


async def test_processes_in_processes():
    assert await call(bodies.use_processes)


async def test_output_goes_where_ours_goes(capfd):
    calloff.process.configure(max_jobs=1)
    await call(bodies.add, 1)
    for _ in range(20):  # the workers of earlier tests have the outputs of then
        await call(bodies.print_and_return, "here")
        if "here" in capfd.readouterr().out:
            return
    raise AssertionError("nothing was printed")


async def test_beyond_the_size_they_wait_their_turn(tmp_path):
    calloff.process.configure(size=2)
    paths = [str(tmp_path / str(number)) for number in range(2)]
    running = [calloff.start(calloff.process(bodies.touch_and_sleep, path)) for path in paths]
    waiting = [calloff.start(calloff.process(bodies.add, number)) for number in range(3)]
    while not all(os.path.exists(path) for path in paths):
        await asyncio.sleep(0.01)
    assert [str(op.state) for op in (*running, *waiting)] == ["running"] * 2 + ["pending"] * 3
    counts = calloff.process.counts()
    assert (counts.running, counts.waiting) == (2, 3)
    assert waiting[1].where() == ()
    outcome = await waiting[1].stop("changed our mind")
    assert isinstance(outcome, calloff.Cancelled)
    assert not outcome.report.started
    await running[0].stop(grace=0)
    assert await waiting[0] == 0
    assert await waiting[2] == 2
    await running[1].stop(grace=0)


async def test_force_that_comes_after_the_end_leaves_the_next_in_the_worker_alone(tmp_path):
    """What was called off has obeyed, but nobody has read that yet when force is due; the worker goes to who waits."""
    calloff.process.configure(size=1)
    path = tmp_path / "begun"
    running = calloff.start(calloff.process(bodies.touch_and_sleep, str(path)))
    waiting = calloff.start(calloff.process(bodies.add, 7))
    while not path.exists():
        await asyncio.sleep(0.01)
    running.cancel("enough", grace=60)
    assert is_readable(running.body.worker._files[0], 60)  # the loop does not turn meanwhile
    running.body.force()
    assert await waiting == 7
    assert isinstance(await running.outcome(), calloff.Cancelled)


async def test_a_worker_is_replaced_after_so_many_jobs():
    calloff.process.configure(max_jobs=2)
    assert len({await call(os.getpid) for _ in range(8)}) >= 3


async def test_idle_are_those_that_are_ready():
    pool = pool_of(asyncio.get_running_loop())
    calloff.process.configure(size=20, spares=len(pool.idle) + 2)
    before = calloff.process.counts().idle
    pool._refill()
    assert len(pool.idle) >= before + 2
    assert calloff.process.counts().idle == before
    while calloff.process.counts().idle < len(pool.idle):
        await asyncio.sleep(0.001)
    assert calloff.process.counts().running == 0


async def test_a_spare_is_not_made_while_another_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("calloff._places.process.pool._PAUSE", 60)
    pool = pool_of(asyncio.get_running_loop())
    calloff.process.configure(spares=len(pool.idle) + 2)
    op = calloff.start(calloff.process(bodies.touch_and_sleep, str(tmp_path / "began")))
    while pool._refill_timer is None:
        await asyncio.sleep(0)
    first = pool._refill_timer
    op.cancel(grace=0)
    assert first.cancelled()
    assert not pool._refill_timer.cancelled()
    await op.outcome()


async def test_modules_can_be_loaded_beforehand():
    calloff.process.configure(preload=["wave"], max_jobs=1)
    await call(bodies.add, 1)
    for _ in range(len(pool_of(asyncio.get_running_loop()).workers) + 2):  # those of before are used up first
        found = await call(eval, "'wave' in __import__('sys').modules")
    assert found


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"size": 0}, ValueError),
        ({"size": 1.5}, TypeError),
        ({"spares": -1}, ValueError),
        ({"preload": "os"}, TypeError),
    ],
)
def test_settings_are_checked(settings, error):
    before = vars(SETTINGS).copy()
    with pytest.raises(error, match=next(iter(settings))):
        calloff.process.configure(**settings)
    assert vars(SETTINGS) == before


async def test_many_at_once():
    ops = [calloff.start(calloff.process(bodies.add, number)) for number in range(500)]
    assert [await op for op in ops] == list(range(500))


def test_two_loops_in_two_threads():
    results = []

    def run():
        async def main():
            return [await call(bodies.add, number) for number in range(20)]

        results.append(asyncio.run(main()))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [list(range(20))] * 2


async def test_a_limit_does_not_count_while_the_worker_comes_up(tmp_path, monkeypatch):
    gate = tmp_path / "gate"
    (tmp_path / "waits_at_import.py").write_text(
        f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.005)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    SETTINGS.preload, SETTINGS.spares = ("waits_at_import",), 0
    for timeout in (1.5, 10.0):  # a busy machine may not come to its end within the first, once it has begun
        gate.unlink(missing_ok=True)
        calloff.process.restart()
        op = calloff.start(calloff.process(bodies.add, 1, b=2), timeout=timeout)
        called_off = calloff.start(calloff.process(bodies.add, 1, b=2))
        await asyncio.sleep(timeout + 0.1)  # longer than the limit
        assert [str(each.state) for each in (op, called_off)] == ["pending", "pending"]
        outcome = await called_off.stop()
        assert (type(outcome), outcome.report.started) == (calloff.Cancelled, False)
        gate.touch()
        ended = await op.outcome()
        if ended == calloff.Completed(3):
            break
    assert ended == calloff.Completed(3)
    assert await call(bodies.add, 1, b=2) == 3
    calloff.process.restart()


async def test_a_worker_that_never_comes_up_does_not_hold_its_function_for_ever(tmp_path, monkeypatch):
    (tmp_path / "hangs_at_import.py").write_text("import time\ntime.sleep(1000)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("calloff._places.process.worker._COLD", 0.1)
    calloff.process.restart()
    SETTINGS.preload, SETTINGS.spares = ("hangs_at_import",), 0
    with pytest.raises(calloff.TimedOut):
        await calloff.call(calloff.process(bodies.add, 1, b=2), timeout=0.1, grace=0.1)
    SETTINGS.preload = ()
    calloff.process.restart()
    assert await call(bodies.add, 1, b=2) == 3
