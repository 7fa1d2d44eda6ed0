"""Several items in one job of a worker: limits, culprits and results of each are kept."""

import collections
import functools
import os
import struct
import subprocess
import sys
import threading
import time
import types
from types import SimpleNamespace
from typing import Any

import pytest
from map import bodies

import calloff
from calloff import Cancelled, Completed, Failed
from calloff._map.batches import Batch, Batches
from calloff._map.spool import Spool, has_children
from calloff._places.process.pool import SETTINGS
from calloff._words.errors import ended_error


def effects(folder):
    found: collections.Counter[Any] = collections.Counter()
    for file in folder.iterdir():
        found.update(map(int, file.read_text().split()))
    return found


def noted(item, folder, work):
    """Note that the item ran, by whom, and do it."""
    file = os.open(f"{folder}/{os.getpid()}", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, f"{item}\n".encode())
    os.close(file)
    return work(item)


@pytest.mark.parametrize("kind", ["hang", "C loop", "crash", "refuse", "os._exit", "kill", "raise", "unpicklable"])
def test_nothing_else_of_its_batch_is_lost_or_runs_twice(kind, tmp_path):
    work = functools.partial(noted, folder=str(tmp_path), work=functools.partial(bodies.bad, kind=kind))
    limit = 2.0 if kind in ("hang", "C loop", "refuse") else 60.0  # a busy machine holds up the others for that long
    options: dict[str, Any] = {"place": calloff.process, "jobs": 2, "batch": 40, "timeout": limit, "grace": 0.2}
    outcomes = calloff.run(calloff.map(work, range(100), **options))
    others = {item: outcome for item, outcome in enumerate(outcomes) if item != 23 and outcome != Completed(item)}
    assert not others
    assert outcomes[23] != Completed(23)
    assert effects(tmp_path) == dict.fromkeys(range(100), 1)
    if isinstance(outcomes[23], Cancelled):
        assert outcomes[23].report.reason.kind == "deadline"
        assert "within 2 s" in str(ended_error(outcomes[23].operation, outcomes[23].report))


def test_only_what_took_longer_than_its_limit_is_stopped(tmp_path):
    """Also an item that does nothing may take longer, on a busy machine: so each notes when it began."""
    limit, count = 0.05, 120
    begins = tmp_path / "begins"
    begins.write_bytes(bytes(8 * count))

    async def main():
        ends: collections.Counter[Any] = collections.Counter()
        options: dict[str, Any] = {"place": calloff.process, "jobs": 2, "batch": 30, "timeout": limit, "grace": 1}
        async with calloff.map(around, range(count), **options) as results:
            async for item, outcome in results:
                ends[type(outcome)] += 1
                if item % 10 == 9:
                    assert isinstance(outcome, Cancelled)
                elif item % 2 == 0 and outcome != Completed(item):
                    (began,) = struct.unpack_from("d", begins.read_bytes(), 8 * item)
                    late = began == 0 or outcome.report.requested_at - began > limit / 2
                    assert late, f"an innocent item was stopped: {outcome}"
        assert sum(ends.values()) == count
        assert ends[Cancelled] >= count // 10

    def around(item):
        with open(begins, "r+b") as file:
            os.pwrite(file.fileno(), struct.pack("d", time.monotonic()), 8 * item)
        if item % 10 == 9:
            time.sleep(3600)
        if item % 2:
            time.sleep(limit * (0.9 + 0.2 * (item % 10) / 10))
        return item

    calloff.run(main())


def test_what_had_ended_before_another_item_was_asked_has_no_report(monkeypatch):
    monkeypatch.setattr("calloff._map.in_processes.has_children", lambda body: True)  # nothing is told before the end

    async def main():
        options: dict[str, Any] = {"place": calloff.process, "jobs": 1, "batch": 10, "timeout": 0.3, "grace": 1}
        outcomes = await calloff.map(hangs_at_5, range(10), **options)
        assert [outcome for item, outcome in enumerate(outcomes) if outcome != Completed(item)] == [outcomes[5]]
        assert isinstance(outcomes[5], Cancelled)

    def hangs_at_5(item):
        if item == 5:
            time.sleep(3600)
        return item

    calloff.run(main())


def test_results_are_not_hidden_behind_a_slow_item_of_the_same_batch():
    async def main():
        calloff.process.configure(size=1)
        early = 0
        options: dict[str, Any] = {"place": calloff.process, "jobs": 1, "batch": 100, "grace": 0}
        async with calloff.map(slow_at_50, range(100), **options) as results:
            async for item, _ in results:
                assert item == early
                early += 1
                if early == 50:
                    break

    def slow_at_50(item):
        time.sleep(3600 if item == 50 else 0.001)

    size = SETTINGS.size
    try:
        began = time.monotonic()
        calloff.run(main())
        assert time.monotonic() - began < 30
    finally:
        calloff.process.configure(size=size)


