"""CPython's own tests of timeouts, wait_for and task groups pass with ours in place of asyncio's, on every Python.

Up to 3.13 they are those of 3.13, of which asyncio itself fails some on 3.11 and 3.12; the files are those of an installed
Python 3.13, wherever it is. From 3.14 on each Python has its own, and those of all that is built upon these names.
"""

import faulthandler
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

#: the least number of tests in each, by the Python that they come with
SUITES = {
    (3, 13): {"timeouts": 34, "waitfor": 19, "taskgroups": 39},
    (3, 14): {"timeouts": 34, "waitfor": 19, "taskgroups": 96, "tasks": 1100, "futures": 180, "staggered": 7},
    (3, 15): {"timeouts": 34, "waitfor": 19, "taskgroups": 130, "tasks": 1130, "futures": 185, "staggered": 7},
}
VERSION = max((3, 13), sys.version_info[:2])
NAME = ".".join(map(str, VERSION))
LEAST = SUITES[min(VERSION, max(SUITES))]


def pythons() -> list[str]:
    """Where a Python of that version may be: this one, on PATH, of pyenv."""
    found = [sys.executable] if sys.version_info[:2] == VERSION else []
    if on_path := shutil.which(f"python{NAME}"):
        found.append(on_path)
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return [*found, *sorted(str(python) for python in root.glob(f"versions/{NAME}.*/bin/python{NAME}"))]


@cache
def folder() -> Path | None:
    """The folder of the tests of asyncio in an installation of that version."""
    ask = f"import sys, sysconfig; print(sys.version_info[:2] == {VERSION}, sysconfig.get_path('stdlib'))"
    for python in pythons():
        try:
            answer = subprocess.run([python, "-c", ask], capture_output=True, text=True, timeout=30, check=False).stdout
        except OSError:
            continue
        is_it, _, stdlib = answer.strip().partition(" ")
        tests = Path(stdlib, "test", "test_asyncio")
        if is_it == "True" and all((tests / f"test_{name}.py").exists() for name in LEAST):
            return tests
    return None


@pytest.mark.parametrize("name", LEAST)
def test_suite_passes(name: str) -> None:
    tests = folder()
    if tests is None:
        pytest.skip(f"no installation of Python {NAME} with its tests was found")
    if importlib.util.find_spec("test.test_asyncio") is None:
        pytest.skip("this Python was installed without the package 'test', which the suites need")
    source = str(Path(calloff.__file__).parent.parent)
    faulthandler.dump_traceback_later(900, exit=True)  # a thousand tests, which take a minute on a quiet machine
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("replaced.py")), str(tests / f"test_{name}.py")],
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert done.stdout, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["failed"] == [], done.stderr
    assert counts["ran"] >= LEAST[name]  # the first release has this many; later ones only add to them
    assert counts["skipped"] <= 1  # a test that a bug of this very release of Python would fail
