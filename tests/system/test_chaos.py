"""A little chaos: operations at random on every place, judged by what `/proc` shows. `scripts/chaos` runs thousands."""

import re
import subprocess
import sys
from pathlib import Path
from random import SystemRandom

import pytest

FORKING = """
import asyncio, os
import calloff

def forks():
    while True:
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)

async def main():
    for _ in range(40):
        operation = calloff.start(calloff.process(forks), grace=0.3)
        await asyncio.sleep(0.03)
        print(type(await operation.stop()).__name__)

calloff.run(main())
"""
CHAOS = Path(__file__).with_name("chaos.py")


@pytest.mark.alone
def test_nothing_survives_hangs_or_is_said_that_is_not_true():
    seed = str(SystemRandom().randrange(10**6))
    argv = [sys.executable, str(CHAOS), "--operations", "120", "--owner-kills", "3", "--seed", seed]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout
    assert "survivors 0, hung 0, false verdicts 0" in done.stdout
    begun = re.search(r"120 operations, (\d+) of them got to run", done.stdout)
    assert begun is not None, done.stdout
    assert int(begun[1]) > 30, done.stdout
    for place in ("process", "command", "thread", "task"):  # a seed that draws none of them is next to impossible
        assert f"\n{place}: " in done.stdout


def test_a_request_that_comes_while_the_work_forks_is_not_lost_in_the_locks_of_logging(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(FORKING)
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=110, check=True)
    assert done.stdout.split() == ["Cancelled"] * 40
    assert "Exception ignored" not in done.stderr
