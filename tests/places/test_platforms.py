"""What is left where the system lacks what Linux has: names are taken away before calloff is imported."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, concurrent.futures, inspect, json, linecache, logging, os, selectors, shlex, signal, socket
import subprocess, sys, tempfile, threading, time, traceback, weakref, _signal
import sysconfig
sysconfig.get_config_vars()
PATHS = sysconfig.get_paths()
sysconfig.get_paths = lambda *_, **__: dict(PATHS)
sysconfig.get_path = lambda name, *_, **__: PATHS[name]
LINUX = {os: "pidfd_open pipe2 sched_getaffinity setns unshare memfd_create",
    signal: "pidfd_send_signal SIGRTMIN SIGRTMAX sigtimedwait sigwaitinfo SIGPWR SIGSTKFLT",
    socket: "SOCK_CLOEXEC SOCK_NONBLOCK MSG_CMSG_CLOEXEC SO_PEERCRED"}
POSIX = {os: "fork register_at_fork posix_spawn POSIX_SPAWN_DUP2 setsid killpg getuid geteuid O_CLOEXEC waitid WNOHANG",
    signal: "SIGALRM SIGHUP SIGKILL SIGCHLD SIGQUIT SIGUSR1 SIGSTOP SIGCONT SIGPIPE setitimer pthread_sigmask pthread_kill",
    socket: "SCM_RIGHTS CMSG_SPACE"}
for names in (LINUX, POSIX) if sys.argv[1] == "win32" else (LINUX,):
    for module, gone in names.items():
        for name in gone.split():
            for each in (module, _signal) if module is signal else (module,):
                if hasattr(each, name):
                    delattr(each, name)
asyncio.new_event_loop().close()  # Python 3.14 asks for the platform only now
sys.platform = sys.argv[1]
import calloff

async def stubborn():
    while True:
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            pass

def busy():
    while True:
        time.sleep(0.01)

async def main():
    print((await calloff.start(stubborn(), timeout=0.1, grace=0.2).outcome()).report.rung)
    print((await calloff.start(calloff.thread(busy), timeout=0.1, grace=0.2).outcome()).report.rung)
    with calloff.move_on_after(0.05) as scope:
        await asyncio.sleep(9)
    print(scope.cancelled_caught)
    for work in (calloff.command("echo", "x"), calloff.process(len, "abc")):
        try:
            print(getattr(value := await calloff.call(work, timeout=20), "text", value))
        except calloff.CalloffError as error:
            print("POSIX" in str(error))

calloff.run(main(), grace=1, expose=True)  # that it can't be seen is said, and no reason not to run

async def sweeps():
    report = await calloff.testing.sweep(functools.partial(asyncio.sleep, 0.01), isolate=False)
    print(report.exit_status == 0)

import functools, calloff.testing
from calloff.cli import main as cli
calloff.run(sweeps())
if sys.argv[1] == "win32":
    print(cli(["sweep", sys.argv[2]]))
"""


@pytest.mark.parametrize(
    ("platform", "expected"),
    [("darwin", ["x", "", "3", "True"]), ("win32", ["True", "True", "True", "125"])],
    ids=["darwin", "win32"],
)
def test_without_what_only_linux_has(platform, expected, tmp_path):
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(entry for entry in sys.path if entry))
    swept = tmp_path / "swept.py"
    swept.write_text("import asyncio\n\nasync def naps():\n    await asyncio.sleep(0)\n")
    command = [sys.executable, "-c", PROGRAM, platform, f"{swept}:naps"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["FORCED", "FORCED", "True", *expected], done.stderr[-2000:]
    assert "this process can't be seen from outside: this system" in done.stderr
    assert ("calloff sweep: each run of a sweep has a process" in done.stderr) == (platform == "win32")
    assert "Traceback" not in done.stderr
