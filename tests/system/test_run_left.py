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
