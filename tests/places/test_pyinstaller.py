"""A program that PyInstaller packs starts its workers, and is refused without the hook."""

import faulthandler
import importlib.util
import subprocess
import sys

import pytest

from .test_freezing import DONE, PROGRAM, lines, run

#: what some part of calloff, or of what it uses, would import, and this program never does: PyInstaller reads all of it
UNUSED = ("IPython", "attr", "click", "msgspec", "rich", "setuptools", "starlette", "uvicorn", "uvloop", "yaml")


@pytest.mark.skipif(importlib.util.find_spec("PyInstaller") is None, reason="PyInstaller is not installed")
def test_a_program_packed_by_pyinstaller(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    faulthandler.dump_traceback_later(400, exit=True)  # in place of pytest's, which is sooner
    pack = [sys.executable, "-m", "PyInstaller", "--onedir", "--log-level", "ERROR"]
    for option in ("dist", "work", "spec"):
        pack += [f"--{option}path", str(tmp_path / option)]
    for package in UNUSED:
        pack += ["--exclude-module", package]
    source = subprocess.run(
        [*pack, "--additional-hooks-dir", _hooks(), program], capture_output=True, text=True, timeout=300, check=False
    )
    if "Python was built without a shared library" in source.stderr or "Python shared library (" in source.stderr:
        pytest.skip("this Python was built or unpacked without a shared library, which PyInstaller needs")
    packed = tmp_path / "dist" / "program" / "program"
    assert packed.exists(), source.stderr[-2000:]
    env = {"PYTHONPATH": ""}
    assert lines(run(packed, env=env)) == DONE
    began, refused = lines(run(packed, "unsupported", env=env))
    assert (began, refused.startswith("refused: this program is packed")) == ("began", True)


def _hooks():
    from calloff._pyinstaller import folders

    return folders()[0]
