"""`calloff top` as a verb: on real processes, once in a real terminal, and where it can't run."""

import asyncio
import contextlib
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time

import pexpect
import pytest

from calloff.control import Client
from calloff.top._app import Top
from calloff.top._cancel import Ask
from calloff.top._table import Table

PROGRAM = """
import asyncio, calloff

async def polite():
    await asyncio.sleep(3600)

async def main():
    calloff.start(polite(), name="polite-child")
    calloff.start(calloff.thread(__import__("time").sleep, 3600), name="in-thread", grace=0.1)
    await asyncio.sleep(3600)

calloff.run(main(), expose=True)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A process with three operations, the only one that is exposed as far as this test can see."""
    sockets = tmp_path / "sockets"
    monkeypatch.setenv("CALLOFF_SOCKETS", str(sockets))
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen([sys.executable, "program.py"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    yield process
    process.kill()
    process.wait()


def test_on_a_real_process(program):
    async def main():
        async with Client() as client:
            app = Top(client, every=0.2, wait=20.0)
            async with app.run_test(size=(120, 30)) as pilot:
                table = app.query_one(Table)
                try:
                    async with asyncio.timeout(100):
                        await use(app, table, pilot)
                except TimeoutError as error:
                    shown = "\n".join(table.render_line(y).text for y in range(5))
                    raise AssertionError(f"{app.screen}; {app._verdicts.content}\n{shown}") from error

    async def use(app, table, pilot):
        while table.total < 3 or "main" not in table.render_line(1).text:
            await asyncio.sleep(0.02)
        seen = [table.render_line(y).text for y in range(1, 4)]
        assert " └ polite-child" in seen[1]
        assert "in-thread" in seen[2]
        await pilot.press("home", "down", "c")
        while not (isinstance(app.screen, Ask) and app.screen.focused):  # the other process is asked first
            await asyncio.sleep(0.02)
        await pilot.press(*"enough", "enter")
        while table.total > 2:
            await asyncio.sleep(0.02)
        verdicts = str(app._verdicts.content)
        while ": cancelled " not in verdicts:
            await asyncio.sleep(0.02)
            verdicts = str(app._verdicts.content)
        assert "polite-child: cancelled" in verdicts
        await pilot.press("h")
        while "polite-child" not in table.render_line(1).text:
            await asyncio.sleep(0.02)
        assert "requested: enough" in table.render_line(1).text
        program.kill()
        await pilot.press("h")
        while table.display:
            await asyncio.sleep(0.02)

    asyncio.run(main())


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux (Debian: apt-get install tmux)")
def test_in_a_real_terminal(program, tmp_path):
    def tmux(*args):
        command = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null", *args]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    def seen(*texts):
        deadline = time.monotonic() + 40
        while True:
            shown = tmux("capture-pane", "-p", "-t", "top")
            if all(text in shown for text in texts):
                return shown
            assert time.monotonic() < deadline, shown
            time.sleep(0.05)

    environment = [f"-e{name}={os.environ[name]}" for name in ("CALLOFF_SOCKETS",)]
    verb = f"{sys.executable} -m calloff top; echo status $?; sleep 60"
    tmux("new-session", "-d", "-s", "top", "-x", "120", "-y", "30", *environment, f"TERM=screen-256color {verb}")
    try:
        seen("1 process · 3 running", "polite-child", "in-thread", "Call off")
        tmux("send-keys", "-t", "top", "Down")
        tmux("send-keys", "-t", "top", "Enter")
        seen("stack, outermost first")
        tmux("send-keys", "-t", "top", "c")
        seen("Call it off", "Reason")
        tmux("send-keys", "-t", "top", "-l", "not needed")
        seen("not needed")
        tmux("send-keys", "-t", "top", "Enter")
        seen("polite-child: cancelled")
        tmux("send-keys", "-t", "top", "q")
        assert "status 0" in seen("status")
    finally:
        tmux("kill-server")


def test_a_signal_leaves_the_terminal_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("CALLOFF_SOCKETS", str(tmp_path / "none"))
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = pexpect.spawn(sys.executable, ["-m", "calloff", "top"], timeout=40, dimensions=(30, 100))
    terminal.expect("No operation runs")
    terminal.kill(signal.SIGTERM)
    terminal.expect(re.escape("\x1b[?1049l"))
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert (terminal.exitstatus, terminal.signalstatus) == (143, None)


#: a screen whose loop is stuck, as it is when nobody takes what it writes
STUCK = """
import sys, time
from calloff.cli import main
from calloff.top._app import Top
def stuck(self):
    print("STUCK", flush=True)
    while True:
        time.sleep(600)
Top._tell_counts = Top._say = lambda *_: stuck(None)
sys.exit(main(["top"]))
"""


@pytest.mark.parametrize("how", ["hang up", "signal"])
@pytest.mark.parametrize("code", [STUCK, "import sys; from calloff.cli import main; sys.exit(main(['top']))"])
def test_it_ends_when_its_terminal_is_gone_or_it_is_told_to_even_when_stuck(tmp_path, monkeypatch, how, code):
    monkeypatch.setenv("CALLOFF_SOCKETS", str(tmp_path / "none"))
    monkeypatch.setenv("TERM", "xterm-256color")
    ready = tmp_path / "ready"
    monkeypatch.setenv("READY", str(ready))
    code = code.replace('print("STUCK", flush=True)', "open(__import__('os').environ['READY'], 'w').close()")
    process, terminal = pty.fork()
    if not process:
        os.execv(sys.executable, [sys.executable, "-c", code])
    shown, deadline = b"", time.monotonic() + 40
    try:
        while not (ready.exists() if code.startswith("\nimport") else b"No operation runs" in shown):
            assert time.monotonic() < deadline, shown
            if select.select([terminal], [], [], 0.05)[0]:
                shown += os.read(terminal, 65536)
    finally:
        if how == "signal":
            os.kill(process, signal.SIGTERM)
        else:
            os.close(terminal)
        deadline = time.monotonic() + 20
        while not (done := os.waitpid(process, os.WNOHANG))[0]:
            if how == "signal" and select.select([terminal], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    os.read(terminal, 65536)
            if time.monotonic() > deadline:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                pytest.fail("it did not end")
            time.sleep(0.02)
        if how == "signal":
            os.close(terminal)
    assert os.waitstatus_to_exitcode(done[1]) == (143 if how == "signal" else 129)


def test_what_can_not_be_written_at_the_end_does_not_change_the_exit_status():
    code = """
import sys
from calloff.cli.top import _let_go
sys.stdout.write("for a terminal that is gone")
sys.stdin.read()
_let_go()
sys.exit(129)
"""
    gone, output = os.pipe()
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=output, env=buffered) as process:
        os.close(output)
        os.close(gone)
        process.communicate()
    assert process.returncode == 129


def run_verb(*args, code="import sys; from calloff.cli import main; sys.exit(main(sys.argv[1:]))"):
    return subprocess.run([sys.executable, "-c", code, "top", *args], capture_output=True, text=True, timeout=60)


def test_without_a_terminal():
    result = run_verb()
    assert result.returncode == 2
    assert result.stderr.startswith("calloff top: needs a terminal; calloff ps")


def test_without_textual():
    code = "import sys; sys.modules['textual'] = None; from calloff.cli import main; sys.exit(main(sys.argv[1:]))"
    result = run_verb(code=code)
    assert result.returncode == 125
    assert result.stderr == (
        "calloff top: the screen needs Textual, which is not installed: pip install 'calloff[top]'\n"
    )


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--every", "soon"], "calloff top: --every must be a duration such as 3, 3s"),
        (["--every", "0"], "calloff top: --every must be at least 100ms"),
        (["--sort", "size"], "--sort must be one of"),
    ],
)
def test_bad_options(args, told):
    result = run_verb(*args)
    assert result.returncode == 2
    assert told in result.stderr
