"""The manual page says what the help says, and is one that man can show."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from calloff import cli

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.fixture(scope="module")
def page() -> str:
    done = subprocess.run(
        [sys.executable, SCRIPTS / "_man.py"], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def test_every_verb_and_option_is_there(page: str) -> None:
    plain = page.replace("\\-", "-")
    for verb in cli.VERBS:
        assert f"\n.SH CALLOFF {verb.upper()}\n" in plain
    for option in (
        "--timeout D",
        "--older-than D",
        "--kill-after=DURATION",
        "--resume",
        "--node NODE",
        "--phases LIST",
    ):
        assert option in plain
    assert "\n.TP\n\\fB-t, --timeout D\\fR\nstop it after this long\n" in plain


def test_no_line_of_a_help_is_an_instruction(page: str) -> None:
    known = (".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".nf", ".fi", ".RS", ".RE")
    for line in page.splitlines():
        assert not line.startswith("'")
        assert not line.startswith(".") or line.split()[0] in known, line


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff here")
def test_groff_has_nothing_to_complain_of(page: str) -> None:
    done = subprocess.run(["groff", "-man", "-ww", "-Tutf8"], input=page, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "stop it after this long" in done.stdout
