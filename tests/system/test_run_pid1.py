"""As the first process of a container, for which the kernel carries out no default action of a signal."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"]
TERM = signal.SIGTERM

DEAF = """
import contextlib, dataclasses, os, signal, time
import calloff

calloff.Operation.policy = calloff.Operation.policy._replace(last=60)  # else it would be ended by then

async def main():
    print("ready", os.getpid(), flush=True)
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(60)
        print("refused", flush=True)

calloff.run(main(), grace=0.1)
"""


def allowed() -> bool:
    return (
        shutil.which("unshare") is not None and not subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode
    )


@pytest.mark.skipif(not allowed(), reason="no PID namespace can be made here")
def test_the_third_signal_ends_the_first_process(tmp_path: Path) -> None:
    file = tmp_path / "prog.py"
    file.write_text(textwrap.dedent(DEAF))
    with subprocess.Popen([*NAMESPACE, sys.executable, str(file)], stdout=subprocess.PIPE, text=True) as outer:
        assert outer.stdout is not None
        try:
            assert outer.stdout.readline() == "ready 1\n"
            inner = int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()[0])
            os.kill(inner, TERM)
            assert outer.stdout.readline() == "refused\n"
            os.kill(inner, TERM)
            with contextlib.suppress(ProcessLookupError):
                while outer.poll() is None:  # a further one counts when the second has had its time
                    time.sleep(0.3)
                    os.kill(inner, TERM)
            assert outer.wait(20) == 128 + TERM
        finally:
            outer.kill()
