"""Programs that are their own interpreter, or whose interpreter is something else, never start themselves without end."""

import os
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import os, sys, time
import calloff, calloff.freezing

print("began", flush=True)

def square(n):
    return n * n, calloff.current().name

async def main():
    print((await calloff.call(calloff.command("echo", "hello"), timeout=20)).text.strip(), flush=True)
    print(await calloff.call(calloff.process(square, 7), timeout=20), flush=True)
    stopped = await calloff.start(calloff.process(time.sleep, 100), timeout=0.5, grace=5).outcome()
    print(stopped.report.rung, flush=True)

if __name__ == "__main__":
    if "unsupported" not in sys.argv:
        calloff.freezing.freeze_support()
    try:
        calloff.run(main(), grace=1)
    except calloff.CalloffError as error:
        print("refused:", error)
"""
DONE = ["began", "hello", "(49, 'square')", "ASKED"]


def run(*words, env=None):
    path = os.pathsep.join(entry for entry in sys.path if entry)
    env = {**os.environ, "PYTHONPATH": path, **(env or {})}
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=False)


def lines(done):
    return done.stdout.splitlines()


@pytest.fixture
def program(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    return file


def test_in_a_program_that_is_not_packed_the_hook_does_nothing(program):
    assert lines(run(sys.executable, program)) == DONE


@pytest.mark.parametrize("shape", ["plain", "started"])
def test_an_executable_that_starts_the_program_once_more(tmp_path, program, shape):
    """As uWSGI's, an embedder's, or a packed program that does not say that it is one."""
    count, embedder = tmp_path / "count", tmp_path / "embedder"
    embedder.write_text(f'#!/bin/sh\necho x >> {count}\nexec {sys.executable} {program} "$@"\n')
    embedder.chmod(0o755)
    if shape == "started":  # from the beginning
        done = run(sys.executable, "-c", f"import sys; sys.executable = {str(embedder)!r}\n{PROGRAM}")
    else:
        text = program.read_text().replace("import calloff,", f"sys.executable = {str(embedder)!r}\nimport calloff,")
        program.write_text(text)
        done = run(sys.executable, program)
    assert lines(done)[0] == "began"
    assert "refused: " in done.stdout
    assert "no Python" in done.stdout
    assert len(count.read_text().split()) <= 2


def test_a_packed_program_without_the_hook_is_refused():
    code = """
    import sys
    sys.frozen = True
    import calloff
    async def main():
        assert await calloff.call(calloff.thread(len, "abc")) == 3
        for work in (calloff.command("true"), calloff.process(len, "abc")):
            try:
                await calloff.call(work)
            except calloff.CalloffError as error:
                assert "freeze_support" in str(error)
                print("refused")
    calloff.run(main())
    """
    assert lines(run(sys.executable, "-c", textwrap.dedent(code))) == ["refused", "refused"]