def test_what_an_item_leaves_behind_is_dead_before_its_result_is_told(tmp_path):
    async def main():
        options: dict[str, Any] = {"place": calloff.process, "jobs": 1, "batch": 20}
        async with calloff.map(leaves, range(40), **options) as results:
            async for item, outcome in results:
                assert outcome == Completed(item)
                if item == 7:
                    (pid,) = tmp_path.iterdir()
                    assert not os.path.exists(f"/proc/{pid.name}")

    def leaves(item):
        if item == 7:
            child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
            (tmp_path / str(child.pid)).touch()
        return item

    calloff.run(main())


def test_of_a_worker_that_is_dead_nobody_can_tell_what_it_has_left():
    body = types.SimpleNamespace(pid=os.getpid())
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    try:
        assert has_children(body)
        assert not has_children(types.SimpleNamespace(pid=child.pid))
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert has_children(types.SimpleNamespace(pid=child.pid))  # its children, if any, are somebody else's now
    finally:
        child.kill()
        child.wait()
    assert has_children(types.SimpleNamespace(pid=child.pid))


def test_an_item_that_hangs_behind_one_that_left_a_child():
    async def main():
        # a busy machine takes long to begin a program, and for that an innocent item waits
        options: dict[str, Any] = {"place": calloff.process, "jobs": 1, "batch": 20, "timeout": 3.0, "grace": 0.2}
        outcomes = await calloff.map(work, range(10), **options)
        assert [type(outcome) for outcome in outcomes] == [Cancelled if item == 5 else Completed for item in range(10)]

    def work(item):
        if item == 4:
            subprocess.Popen(["sleep", "3600"], start_new_session=True)
        if item == 5:
            time.sleep(3600)

    calloff.run(main())


def test_one_that_hangs_where_the_machine_let_the_worker_wait_before_it(monkeypatch):
    """It had said that it gets on, and began with the item long after that."""
    looks = []
    began = Spool.began

    def late(spool):
        looks.append(1)
        return 0.0 if len(looks) < 5 else began(spool)

    monkeypatch.setattr(Spool, "began", late)
    options: dict[str, Any] = {"place": calloff.process, "jobs": 1, "batch": 20, "timeout": 0.3, "grace": 0}
    (outcome,) = calloff.run(calloff.map(hangs, [1], **options), timeout=30)
    assert isinstance(outcome, Cancelled)


def hangs(item):
    time.sleep(3600)


def test_reports_of_progress_do_not_put_off_the_limit():
    async def main():
        outcomes = await calloff.map(chatters, range(6), place=calloff.process, batch=6, jobs=1, timeout=0.3, grace=0.2)
        assert [type(outcome) for outcome in outcomes] == [Completed] * 3 + [Cancelled] + [Completed] * 2

    def chatters(item):
        while item == 3:
            calloff.progress(item)
            time.sleep(0.001)

    calloff.run(main())


def test_the_limit_is_seen_inside():
    async def main():
        outcomes = await calloff.map(left, range(3), place=calloff.process, batch=3, jobs=1, timeout=30)
        assert all(29 < outcome.unwrap() <= 30 for outcome in outcomes)

    def left(item):
        return calloff.remaining()

    calloff.run(main())


def test_one_that_returns_a_value_although_it_was_asked():
    async def main():
        options: dict[str, Any] = {"place": calloff.process, "batch": 5, "jobs": 1, "timeout": 0.2, "grace": 5}
        outcomes = await calloff.map(stubborn, range(5), **options)
        assert [outcome.unwrap() for outcome in outcomes] == [0, 1, "all the same", 3, 4]
        assert [outcome.report is not None for outcome in outcomes] == [False, False, True, False, False]

    def stubborn(item):
        if item != 2:
            return item
        try:
            time.sleep(3600)
        except BaseException:
            pass
        return "all the same"

    calloff.run(main())


@pytest.mark.parametrize("size", [10, 100_000, 5_000_000])
def test_results_of_any_size(size):
    async def main():
        outcomes = await calloff.map(blob, range(20), place=calloff.process, batch=20, jobs=1)
        assert [outcome.unwrap() for outcome in outcomes] == [bytes([item]) * size for item in range(20)]

    def blob(item):
        return bytes([item]) * size

    calloff.run(main())


def test_an_item_that_can_not_be_sent_fails_alone():
    async def main():
        items = [0, 1, threading.Lock(), 3]
        outcomes = await calloff.map(type_of, items, place=calloff.process, batch=4, jobs=1)
        assert [type(outcome) for outcome in outcomes] == [Completed, Completed, Failed, Completed]
        assert "can't be pickled" in str(outcomes[2].error)

    def type_of(item):
        return str(type(item))

    calloff.run(main())


