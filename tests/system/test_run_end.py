"""`calloff.run` ends whatever a program leaves behind, within a bound, and says what it could not end."""

import re
from pathlib import Path

import pytest
from system.run_script import LATE, Program

LEFTOVERS = """
    async def swallow():
        while True:
            try:
                await asyncio.sleep(1)  # plain swallower
            except BaseException:
                pass

    async def stubborn():
        while True:
            try:
                await asyncio.sleep(1)  # stubborn operation
            except BaseException:
                pass

    async def forgotten():
        try:
            await asyncio.sleep(60)
        finally:
            say("forgotten cleaned up")

    async def endless():
        try:
            while True:
                yield 1
        finally:
            while True:
                try:
                    await asyncio.sleep(1)  # endless generator
                except asyncio.CancelledError:
                    pass

    async def sleeper():
        await asyncio.to_thread(time.sleep, 60)

    def busy():
        while True: time.sleep(0.01)  # busy job

    def calls_that_run():
        pools = [each for each in gc.get_objects() if type(each).__name__ == "DaemonExecutor"]
        return [job for pool in pools for job in list(pool._running) if job.running()]

    import gc
    atexit.register(say, "atexit ran")
"""


def test_leftovers_are_ended_or_told(tmp_path: Path, loop_kind: str) -> None:
    source = (
        LEFTOVERS
        + """
    async def main():
        global tasks
        tasks = [asyncio.create_task(swallow()), asyncio.create_task(forgotten())]
        tasks.append(asyncio.create_task(sleeper()))
        tasks.append(asyncio.create_task(asyncio.to_thread(busy)))
        calloff.start(stubborn(), detached=True)
        calloff.start(forgotten(), grace=60)
        global generator
        generator = endless()
        await anext(generator)
        while len(calls_that_run()) < 2:  # one that has not begun is not left
            await asyncio.sleep(0.01)
        say("main done")
        return 7

    say(run(main(), grace=1.0))
    """
    )
    with Program(tmp_path, loop_kind, source) as program:
        since = program.wait_for("main done")
        took = program.end() - since
        assert program.status == 0, program.errors
        assert program.out == ["main done", "forgotten cleaned up", "forgotten cleaned up", "7", "atexit ran"]
        assert 1.0 <= took <= 3.0 + LATE
        logged = [line for line in program.err if line.startswith("LOG")]
        for name, text in [
            (r"task '[^']*' \(swallow\)", "# plain swallower"),
            (r"operation \d+ 'stubborn'", "# stubborn operation"),
            (r"endless", "# endless generator"),
            (r"busy", "# busy job"),
            (r"time\.sleep", "await asyncio.to_thread(time.sleep, 60)"),
        ]:
            pattern = rf"{name}.* \({re.escape(str(program.file.name))}:{program.line(text)}\): "
            assert [line for line in logged if re.search(pattern, line)], "\n".join([pattern, *logged])
        assert len(logged) == len(program.err) == 6, program.err  # the sixth: the stubborn one was let go of


