"""CPython 3.13's own tests of timeouts, wait_for and task groups pass with ours in place of asyncio's, on every Python.

On 3.11 and 3.12 asyncio itself fails some of them. The files are those of an installed Python 3.13, wherever it is.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import calloff

SUITES = {"test_timeouts.py": 34, "test_waitfor.py": 19, "test_taskgroups.py": 39}


def pythons() -> list[str]:
    """Where a Python 3.13 may be: this one, on PATH, of pyenv."""
    found = [sys.executable] if sys.version_info[:2] == (3, 13) else []
    if on_path := shutil.which("python3.13"):
        found.append(on_path)
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return [*found, *sorted(str(python) for python in root.glob("versions/3.13.*/bin/python3.13"))]


@cache
def folder() -> Path | None:
    """The folder of the tests of asyncio in an installation of 3.13."""
    ask = "import sys, sysconfig; print(sys.version_info[:2] == (3, 13), sysconfig.get_path('stdlib'))"
    for python in pythons():
        try:
            answer = subprocess.run([python, "-c", ask], capture_output=True, text=True, timeout=30, check=False).stdout
        except OSError:
            continue
        is_it, _, stdlib = answer.strip().partition(" ")
        tests = Path(stdlib, "test", "test_asyncio")
        if is_it == "True" and all((tests / name).exists() for name in SUITES):
            return tests
    return None


@pytest.mark.parametrize("name", SUITES)
def test_suite_passes(name: str) -> None:
    tests = folder()
    if tests is None:
        pytest.skip("no installation of Python 3.13 with its tests was found")
    if importlib.util.find_spec("test.test_asyncio") is None:
        pytest.skip("this Python was installed without the package 'test', which the suites need")
    source = str(Path(calloff.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("replaced.py")), str(tests / name)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert done.stdout, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["failed"] == [], done.stderr
    # 3.13.0 has this many; later releases only add to them
    assert counts["ran"] >= SUITES[name]
    assert counts["skipped"] == 0
