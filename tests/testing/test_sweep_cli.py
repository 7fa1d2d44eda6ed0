"""``calloff sweep``: what it prints and how it exits."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calloff import cli

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

PLAIN = 1

async def quick(lock):
    return "nobody waits"

async def fails(lock):
    raise ValueError("always")

async def prints(lock):
    print("from the function")
    await asyncio.sleep(0.001)

async def waits():
    open(__file__ + ".begun", "w").close()
    await asyncio.sleep(60)

async def no_setup():
    raise OSError("no server")

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
    code = "import sys; from calloff.cli import main; sys.exit(main(['sweep', *sys.argv[1:]]))"
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=False)


def test_exit_status_and_text(file: str) -> None:
    good = calloff_sweep(f"{file}:good", "--setup", "setup")
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("SAFE: 1 await point, ")
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


SETUP = ("--setup", "setup")
FRAME = {"file", "line", "function", "source"}


def test_json(file: str) -> None:
    done = calloff_sweep(f"{file}:bad", "--setup", "setup", "--json", "--phases", "late")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert set(document) == {"verdict", "points", "runs", "python", "packages", "findings"}
    assert (document["verdict"], document["points"], document["runs"]) == ("UNSAFE", 1, 3)
    (finding,) = document["findings"]
    assert set(finding) == {"id", "phase", "verdict", "await", "stack", "at_fault", "violations"}
    assert (finding["phase"], finding["verdict"]) == ("late", "UNSAFE")
    assert finding["await"] == {
        "file": file,
        "line": 13,
        "function": "bad",
        "source": "await asyncio.sleep(0.001)",
    }
    assert all(set(frame) == FRAME for frame in finding["stack"])
    assert finding["at_fault"] == {**finding["await"], "whose": "yours"}
    assert [set(violation) for violation in finding["violations"]] == [{"oracle", "text"}] * len(finding["violations"])


def test_json_says_what_else_there_is(file: str, tmp_path: Path) -> None:
    failed = calloff_sweep(f"{file}:fails", "--setup", "setup", "--json")
    assert json.loads(failed.stdout)["error"] == "it fails without any cancel: it raised ValueError: always"
    assert failed.stderr.endswith(":fails: it fails without any cancel: it raised ValueError: always\n")
    ids = [each["id"] for each in json.loads(calloff_sweep(f"{file}:bad", *SETUP, "--json").stdout)["findings"]]
    (tmp_path / "known").write_text("".join(f"{each} a reason\n" for each in ids))
    known = json.loads(calloff_sweep(f"{file}:bad", *SETUP, "--json", "--known", str(tmp_path / "known")).stdout)
    assert (known["verdict"], known["findings"]) == ("SAFE", [])
    assert [(each["id"], each["reason"]) for each in known["silenced"]] == [(each, "a reason") for each in ids]
    assert json.loads(calloff_sweep(f"{file}:bad", *SETUP, "--json", "--max", "1").stdout)["skipped"] == 2


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


def test_a_sweep_goes_on_where_it_stopped(file: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    once = ("--json", "--phases", "early,late,before", "--resume", str(kept))
    first = json.loads(calloff_sweep(f"{file}:bad", *SETUP, *once, "--max", "2").stdout)
    assert (first["runs"], first["skipped"]) == (2 + 2, 1)
    with kept.open("a") as lines:
        lines.write('[["late", ["", [["')  # cut off by a kill
    second = json.loads(calloff_sweep(f"{file}:bad", *SETUP, *once).stdout)
    assert second["runs"] == 2 + 1
    whole = json.loads(calloff_sweep(f"{file}:bad", *SETUP, "--json").stdout)
    assert sorted(each["id"] for each in second["findings"]) == sorted(each["id"] for each in whole["findings"])
    assert second["findings"][0]["violations"]
    Path(file).write_text(PROGRAM + "# changed\n")
    assert json.loads(calloff_sweep(f"{file}:bad", *SETUP, *once).stdout)["runs"] == 2 + 3


def test_an_interrupt_ends_it_in_one_sentence(file: str, tmp_path: Path) -> None:
    code = "import sys; from calloff.cli import main; sys.exit(main(['sweep', *sys.argv[1:]]))"
    command = [sys.executable, "-c", code, f"{file}:waits", "--timeout", "60", "--resume", str(tmp_path / "kept")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 30
        while not Path(f"{file}.begun").exists() and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert said == f"calloff sweep: interrupted; the same command goes on from {tmp_path / 'kept'}\n"


def test_what_never_waits_is_safe_and_said_to_be_so(file: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = calloff_sweep(f"{file}:quick", *SETUP, "--html", str(page))
    assert done.returncode == 0
    assert done.stdout.startswith("SAFE: 0 await points, "), done.stdout
    assert done.stdout.endswith("; there was no await at which it could be called off\n"), done.stdout
    assert "There was no await at which it could be called off." in page.read_text()
    assert "no await" not in calloff_sweep(f"{file}:good", *SETUP).stdout


def test_html(file: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert calloff_sweep(f"{file}:bad", "--setup", "setup", "--html", str(page)).returncode == 1
    text = page.read_text()
    row = re.search(r'<tr id="([^"]+)" class="unsafe"><td>13</td>.*', text)
    assert row is not None
    assert "<span>unsafe</span>" in row[0]
    assert "<b>await</b> asyncio.sleep(0.001)" in row[0]
    assert f'href="#{row[1]}"' in text, "the finding leads to the line"
    for anchor in re.findall(r'href="#([^"]+)"', text):
        assert text.count(f'id="{anchor}"') == 1, anchor
    assert "the Lock is still held" in text
    assert re.search(r'<code class="command">calloff sweep \S+:bad --setup setup --replay e-\w+</code>', text)
    assert "<script" not in text
    assert not re.search(r"(src|href)=[\"']?http|url\(|@import", text)
    assert calloff_sweep(f"{file}:good", "--setup", "setup", "--html", str(page)).returncode == 0
    text = page.read_text()
    assert "<span>safe</span>" in text
    assert "<span>never waited</span>" in text
    assert "Never waited in: setup, bad, check" in text
    assert calloff_sweep(f"{file}:good", *SETUP, "--phases", "before", "--html", str(page)).returncode == 0
    assert "<span>not tried</span>" in page.read_text()


def test_the_page_names_what_is_known_and_what_went_wrong(file: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    ids = re.findall(r"\[(.-\w+)\]", calloff_sweep(f"{file}:bad", *SETUP).stdout)
    (tmp_path / "known").write_text("".join(f"{each} <because>\n" for each in ids))
    calloff_sweep(f"{file}:bad", *SETUP, "--known", str(tmp_path / "known"), "--html", str(page))
    assert page.read_text().count("<b>Known:</b> &lt;because&gt;") == len(ids) == 2
    calloff_sweep(f"{file}:fails", *SETUP, "--html", str(page))
    assert "It could not be swept: it fails without any cancel: it raised ValueError: always" in page.read_text()


@pytest.mark.parametrize("page", ["tutorial/find-a-lost-connection.md", "reference/testing.md"])
def test_what_the_pages_show_is_what_is_printed(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parent.parent.parent
    monkeypatch.chdir(root)
    shown = (root / "docs" / page).read_text().partition("query --setup setup\n")[2].partition("```")[0].splitlines()
    said = calloff_sweep("examples/pool.py:query", "--setup", "setup").stdout.splitlines()
    assert said[:-1] == shown[:-1]
    assert said[-1].partition(" in ")[0] == shown[-1].partition(" in ")[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.py:fn"], "there is no file 'nothing.py'"),
        (["program.py"], "the target must be file.py:function or package.module:function"),
        (["no.such.module:fn"], "no.such.module could not be imported: ModuleNotFoundError"),
        (["{file}:nothing"], "has no 'nothing'"),
        (["{file}:asyncio"], "the target: 'asyncio' in {file} is not an async function"),
        (["{file}:good", "--check", "PLAIN"], "--check: 'PLAIN' in {file} is not an async function"),
        (["{file}:good", "--setup", "nothing"], "--setup: "),
        (["{file}:good", "--phases", "often"], "phases must be of before, early, late, double, amid, not 'often'"),
        (["{file}:good", "--phases", ""], "phases must be at least one of before, early, late, double, amid"),
        (["{file}:good", "--without", "luck"], "without must be of obeyed"),
        (["{file}:good", "--max", "0"], "--max must be a whole number, 1 or more, not '0'"),
        (["{file}:good", "--jobs", "0"], "--jobs must be a whole number, 1 or more, not '0'"),
        (["{file}:good", "--timeout", "0"], "--timeout must be more than 0"),
        (["{file}:good", "--timeout", "soon"], "--timeout must be a duration such as 3"),
        (["{file}:good", "--known", "/no/such/file"], "--known: /no/such/file: No such file"),
        (["{file}:good", "--html", "/no/such/page"], "--html: /no/such/page: No such file"),
        (["{file}:good", "--resume", "/no/such/page"], "/no/such/page: No such file"),
        (["{file}:good", "--setup", "setup", "--resume", "{file}"], "resume: {file} is not of a sweep"),
        (["{file}:good", "--setup", "setup", "--replay", "e-000000"], "no cancel of this function has the id"),
    ],
)
def test_usage(file: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sweep", *(word.format(file=file) for word in words)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message.format(file=file) in printed.err
    assert printed.err.count("\n") == 1, "one sentence"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{file}:good", "--setup", "no_setup"], "the set-up failed: OSError: no server (program.py:"),
        (["{file}:good"], "TypeError: good() missing 1 required positional argument: 'lock'"),
        (["{file}:waits", "--timeout", "0.2"], "did not end within 0.2 s: it waits at program.py:"),
    ],
)
def test_what_can_not_be_swept(file: str, words: list[str], message: str) -> None:
    done = calloff_sweep(*(word.format(file=file) for word in words))
    assert done.returncode == 2
    first, error, figures = done.stdout.splitlines()
    assert first == f"ERROR {file}:{words[0].partition(':')[2]}"
    assert message in error
    assert figures.startswith("ERROR: 0 await points, 1 run, 0 unsafe")


def test_wrong_options_are_usage_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sweep"]) == 2
    assert cli.main(["sweep", "--nonsense"]) == 2
    with pytest.raises(SystemExit, match="0"):
        cli.main(["sweep", "--help"])
    assert "--bystander" in capsys.readouterr().out
