"""A little chaos: operations at random on every place, judged by what `/proc` shows. `scripts/chaos` runs thousands."""

import re
import subprocess
import sys
from pathlib import Path
from random import SystemRandom

CHAOS = Path(__file__).with_name("chaos.py")


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
