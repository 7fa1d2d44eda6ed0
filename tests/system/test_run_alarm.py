"""SIGALRM that the interrupter of `calloff.run` did not order has the effect that it has without it."""

import signal
import textwrap
from pathlib import Path

import pytest
from system.run_script import Program

ALRM = signal.SIGALRM

ENDS = {
    "idle": "signal.alarm(1); await asyncio.sleep(30)",
    "blocked": "signal.alarm(1); time.sleep(30)",
    "busy": """
        signal.alarm(1)
        while True:
            sum(range(1000))
    """,
    "a limit far away": """
        async with calloff.timeout(20):
            signal.alarm(1)
            await asyncio.sleep(30)
    """,
    "a limit at the very moment": """
        async with calloff.move_on_after(1):
            signal.alarm(1)
            await asyncio.sleep(30)
        await asyncio.sleep(30)
    """,
    "the clock of the kernel": "signal.setitimer(signal.ITIMER_REAL, 0.3); await asyncio.sleep(30)",
    "sent by the program": "os.kill(os.getpid(), signal.SIGALRM); await asyncio.sleep(30)",
    "sent while a limit waits": """
        async with calloff.timeout(20):
            os.kill(os.getpid(), signal.SIGALRM)
            await asyncio.sleep(30)
    """,
    "after a blocked loop was interrupted": """
        with calloff.move_on_after(0.1):
            time.sleep(30)
        await asyncio.sleep(0.05)
        signal.alarm(1)
        time.sleep(30)
    """,
}


@pytest.mark.parametrize("how", ENDS)
def test_a_watchdog_bites(tmp_path: Path, loop_kind: str, how: str) -> None:
    source = "async def main():\n" + "\n".join("    " + line for line in _lines(ENDS[how])) + "\nrun(main())"
    with Program(tmp_path, loop_kind, source) as program:
        program.end(15)
        assert program.status == -ALRM, program.err


def test_a_handler_of_the_program_hears_its_own_alarm(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def main():
        async with calloff.timeout(20):
            signal.signal(signal.SIGALRM, lambda *_: say("mine"))
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            await asyncio.sleep(0.5)
        return "went on"

    say(run(main()))
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end(20)
        assert program.out == ["mine", "went on"]
        assert program.status == 0


def test_what_a_handler_raises_ends_the_program_as_an_error_of_main_does(tmp_path: Path, loop_kind: str) -> None:
    if loop_kind == "uvloop":
        pytest.skip("uvloop logs what a handler raises, and goes on")
    source = """
    class Limit(Exception):
        pass

    def bite(*_):
        raise Limit

    async def body():
        try:
            asyncio.get_running_loop().call_soon(signal.setitimer, signal.ITIMER_REAL, 0.2)
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0)
            say("cleaned up")

    async def main():
        signal.signal(signal.SIGALRM, bite)
        await calloff.call(body())

    try:
        run(main())
    except Limit:
        say("raised", len(calloff.operations()))
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end(20)
        assert (program.out, program.err, program.status) == (["cleaned up", "raised 0"], [], 0)


def test_what_other_threads_order_is_no_alarm(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def body():
        await asyncio.sleep(30)

    def cancels(operations):
        for operation in operations:
            operation.cancel()

    async def main():
        for round in range(20):
            operations = [calloff.start(body(), timeout=round % 3 or None) for _ in range(200)]
            await asyncio.sleep(0)
            threads = [threading.Thread(target=cancels, args=(operations[n::4],)) for n in range(4)]
            for thread in threads:
                thread.start()
            for operation in operations:
                await operation.outcome()
            for thread in threads:
                thread.join()
        return "done"

    say(run(main()))
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end(60)
        assert (program.out, program.status) == (["done"], 0), program.err


def _lines(text: str) -> list[str]:
    return textwrap.dedent(text).strip().split("\n")
