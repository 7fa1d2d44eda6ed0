"""``calloff sweep``: what it prints and how it exits."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from calloff.testing import _cli

PROGRAM = """
import asyncio

async def setup():
    return asyncio.Lock()

async def good(lock):
    async with lock:
        await asyncio.sleep(0.001)

async def bad(lock):
    await lock.acquire()
    await asyncio.sleep(0.001)
    lock.release()

async def check(lock):
    print("checking")
    return not lock.locked()

async def fails(lock):
    raise ValueError("always")

async def prints(lock):
    print("from the function")
    await asyncio.sleep(0.001)

seen = __file__ + ".seen"

async def fickle():
    with open(seen, "a") as file:
        file.write("x")
    with open(seen) as file:
        first = len(file.read()) <= 4
    if first:
        await asyncio.sleep(0)
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


def calloff_sweep(*words: str) -> "subprocess.CompletedProcess[str]":
    code = "import sys; from calloff.testing._cli import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=False)


def test_exit_status_and_text(file: str) -> None:
    good = calloff_sweep(f"{file}:good", "--setup", "setup")
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("SAFE: 1 await points, ")
    bad = calloff_sweep(f"{file}:bad", "--setup", "setup", "--check", "check")
    assert bad.returncode == 1
    assert "UNSAFE early" in bad.stdout
    assert "- locks: the Lock is still held, acquired at program.py:12" in bad.stdout
    assert "- check: the check returned False" in bad.stdout
    assert "checking" not in bad.stdout
    fails = calloff_sweep(f"{file}:fails", "--setup", "setup")
    assert fails.returncode == 2
    assert "it fails without any cancel: it raised ValueError: always" in fails.stdout
    assert calloff_sweep(f"{file}:fickle").returncode == 3


def test_json(file: str) -> None:
    done = calloff_sweep(f"{file}:bad", "--setup", "setup", "--json", "--phases", "late")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["verdict"] == "UNSAFE"
    assert [finding["phase"] for finding in document["findings"]] == ["late"]
    assert document["findings"][0]["await"]["line"] == 13


def test_the_printed_command_replays_one_cancel_and_shows_its_output(file: str) -> None:
    text = calloff_sweep(f"{file}:bad", "--setup", "setup").stdout
    command = re.search(r"again: calloff sweep (.*)", text)
    assert command is not None
    again = calloff_sweep(*shlex.split(command[1]))
    assert again.returncode == 1
    assert again.stdout.count("UNSAFE early") == 1
    assert "3 runs" in again.stdout
    checked = calloff_sweep(*shlex.split(command[1]), "--check", "check")
    assert "checking" in checked.stdout
    wrong = calloff_sweep(f"{file}:bad", "--setup", "setup", "--replay", "e-000000")
    assert wrong.returncode == 2
    assert "no cancel of this function has the id 'e-000000'" in wrong.stderr


def test_known_findings(file: str, tmp_path: Path) -> None:
    text = calloff_sweep(f"{file}:bad", "--setup", "setup").stdout
    ids = re.findall(r"\[(.-\w+)\]", text)
    known = tmp_path / "known"
    known.write_text("# why we live with it\n" + "".join(f"{name} is mended in the next release\n" for name in ids))
    done = calloff_sweep(f"{file}:bad", "--setup", "setup", "--known", str(known))
    assert done.returncode == 0
    assert "is mended in the next release" in done.stdout
    known.write_text(f"{ids[0]}\n")
    assert "needs a reason" in calloff_sweep(f"{file}:bad", "--known", str(known)).stderr


def test_html(file: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert calloff_sweep(f"{file}:bad", "--setup", "setup", "--html", str(page)).returncode == 1
    text = page.read_text()
    assert "<span class='mark unsafe'>unsafe</span></td><td><code>    await asyncio.sleep(0.001)" in text
    assert "not reached</span></td><td><code>    async with lock:" in text
    assert not re.search(r"(src|href)=[\"']?http", text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.py:fn"], "there is no file 'nothing.py'"),
        (["program.py"], "the target must be file.py:function or package.module:function"),
        (["no.such.module:fn"], "no.such.module could not be imported: ModuleNotFoundError"),
        (["{file}:nothing"], "has no 'nothing'"),
        (["{file}:asyncio"], "fn must be an async function"),
        (["{file}:good", "--setup", "nothing"], "--setup: "),
        (["{file}:good", "--phases", "often"], "phases must be of before, early, late, double, not 'often'"),
        (["{file}:good", "--without", "luck"], "without must be of obeyed"),
        (["{file}:good", "--max", "0"], "max_runs must be a number of 1 or more"),
        (["{file}:good", "--jobs", "0"], "--jobs must be 1 or more"),
        (["{file}:good", "--timeout", "-1"], "timeout must be 0 or more seconds"),
        (["{file}:good", "--known", "/no/such/file"], "--known: No such file"),
    ],
)
def test_usage(file: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _cli.main([word.format(file=file) for word in words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err


def test_wrong_options_are_usage_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert _cli.main([]) == 2
    assert _cli.main(["--nonsense"]) == 2
    assert _cli.main(["--help"]) == 0
    assert "--bystander" in capsys.readouterr().out
