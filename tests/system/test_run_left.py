"""What a thread that was left behind holds does not hold up, or break, the end of the interpreter."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

KINDS = {
    "input": "input",
    "readline": "lambda: sys.stdin.readline()",
    "iteration": "lambda: next(iter(sys.stdin))",
    "bytes": "lambda: sys.stdin.buffer.read(10)",
}
PLACES = {
    "thread": "await calloff.call(calloff.thread(read), timeout=0.2, grace=0.1)",
    "executor, given up": "await asyncio.wait_for(asyncio.to_thread(read), 0.2)",
    "executor, left": "asyncio.get_running_loop().run_in_executor(None, read); await asyncio.sleep(0.2)",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_that_nobody_answers(tmp_path: Path, kind: str, place: str) -> None:
    source = f"""
    import asyncio, sys
    import calloff

    async def main():
        read = {KINDS[kind]}
        try:
            {PLACES[place]}
        except TimeoutError:
            pass
        return "done"

    print(calloff.run(main(), grace=0.2), flush=True)
    """
    file = tmp_path / "prog.py"
    file.write_text(textwrap.dedent(source))
    with subprocess.Popen(
        [sys.executable, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:  # its standard input stays open, and empty, until it has ended
            assert program.wait(30) == 0, program.stderr and program.stderr.read()
            assert program.stdout is not None
            assert "done" in program.stdout.read()
        finally:
            program.kill()


def test_a_process_pool_whose_job_hangs(tmp_path: Path) -> None:
    """The pool is of use until the program ends, and is no reason for that to take as long as the job."""
    source = """
    import asyncio, concurrent.futures, time
    import calloff

    def hangs(path):
        open(path, "w").close()
        time.sleep(300)

    async def main():
        global pool
        pool = concurrent.futures.ProcessPoolExecutor(2)
        asyncio.get_running_loop().run_in_executor(pool, hangs, "began")
        while not __import__("os").path.exists("began"):
            await asyncio.sleep(0.01)
        return "done"

    if __name__ == "__main__":
        print(calloff.run(main(), grace=0.1), flush=True)
        print(pool.submit(pow, 2, 3).result(), flush=True)
    """
    file = tmp_path / "prog.py"
    file.write_text(textwrap.dedent(source))
    done = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, "done\n8\n"), done.stderr
    assert "1 job (hangs)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_pool_whose_block_was_left_by_force(tmp_path: Path) -> None:
    """Force interrupts the wait for the pool's own thread, which passes for dead from then on up to Python 3.12."""
    source = """
    import asyncio, concurrent.futures, pathlib, time
    import calloff

    begun = pathlib.Path(__file__ + ".begun")

    def call():
        begun.touch()
        time.sleep(300)

    async def body():
        with concurrent.futures.ProcessPoolExecutor(1) as pool:
            await asyncio.get_running_loop().run_in_executor(pool, call)

    async def main():
        op = calloff.start(body(), grace=0.1)
        while not begun.exists():  # one that has not begun never will
            await asyncio.sleep(0.01)
        return type(await op.stop()).__name__

    if __name__ == "__main__":
        print(calloff.run(main(), grace=0.1), flush=True)
    """
    file = tmp_path / "prog.py"
    file.write_text(textwrap.dedent(source))
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "Abandoned\n"), done.stderr


def test_the_frames_of_other_threads_are_not_kept(tmp_path: Path) -> None:
    """At its end `run` looks where threads are; what is in their frames goes when they do, not at the next collection."""
    source = """
    import gc, threading, weakref
    import calloff

    class Big:
        pass

    def holds():
        big = Big()
        refs.append(weakref.ref(big))
        begun.set()
        go.wait()

    async def main():
        thread.start()
        begun.wait()

    gc.disable()
    refs, begun, go, thread = [], threading.Event(), threading.Event(), threading.Thread(target=holds, daemon=True)
    calloff.run(main())
    go.set()
    thread.join()
    print(refs[0]())
    """
    file = tmp_path / "prog.py"
    file.write_text(textwrap.dedent(source))
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr


STUBBORN = {
    "thread": ("calloff.thread(spins)", "Cancelled FORCED"),
    "thread that swallows everything": ("calloff.thread(blocks_again)", "Abandoned ABANDONED"),
    "swallows everything": ("swallows()", "Abandoned ABANDONED"),
    "blocks the loop": ("blocks()", "Cancelled FORCED"),
}


@pytest.mark.parametrize("kind", STUBBORN)
def test_a_program_without_files_is_stopped_all_the_same(tmp_path: Path, kind: str) -> None:
    """Nothing that the last steps of the ladder need can be loaded any more."""
    work, ending = STUBBORN[kind]
    source = f"""
    import asyncio, resource, time
    import calloff

    def out_of_files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    begun = []

    def spins():
        begun.append(True)  # with all that was loaded before
        while True:
            time.sleep(0.01)

    def blocks_again():
        begun.append(True)
        while True:
            try:
                time.sleep(0.01)
            except BaseException:
                pass

    async def swallows():
        begun.append(True)
        while True:
            try:
                await asyncio.sleep(60)
            except BaseException:
                pass

    async def blocks():
        begun.append(True)
        out_of_files()
        while True:
            try:
                time.sleep(1)
            except BaseException:
                pass

    async def main():
        operation = calloff.start({work}, timeout=0.3, grace=0.1)
        while not begun:
            if operation.done():  # its limit was over before it had a turn
                operation = calloff.start({work}, timeout=0.3, grace=0.1)
            await asyncio.sleep(0.01)
        out_of_files()
        outcome = await operation.outcome()
        print(type(outcome).__name__, outcome.report.rung.name, flush=True)

    calloff.run(main(), grace=0.1)
    """
    file = tmp_path / "prog.py"
    file.write_text(textwrap.dedent(source))
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, ending + "\n"), done.stderr
    assert "Too many open files" not in done.stderr


@pytest.mark.skipif(sys.version_info < (3, 14), reason="threads inherit a context from 3.14 on")
def test_idle_threads_inherit_nothing() -> None:
    source = """
    import asyncio, contextvars, gc, weakref
    import calloff

    variable = contextvars.ContextVar("variable")

    class Value: ...

    async def body():
        variable.set(value := Value())
        await calloff.call(calloff.thread(pow, 2, 3))
        return weakref.ref(value)

    async def main():
        seen = await calloff.start(body())
        await calloff.call(calloff.thread(pow, 2, 3))
        await asyncio.sleep(0)
        gc.collect()
        print(seen())

    asyncio.run(main())
    """
    command = [sys.executable, "-X", "thread_inherit_context=1", "-c", textwrap.dedent(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "None\n", done.stderr
