"""What type checkers make of calloff; the claims are in usage.py."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import calloff

USAGE = Path(__file__).with_name("usage.py")
SOURCE = Path(calloff.__file__).parents[1]


def check(*command, cwd):
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=cwd, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_mypy(tmp_path, pytestconfig):
    (tmp_path / "usage.py").write_text(USAGE.read_text())
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = true\nmypy_path = {SOURCE}\nfollow_imports = silent\n")
    # one cache for all runs of one Python; mypy minds changes by itself
    cache = pytestconfig.rootpath / ".mypy_cache" / "usage"
    check("mypy", "--config-file", "mypy.ini", f"--cache-dir={cache}", "usage.py", cwd=tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed")
def test_pyright(tmp_path):
    (tmp_path / "usage.py").write_text(USAGE.read_text())
    settings = {
        "include": ["usage.py"],
        "extraPaths": [str(SOURCE)],
        "typeCheckingMode": "strict",
        "enableTypeIgnoreComments": False,
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    check("pyright", "-p", str(tmp_path), cwd=tmp_path)
