"""SIGINT and SIGTERM under `calloff.run`, with real signals."""

import signal
import time
from pathlib import Path

import pytest
from system.run_script import LATE, Program

INT, TERM = signal.SIGINT, signal.SIGTERM

POLITE = """
    async def main():
        try:
            say("ready")
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            say("asked", calloff.current().reason)
            await asyncio.sleep(0.1)
            say("cleaned up")
            raise
"""


def kill_status(number: int) -> tuple[int, ...]:
    """How Python ends by KeyboardInterrupt or by SystemExit(143)."""
    return (-number, 128 + number) if number == INT else (128 + number,)


@pytest.mark.parametrize("number", [INT, TERM])
def test_the_first_signal_asks(tmp_path: Path, loop_kind: str, number: int) -> None:
    with Program(tmp_path, loop_kind, POLITE + "\n    run(main(), grace=20)") as program:
        program.wait_for("ready")
        since = program.signal(number)
        took = program.end() - since
        assert program.status in kill_status(number)
        name = signal.Signals(number).name
        assert program.out[1:] == [f"asked shutdown: {name} (by {name})", "cleaned up"]
        assert ("KeyboardInterrupt" in program.errors) == (number == INT)
        assert took < 1 + LATE


def test_a_value_after_the_signal_is_returned(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def main():
        try:
            say("ready")
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "all the same"

    say(run(main()))
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.wait_for("ready")
        program.signal(TERM)
        program.end()
        assert (program.status, program.out[1:], program.errors) == (0, ["all the same"], "")


@pytest.mark.parametrize("second", [INT, TERM])
def test_the_second_signal_forces(tmp_path: Path, loop_kind: str, second: int) -> None:
    source = """
    async def child():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(60)

    async def plain():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

    async def main():
        calloff.start(child())
        calloff.start(child(), detached=True)
        asyncio.create_task(plain())
        try:
            say("ready")
            await asyncio.sleep(60)
        finally:
            say("asked")
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    say("again")

    run(main(), grace=1000)
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.wait_for("ready")
        program.signal(INT)
        program.wait_for("asked")
        since = program.signal(second)
        took = program.end() - since
        assert program.status in kill_status(INT)  # the first one counts
        assert took < 2 + LATE


def test_a_signal_hastens_the_end(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def plain():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                say("asked")

    began = threading.Event()

    def sleeps():
        began.set()
        time.sleep(600)

    async def main():
        asyncio.create_task(plain())
        asyncio.create_task(asyncio.to_thread(sleeps))
        while not began.is_set():
            await asyncio.sleep(0.01)
        return "value"

    say(run(main(), grace=1000))
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.wait_for("asked")
        since = program.signal(INT)
        took = program.end() - since
        assert program.status == 0
        assert program.out[-1] == "value"
        assert took < 1 + LATE
        assert "(plain) does not end and was left" in program.errors
        assert "sleeps, in the default executor, still runs" in program.errors


BLOCKED = {
    "sleep": "time.sleep(60)",
    "recv": "pair = socket.socketpair(); pair[0].recv(1)",
    "lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "run": "subprocess.run(['sleep', '60'])",
    "loop": "while True: time.monotonic()",
}


@pytest.mark.parametrize("how", BLOCKED)
def test_a_signal_ends_what_blocks_the_loop(tmp_path: Path, loop_kind: str, how: str) -> None:
    source = f"""
    async def main():
        try:
            say("ready")
            {BLOCKED[how]}
        finally:
            await asyncio.sleep(0.05)
            say("cleaned up", calloff.current().reason.kind)

    run(main(), grace=20)
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.wait_for("ready")
        if how != "loop":
            program.rest()
        since = program.signal(TERM)
        took = program.end() - since
        assert program.status == 143, program.errors
        assert program.out[1:] == ["cleaned up shutdown"]
        assert took < 1 + LATE


def test_a_signal_ends_a_child_that_blocks_the_loop(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def child():
        say("ready")
        time.sleep(60)  # here

    async def main():
        op = calloff.start(child())
        try:
            await op
        finally:
            say(op.report.rung, op.reason.kind, op.report.where[-1].source)

    run(main(), grace=20)
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.wait_for("ready")
        program.rest()
        since = program.signal(TERM)
        took = program.end() - since
        assert program.status == 143, program.errors
        assert program.out[1:] == ["INTERRUPTED shutdown time.sleep(60)  # here"]
        assert took < 1 + LATE


def test_a_task_that_main_waits_for_is_part_of_it(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def plain():
        try:
            say("ready")
            time.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            say("cleaned up")

    async def main():
        await asyncio.create_task(plain())

    run(main(), grace=20)
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.wait_for("ready")
        program.rest()
        since = program.signal(TERM)
        took = program.end() - since
        assert (program.status, program.out[1:]) == (143, ["cleaned up"])
        assert took < 1 + LATE


def test_another_task_that_blocks_is_interrupted_only_when_grace_is_over(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def plain():
        await asyncio.sleep(0)
        try:
            say("ready")
            time.sleep(60)
        except asyncio.CancelledError:
            say("first")
            time.sleep(60)

    async def main():
        global task
        task = asyncio.create_task(plain())
        await asyncio.sleep(60)

    run(main(), grace=0.5)
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.wait_for("ready")
        program.rest()
        since = program.signal(TERM)
        asked = program.wait_for("first") - since
        took = program.end() - since
        assert program.status == 143
        assert asked >= 0.5
        assert took < 2.5 + LATE


def test_the_third_signal_ends_what_can_not_be_ended(tmp_path: Path, loop_kind: str) -> None:
    source = """
    import dataclasses

    calloff.Operation.policy = calloff.Operation.policy._replace(last=60)  # else it would be ended by then

    async def main():
        say("ready")
        while True:
            try:
                try:
                    time.sleep(60)
                except BaseException:
                    say("refused")
            except BaseException:  # in the midst of saying so
                pass

    run(main(), grace=0.1)
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.wait_for("ready")
        program.rest()
        program.signal(TERM)
        program.wait_for("refused")
        program.signal(TERM)
        while program.is_running():  # a further one counts when the second has had its time
            time.sleep(0.3)
            program.signal(TERM)
        program.end()
        assert program.status == -TERM


def test_handlers_of_the_program_are_left_alone(tmp_path: Path, loop_kind: str) -> None:
    source = """
    signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"mine\\n"))

    async def main():
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
        say("ready")
        await stop.wait()
        say("stopped")
        return 5

    say(run(main()))
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.wait_for("ready")
        program.signal(TERM)
        program.wait_for("mine")
        program.signal(INT)
        program.end()
        assert (program.status, program.out[2:]) == (0, ["stopped", "5"])


def test_a_signal_when_idle_and_one_in_a_thread(tmp_path: Path, loop_kind: str) -> None:
    source = """
    def work():
        say("ready")
        time.sleep(60)

    async def main():
        await asyncio.to_thread(work)

    try:
        run(main(), interrupt=False, grace=0.2)
    except KeyboardInterrupt as error:
        say(repr(error.__cause__))
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.wait_for("ready")
        since = program.signal(INT)
        took = program.end() - since
        assert program.status == 0
        assert (
            "OperationCancelled(\"'main' was cancelled (shutdown): SIGINT (asked by SIGINT) and could not be "
            in program.out[1]
        )
        assert "stuck at work (prog.py:" in program.out[1]
        assert took < 1.2 + LATE


def test_children_of_fork_are_not_hit(tmp_path: Path, loop_kind: str) -> None:
    """The timer of the kernel is not inherited, and an idle child is not disturbed by ours."""
    source = """
    async def main():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(0.5); print('fine')")
        return await process.wait()

    say(run(main(), timeout=30))
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end()
        assert (program.status, sorted(program.out), program.errors) == (0, ["0", "fine"], "")


@pytest.mark.parametrize("way", ["os", "multiprocessing"])
def test_a_forked_child_ends_by_its_own_signals(tmp_path: Path, loop_kind: str, way: str) -> None:
    """It has the handlers of its parent, and would go to the end of a `main` that is not its own, or go on."""
    children = {
        "os": "child = os.fork()\n        if not child: waits()",
        "multiprocessing": "process = fork.Process(target=waits); process.start(); child = process.pid",
    }
    source = f"""
    import multiprocessing
    fork = multiprocessing.get_context("fork")

    ready, begun = os.pipe()

    def waits():
        os.write(begun, b"x")  # a signal that comes before is dropped by CPython, whosever the handlers are
        time.sleep(60)

    async def main():
        {children[way]}
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        return os.waitstatus_to_exitcode(status)

    say("ended by", run(main(), timeout=40))
"""
    with Program(tmp_path, loop_kind, source) as program:
        program.end()
        assert program.out == [f"ended by {-TERM}"], program.errors


@pytest.mark.parametrize("leaves", ["raise SystemExit(3)", "raise ValueError('its own')", "return 'of the child'"])
def test_a_forked_child_that_leaves_touches_nothing_of_its_parent(tmp_path: Path, loop_kind: str, leaves: str) -> None:
    """It stopped what its parent runs, and took out of the epoll object that both have what the parent waited for."""
    if loop_kind == "uvloop":
        pytest.skip("libuv does not bear a fork inside its loop")
    source = f"""
    async def main():
        command = calloff.start(calloff.command("sleep", "60"))
        answer = calloff.start(calloff.process(time.sleep, 0.3))
        await asyncio.sleep(0.1)
        child = os.fork()
        if not child:
            {leaves}
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        ended = await answer.outcome()
        command.cancel()
        return os.waitstatus_to_exitcode(status), type(ended).__name__, type(await command.outcome()).__name__

    say(run(main(), timeout=20))
"""
    with Program(tmp_path, loop_kind, source) as program:
        program.end()
        status = {"S": 3, "V": 1, "'": 0}[leaves.split()[1][0]]
        assert str((status, "Completed", "Cancelled")) in program.out, (program.out, program.errors)