def test_nothing_left_ends_at_once_and_says_nothing(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def tidy():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.2)
            say("tidied")

    async def numbers():
        try:
            yield 1
        finally:
            await asyncio.sleep(0.1)
            say("closed")

    async def main():
        global task, generator
        task = asyncio.create_task(tidy())
        calloff.start(tidy(), detached=True)
        generator = numbers()
        await anext(generator)
        await asyncio.to_thread(time.sleep, 0.01)
        global job
        job = asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.3)
        await asyncio.sleep(0)
        say("main done")

    run(main(), grace=20)
    until = time.monotonic() + 10
    while threading.active_count() > 1 and time.monotonic() < until:  # who was sent home needs a turn for that
        time.sleep(0.01)
    say(threading.active_count(), calloff.operations())
    """
    with Program(tmp_path, loop_kind, source) as program:
        since = program.wait_for("main done")
        took = program.end() - since
        assert (program.status, program.errors) == (0, "")
        assert program.out == ["main done", "tidied", "tidied", "closed", "1 ()"]
        assert took < 1 + LATE


def test_all_phases_share_one_grace(tmp_path: Path, loop_kind: str) -> None:
    source = (
        LEFTOVERS
        + """
    async def main():
        asyncio.create_task(swallow())
        asyncio.create_task(asyncio.to_thread(busy))
        try:
            await asyncio.sleep(60)
        finally:
            say("asked")
            while True:
                try:
                    await asyncio.sleep(60)
                except BaseException:
                    pass

    try:
        run(main(), timeout=2, grace=1.5)
    except calloff.TimedOut as error:
        say(error.report.rung, error)
    """
    )
    with Program(tmp_path, loop_kind, source) as program:
        since = program.wait_for("asked")
        took = program.end() - since
        assert program.status == 0
        assert program.out[1].startswith(
            "ABANDONED 'main' did not end within 2 s and could not be stopped: stuck at main"
        )
        assert program.out[2:] == ["atexit ran"]
        assert 2.5 <= took <= 3.5 + LATE  # grace and 1 s for main, 0.5 s for the rest


def test_processes_that_asyncio_has_started_end_with_the_program(tmp_path: Path, loop_kind: str) -> None:
    """One that obeys, one that does not, one that a task ends itself; and one with a session of its own is let alone."""
    source = """
    import subprocess

    def is_running(process):
        try:
            with open(f"/proc/{process.pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    async def begins(script, **options):
        script = f"{script} echo begun; while :; do sleep 0.05; done"
        process = await asyncio.create_subprocess_shell(script, stdout=-1, **options)
        await process.stdout.readline()
        return process

    async def ends_its_own(process):
        try:
            await asyncio.sleep(60)
        finally:
            process.terminate()
            say("its own ended with", await process.wait())

    async def patient():
        asyncio.create_task(ends_its_own(await begins("trap 'exit 7' TERM;")))
        await asyncio.sleep(0)

    async def main():
        global processes
        processes = [await begins(""), await begins("trap '' TERM;"), await begins("", start_new_session=True)]
        say("main done")

    run(patient(), grace=20)
    run(main(), grace=0.5)
    until = time.monotonic() + 10
    while any(map(is_running, processes[:2])) and time.monotonic() < until:  # killed, and had no turn to die
        time.sleep(0.01)
    say(*map(is_running, processes))
    os.kill(processes[2].pid, 9)
    """
    with Program(tmp_path, loop_kind, source) as program:
        since = program.wait_for("main done")
        took = program.end() - since
        assert program.status == 0, program.errors
        assert program.out == ["its own ended with 7", "main done", "False False True"]
        assert 0.5 <= took <= 1.5 + LATE


def test_a_clean_up_that_its_host_has_set_going_is_not_disturbed(tmp_path: Path, loop_kind: str) -> None:
    """An operation is asked before the plain task that it waits for, which it cancels by itself."""
    source = """
    async def child():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            say("cleaned up")

    async def host():
        await asyncio.create_task(child())

    async def group():
        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    async def main():
        calloff.start(host())
        calloff.start(group())
        await asyncio.sleep(0.01)
        say("main done")

    run(main(), grace=20)
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.wait_for("main done")
        program.end()
        assert program.out == ["main done", "cleaned up", "cleaned up"]


def test_a_process_that_does_not_halt_in_time_is_killed_all_the_same(tmp_path: Path, loop_kind: str) -> None:
    """All of it is halted before it is killed; on a busy machine it may get no turn to halt before the program ends."""
    source = """
    from calloff._places.task import subprocesses

    async def main():
        global process
        process = await asyncio.create_subprocess_exec("sleep", "3600")
        subprocesses.Subprocess._is_halting = lambda self: time.monotonic() - self._halting_since < 3600
        say("main done")

    run(main(), grace=0.2)
    until = time.monotonic() + 20
    while (state := subprocesses.proc.state_of(process.pid)) not in ("", "Z", "X") and time.monotonic() < until:
        time.sleep(0.01)
    say("it ended" if state in ("", "Z", "X") else f"state {state}")
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.wait_for("main done")
        program.end()
        assert program.out == ["main done", "it ended"]


def test_a_generator_is_closed_or_told_also_where_the_time_for_that_is_over_at_once(
    tmp_path: Path, loop_kind: str
) -> None:
    source = (
        LEFTOVERS
        + """
    from calloff._api.ending import Ending

    async def closes():
        try:
            yield 1
        finally:
            say("closed")

    async def main():
        global generators
        generators = [endless(), closes()]
        for generator in generators:
            await anext(generator)
        Ending._soon = property(lambda self: self._loop.time() - 1)  # as if the machine had held it up
        say("main done")

    run(main(), grace=0)
    """
    )
    with Program(tmp_path, loop_kind, source) as program:
        program.wait_for("main done")
        program.end()
        assert program.out[:2] == ["main done", "closed"]
        assert any("async generator endless does not close and was left" in line for line in program.err)


@pytest.mark.parametrize("late", [False, True])
def test_the_refusing_are_never_destroyed(tmp_path: Path, loop_kind: str, late: bool) -> None:
    """Destroying such a coroutine without a loop would spin for ever, in the collector or at exit."""
    source = (
        LEFTOVERS
        + f"""
    import calloff._api.ending
    if {late}:  # the end is over before the ladder of an operation is, as on a machine that is busy
        calloff._api.ending._GUARD = -5.0
"""
        + """
    async def main():
        asyncio.create_task(swallow())
        calloff.start(stubborn(), detached=True)
        await asyncio.sleep(0)

    for _ in range(3):
        run(main(), grace=0.1)
        gc.collect()
        say(calloff.operations())
    """
    )
    with Program(tmp_path, loop_kind, source) as program:
        program.end()
        assert program.status == 0
        assert program.out == ["()", "()", "()", "atexit ran"]
        assert not [line for line in program.err if not line.startswith("LOG")], program.errors


def _ends_with_nothing_left(tmp_path: Path, loop_kind: str, source: str) -> None:
    with Program(tmp_path, loop_kind, source) as program:
        program.end()
        assert program.out == ["()", "atexit ran"], program.errors
        assert not [line for line in program.err if not line.startswith("LOG")], program.errors


def test_a_loop_that_is_slow_to_begin_is_not_interrupted_there(tmp_path: Path, loop_kind: str) -> None:
    """Nothing of the program runs then, though the stack looks like that of a callback: it has no frame of the loop's."""
    source = (
        LEFTOVERS
        + """
    import _socket

    pair = _socket.socketpair

    def slow(*args):
        until = time.monotonic() + 0.8
        while time.monotonic() < until:
            time.sleep(0.01)
        return pair(*args)

    async def main():
        calloff.start(stubborn(), detached=True)
        await asyncio.sleep(0)

    _socket.socketpair = slow
    run(main(), grace=0.1)
    say(calloff.operations())
    """
    )
    _ends_with_nothing_left(tmp_path, loop_kind, source)


def test_a_log_that_is_slow_is_no_callback_of_the_program(tmp_path: Path, loop_kind: str) -> None:
    """It is called by what ends the others, which has more to do after it."""
    source = (
        LEFTOVERS
        + """
    class Slow(logging.Handler):
        def emit(self, record):
            until = time.monotonic() + 0.8
            while time.monotonic() < until:
                time.sleep(0.01)

    async def main():
        for _ in range(3):
            calloff.start(stubborn(), detached=True)
        await asyncio.sleep(0)

    logging.getLogger("calloff").addHandler(Slow())
    run(main(), grace=0.1)
    say(calloff.operations())
    """
    )
    _ends_with_nothing_left(tmp_path, loop_kind, source)


def test_a_leftover_that_blocks_the_loop(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def plain():
        try:
            await asyncio.sleep(60)
        finally:
            say("asked")
            time.sleep(60)

    async def operation():
        try:
            await asyncio.sleep(60)
        finally:
            while True:
                time.monotonic()

    async def main():
        tasks.append(asyncio.create_task(plain()))
        if len(tasks) > 1:
            calloff.start(operation(), detached=True)
        await asyncio.sleep(0)

    tasks = []
    run(main(), grace=0.3)
    run(main(), grace=0.3)
    """
    with Program(tmp_path, loop_kind, source) as program:
        since = program.wait_for("asked")
        took = program.end() - since
        assert (program.status, program.out) == (0, ["asked", "asked"])
        assert took < 2 * (0.3 + 2) + LATE


@pytest.mark.parametrize("blocks", ["a callback", "a task"])
def test_what_blocks_in_the_very_turn_in_which_the_end_looks_again(tmp_path: Path, loop_kind: str, blocks: str) -> None:
    """The loop is held up for longer than until that look, which has nothing else on the timer behind it."""
    source = f"""
    async def holds_up():
        try:
            await asyncio.sleep(60)
        finally:
            if {blocks == "a callback"}:
                asyncio.get_running_loop().call_later(0.02, block)
            time.sleep(0.1)

    async def blocking():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            block()

    def block():
        say("blocks")
        time.sleep(60)

    async def main():
        tasks.append(asyncio.create_task(holds_up()))
        if {blocks == "a task"}:
            tasks.append(asyncio.create_task(blocking()))
        await asyncio.sleep(0)

    tasks = []
    run(main(), grace=0.3)
    """
    with Program(tmp_path, loop_kind, source) as program:
        since = program.wait_for("blocks")
        took = program.end() - since
        assert (program.status, program.out) == (0, ["blocks"])
        assert took < 0.3 + 2 + LATE


def test_clean_up_may_await_and_start_work_at_the_end(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def save(what):
        await asyncio.sleep(0.2)
        say("saved", what)

    async def server():
        try:
            await asyncio.sleep(60)
        finally:
            await calloff.call(save("from an operation"))

    async def plain():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.create_task(save("from a task"))

    async def main():
        calloff.start(server(), detached=True)
        asyncio.create_task(plain())
        await asyncio.sleep(0)

    run(main(), grace=20)
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end()
        assert (program.status, program.errors) == (0, "")
        assert sorted(program.out) == ["saved from a task", "saved from an operation"]


def test_cancelling_all_other_tasks_meets_nothing_of_ours(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def main():
        if KIND != "eager":
            assert asyncio.all_tasks() == {asyncio.current_task()}, asyncio.all_tasks()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others)
        return "fine"

    say(run(main(), timeout=10))
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end()
        assert (program.status, program.out, program.errors) == (0, ["fine"], "")


def test_errors_of_tasks_at_the_end_are_told(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def broken():
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("in the clean-up")

    async def main():
        asyncio.create_task(broken())
        await asyncio.sleep(0)

    run(main())
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end()
        assert program.status == 0
        assert "unhandled exception during calloff.run() shutdown" in program.errors
        assert "ValueError: in the clean-up" in program.errors


@pytest.mark.parametrize("how", ["sys.exit(3)", "raise KeyboardInterrupt", "raise ValueError('x')"])
def test_what_main_raises_comes_out_after_the_end(tmp_path: Path, loop_kind: str, how: str) -> None:
    source = f"""
    async def forgotten():
        try:
            await asyncio.sleep(60)
        finally:
            say("cleaned up")

    async def main():
        asyncio.create_task(forgotten())
        await asyncio.sleep(0)
        {how}

    run(main())
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end()
        assert program.out == ["cleaned up"]
        assert program.status == {"s": 3, "r": 1}[how[0]] if "Key" not in how else program.status in (-2, 130)
        assert "never retrieved" not in program.errors
        assert ("ValueError" in program.errors) == ("ValueError" in how)


def test_system_exit_of_another_task_ends_the_program(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def other():
        await asyncio.sleep(0.05)
        sys.exit(9)

    async def main():
        task = asyncio.create_task(other())
        try:
            await asyncio.sleep(60)
        finally:
            say("main cleaned up", calloff.current().reason.kind)

    run(main())
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end()
        assert (program.status, program.out) == (9, ["main cleaned up shutdown"])


def test_threads_that_hold_up_the_exit_are_told(tmp_path: Path, loop_kind: str) -> None:
    source = """
    from concurrent.futures import ThreadPoolExecutor

    ready, go = os.pipe()
    begun = []

    def work():
        begun.append(True)
        os.read(ready, 1)  # the thread is here

    async def main():
        loop = asyncio.get_running_loop()
        threading.Thread(target=work, name="worker").start()
        global idle, own
        idle, own = ThreadPoolExecutor(1), ThreadPoolExecutor(1, thread_name_prefix="own")
        await loop.run_in_executor(idle, int)
        loop.set_default_executor(own)
        asyncio.create_task(asyncio.to_thread(work))
        while len(begun) < 2:
            await asyncio.sleep(0.01)

    run(main(), grace=0.2)
    os.write(go, b"xx")
    say("ended")
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end()
        assert program.status == 0
        told = sorted(line for line in program.err if "hold up" in line)
        assert len(told) == 2, program.errors
        assert "'own_0'" in told[0]
        assert "'worker'" in told[1]
        assert all("# the thread is here" in line for line in told)


def test_stuck_jobs_do_not_stop_others(tmp_path: Path, loop_kind: str) -> None:
    source = """
    def hangs(begun):
        begun.set()
        time.sleep(60)

    async def main():
        for _ in range(80):
            begun = threading.Event()
            job = asyncio.create_task(asyncio.to_thread(hangs, begun))
            while not begun.is_set():  # one that has not begun is not stuck
                await asyncio.sleep(0.001)
            job.cancel()
            await asyncio.wait([job])
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10):
            say(await asyncio.to_thread(lambda: "a job"))
            say(bool(await loop.getaddrinfo("localhost", 80)))

    run(main(), grace=0.1)
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end()
        assert (program.status, program.out) == (0, ["a job", "True"])
        left = [line for line in program.err if "hangs, in the default executor, still runs" in line]
        assert len(left) == 80


def test_nested_run_is_refused(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def inner():
        pass

    async def main():
        try:
            calloff.run(inner())
        except RuntimeError as error:
            say(error)
        return await asyncio.to_thread(run, inner())

    say(run(main()))
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end()
        assert (program.status, program.errors) == (0, "")
        assert "calloff.run() can't be called while an event loop runs" in program.out[0]
        assert "await calloff.call(...)" in program.out[0]
        assert program.out[1] == "None"


def test_bad_arguments_are_refused_before_anything_runs(tmp_path: Path) -> None:
    source = """
    async def main():
        say("started")

    for options in [{"timeout": -1}, {"grace": float("nan")}, {"loop_factory": 3}]:
        try:
            calloff.run(main(), **options)
        except (TypeError, ValueError, calloff.CalloffError) as error:
            say(type(error).__name__, error)
    for work in (3, time.sleep):
        try:
            calloff.run(work)
        except TypeError as error:
            say("TypeError", str(error)[:30])
    """
    with Program(tmp_path, "asyncio", source) as program:
        program.end()
        assert (program.status, program.errors) == (0, "")
        assert [line.split()[0] for line in program.out] == [
            "ValueError",
            "ValueError",
            "TypeError",
            "TypeError",
            "TypeError",
        ]


def test_handlers_and_timers_are_put_back(tmp_path: Path, loop_kind: str) -> None:
    source = """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in signals]

    async def main():
        assert [signal.getsignal(number) for number in signals] != before
        await asyncio.sleep(0.05)

    run(main(), timeout=60)
    say(before == [signal.getsignal(number) for number in signals], signal.getitimer(signal.ITIMER_REAL))

    def own(*_): pass

    for number in signals:
        signal.signal(number, own)
    async def look():
        return [signal.getsignal(number) is own for number in signals]
    say(run(look(), timeout=60))
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end()
        assert (program.status, program.errors) == (0, "")
        assert program.out == ["True (0.0, 0.0)", "[True, True, True]"]


def test_works_in_other_threads(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def main():
        await asyncio.sleep(0.01)
        return threading.current_thread().name

    def body():
        say(run(main(), timeout=10))

    thread = threading.Thread(target=body, name="mine")
    thread.start()
    thread.join()
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end()
        assert (program.status, program.out, program.errors) == (0, ["mine"], "")


def test_work_that_starts_other_work_for_ever_does_not_put_the_end_off(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def stubborn():
        while True:
            try:
                await asyncio.sleep(60)
            except BaseException:
                pass

    async def main():
        try:
            await asyncio.sleep(60)
        finally:
            while True:
                try:
                    await calloff.call(stubborn(), grace=0.1)
                except BaseException:
                    pass

    run(main(), timeout=1.0, grace=0.1)
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end(30)
        assert program.status == 1
        assert "'main' could not be stopped and was abandoned: stuck at stubborn" in program.errors
        # How many it starts depends on whether its task is let go of before it has had a turn. The last one is not waited
        # for, or is given up in the moment in which the waiting ends; of each that was given up the end is told.
        given_up = re.findall(r"operation (\d+) '\w+' could not be stopped and was abandoned", program.errors)
        let_go = re.findall(r"operation (\d+) '\w+', abandoned .* ended: it was let go of", program.errors)
        not_ended = re.findall(r"operation (\d+) 'stubborn' did not end: at stubborn", program.errors)
        assert sorted(given_up)[:2] == ["1", "2"]
        assert sorted(given_up) == sorted({*let_go, *(set(given_up) & set(not_ended))}), program.errors