def test_a_function_that_can_not_be_sent_is_refused_before_anything_runs():
    lock = threading.Lock()

    async def main():
        with pytest.raises(TypeError, match="can't be pickled"):
            await calloff.map(lambda item: lock, [1], place=calloff.process)

    calloff.run(main())


def test_the_traceback_of_an_error_begins_in_the_function():
    async def main():
        (outcome,) = await calloff.map(bodies.fails, [1], place=calloff.process, batch=2)
        text = str(outcome.error.__cause__)
        assert "in fails" in text
        assert "calloff" not in text.split("in fails")[0].replace(os.path.dirname(bodies.__file__), "")

    calloff.run(main())


def test_where_it_was_is_the_line_of_the_function():
    async def main():
        (outcome,) = await calloff.map(naps, [1], place=calloff.process, batch=2, timeout=0.3)
        assert [frame.function.rpartition(".")[2] for frame in outcome.report.where] == ["naps"]

    def naps(item):
        time.sleep(3600)

    calloff.run(main())


def test_batches_grow_with_what_items_take():
    async def main():
        async with calloff.map(bodies.fine, range(20_000), place=calloff.process, jobs=2) as results:
            most = 0
            async for _ in results:
                most = max(most, results._window.width)
        assert most > 100
        async with calloff.map(bodies.naps, range(20), place=calloff.process, jobs=2) as results:
            async for _ in results:
                pass
            assert results._window.width == 1

    calloff.run(main())


@pytest.mark.parametrize(
    ("left", "size"),
    [(None, 100), (10_000, 250), (400, 100), (20, 5), (12, 5), (6, 3), (1, 1), (0, 1)],
    ids=lambda number: str(number),
)
def test_the_shares_at_the_end_are_equal_and_none_is_too_small_to_be_worth_it(left, size):
    loop = SimpleNamespace(time=time.monotonic)
    window: Any = SimpleNamespace(plan=SimpleNamespace(grace=5.0), loop=loop, journal=None, jobs=2)
    window.total, window.ahead = None if left is None else 10_000, lambda: left
    batches = Batches(window, calloff.start, "auto", Batch)
    batches.took(0.1, 100)
    assert batches.size == size


def test_results_that_raise_when_they_are_unpickled_fail_alone():
    async def main():
        outcomes = await calloff.map(bodies.sets_a_trap, range(6), place=calloff.process, batch=6, jobs=1)
        assert [type(outcome) for outcome in outcomes] == [Completed, Failed, Failed, Failed, Completed, Completed]
        assert [type(outcome.error) for outcome in outcomes[1:4]] == [RuntimeError, ValueError, RuntimeError]

    calloff.run(main())


def test_a_result_that_takes_for_ever_to_be_unpickled_holds_up_nobody():
    async def main():
        options: dict[str, Any] = {"place": calloff.process, "batch": 6, "jobs": 1, "timeout": 0.5, "grace": 0.5}
        outcomes = await calloff.map(bodies.slow_to_unpickle, range(6), **options)
        assert [type(outcome) for outcome in outcomes] == [Completed, Completed, Failed, *[Completed] * 3]
        assert "was not unpickled within 2 s" in str(outcomes[2].error)
        del options["timeout"]
        taken = 0
        async with calloff.map(bodies.slow_to_unpickle, range(6), **options) as results:
            async for _ in results:
                taken += 1
                if taken == 5:
                    break
        assert calloff.operations() == (calloff.current(),)

    calloff.run(main())


def test_no_file_is_left_open():
    async def main():
        while calloff.process.counts().idle < 2:  # the spare has files, too
            await calloff.call(calloff.process(time.sleep, 0.05))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            await calloff.map(bodies.fine, [1, 2, threading.Lock()], place=calloff.process, batch=3, jobs=1)
        return len(os.listdir("/proc/self/fd")) - before

    calloff.run(main())
    assert calloff.run(main()) <= 2


def test_functions_of_the_main_script(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import calloff\n"
        "class Thing:\n    def __init__(self, n): self.n = n\n"
        "def double(thing): return Thing(thing.n * 2)\n"
        "async def main():\n"
        "    outcomes = await calloff.map(double, map(Thing, range(100)), place=calloff.process, jobs=2)\n"
        "    print(sum(outcome.unwrap().n for outcome in outcomes))\n"
        "calloff.run(main())\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("9900\n", "")


def test_the_guard_of_a_worker_is_killed(tmp_path):
    work = functools.partial(noted, folder=str(tmp_path), work=bodies.kills_its_parent)
    outcomes = calloff.run(calloff.map(work, range(30), place=calloff.process, jobs=1, batch=10))
    assert [item for item, outcome in enumerate(outcomes) if outcome != Completed(item)] == [13]
    assert effects(tmp_path) == dict.fromkeys(range(30), 1)
