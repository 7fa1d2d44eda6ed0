"""``pytest --cancel-sweep`` on suites that know nothing of it."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.metadata import entry_points
from pathlib import Path

import pytest

SUITE = """
import asyncio
import unittest
import pytest
{header}

@pytest.fixture
def lock():
    return asyncio.Lock()

@{async_fixture}
async def pool():
    queue = asyncio.Queue()
    queue.put_nowait("item")
    keeper = asyncio.create_task(asyncio.sleep(60))
    yield queue
    keeper.cancel()

{mark}
async def test_good(lock, pool):
    async with lock:
        await asyncio.sleep(0.001)
        assert await pool.get() == "item"

{mark}
@pytest.mark.parametrize("seconds", [0.001, 0.002])
async def test_bad(lock, seconds):
    await lock.acquire()
    await asyncio.sleep(seconds)
    lock.release()

class TestThings:
    {mark}
    async def test_orphan(self):
        worker = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0.001)
        worker.cancel()

    {mark}
    async def test_captured(self, capsys):
        print("heard")
        await asyncio.sleep(0.001)
        assert capsys.readouterr().out == "heard\\n"

{mark}
async def test_fails():
    await asyncio.sleep(0)
    assert False, "as ever"

def test_not_async():
    pass

class TestOld(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.lock = asyncio.Lock()

    async def test_old(self):
        await self.lock.acquire()
        await asyncio.sleep(0.001)
        self.lock.release()
"""

#: what pytest and its plugins read from the environment, and would make them print something else
READ = ("PYTEST_", "GITHUB_", "CI", "BUILD_NUMBER", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "PY_COLORS")


def run_pytest(
    folder: Path, *words: str, plugins: tuple[str, ...] = (), env: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    loaded = [word for name in ("calloff.testing._pytest", *plugins) for word in ("-p", name)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(READ)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *loaded, *words]
    whole = {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **(env or {})}
    return subprocess.run(command, cwd=folder, env=whole, capture_output=True, text=True, timeout=120, check=False)


def failures(text: str) -> dict[str, str]:
    """What pytest says of each test that failed, by its name."""
    parts = re.split(r"^_{4,} (\S+) _{4,}$", text.partition("= FAILURES =")[2].partition("\n======")[0], flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def write(folder: Path, text: str, ini: str = "") -> None:
    (folder / "test_suite.py").write_text(text)
    (folder / "pytest.ini").write_text(f"[pytest]\n{ini}\n")


HOSTS = {
    "pytest_asyncio": (
        "pytest_asyncio.plugin",
        "import pytest_asyncio",
        "pytest_asyncio.fixture",
        "@pytest.mark.asyncio",
    ),
    "anyio": ("anyio.pytest_plugin", "", "pytest.fixture", "@pytest.mark.anyio"),
}
ANYIO_BACKEND = '@pytest.fixture\ndef anyio_backend():\n    return "asyncio"\n'


@pytest.mark.parametrize(
    ("host", "options", "env"),
    [
        ("pytest_asyncio", [], {"CI": "true"}),
        ("anyio", [], {}),
        ("pytest_asyncio", ["--cancel-sweep-in-process"], {}),
    ],
)
def test_an_existing_suite_is_swept_by_one_flag(
    tmp_path: Path, host: str, options: list[str], env: dict[str, str]
) -> None:
    pytest.importorskip(host)
    plugin, header, fixture, mark = HOSTS[host]
    header = ANYIO_BACKEND if host == "anyio" else header
    write(tmp_path, SUITE.format(header=header, async_fixture=fixture, mark=mark))
    done = run_pytest(tmp_path, "--cancel-sweep", "--junit-xml=out.xml", *options, plugins=(plugin,), env=env)
    text = done.stdout
    assert done.returncode == 1, text + done.stderr
    assert "5 failed, 3 passed" in text
    assert re.search(r"test_good: SAFE: 1 await point, \d+ runs", text), text
    assert "test_captured: SAFE" in text
    assert "6 tests, 6 await points" in text
    said = failures(text)
    assert set(said) == {
        "test_bad[0.001]",
        "test_bad[0.002]",
        "TestThings.test_orphan",
        "TestOld.test_old",
        "test_fails",
    }
    for name in ("test_bad[0.001]", "test_bad[0.002]", "TestOld.test_old"):
        assert said[name].count("- locks: the Lock is still held, acquired at test_suite.py:") == 2, said[name]
    assert "again: pytest 'test_suite.py::test_bad[0.001]' --cancel-sweep --cancel-sweep-replay e-" in text
    assert "- tasks: the task sleep still runs" in said["TestThings.test_orphan"]
    assert "as ever" in said["test_fails"]
    assert re.search(r"^FAILED test_suite.py::test_bad\[0.001\] - UNSAFE: 1 await point", text, re.M), "one line"
    suite = next(ET.parse(tmp_path / "out.xml").getroot().iter("testsuite"))
    assert suite.get("failures") == "5"
    case = next(case for case in suite.iter("testcase") if case.get("name") == "test_bad[0.001]")
    failure = case.find("failure")
    assert failure is not None
    assert re.match(r"UNSAFE: 1 await point, \d+ runs, 1 unsafe", failure.get("message", ""))
    assert "UNSAFE early" in (failure.text or "")
    (about,) = case.iter("property")
    assert (about.get("name"), about.get("value")) == ("cancel_sweep", failure.get("message"))


def test_without_the_flag_nothing_changes(tmp_path: Path) -> None:
    pytest.importorskip("pytest_asyncio")
    plugin, header, fixture, mark = HOSTS["pytest_asyncio"]
    write(tmp_path, SUITE.format(header=header, async_fixture=fixture, mark=mark))
    done = run_pytest(tmp_path, plugins=(plugin,))
    assert "1 failed, 7 passed" in done.stdout
    assert "cancel sweep" not in done.stdout


ALONE = """
import asyncio
import pytest

world = []

@pytest.fixture
def empty():
    async def check():
        return world == []
    world.clear()
    return check

@pytest.mark.cancel_sweep(check="empty", phases=("early",))
async def test_check():
    world.append(1)
    await asyncio.sleep(0.001)
    world.pop()

async def waits():
    await asyncio.sleep(0.002)
    assert world == [], "the bystander saw it"

@pytest.mark.cancel_sweep(bystander=waits, phases=("early",))
async def test_bystander():
    world.append(1)
    await asyncio.sleep(0.001)
    world.clear()

@pytest.mark.cancel_sweep(without=("obeyed",))
async def test_switched_off():
    try:
        await asyncio.sleep(0.001)
    except asyncio.CancelledError:
        pass

@pytest.mark.cancel_sweep(skip="it is meant to swallow")
async def test_skipped():
    pass

@pytest.mark.cancel_sweep(nonsense=1)
async def test_wrong_mark():
    await asyncio.sleep(0)
"""


def test_the_mark_alone_without_any_other_plugin(tmp_path: Path) -> None:
    write(tmp_path, ALONE)
    done = run_pytest(tmp_path)
    text = done.stdout
    assert "- check: the check returned False" in text, text
    assert "- bystander: the bystander failed: AssertionError" in text
    assert "the mark cancel_sweep does not know nonsense" in text
    assert "test_switched_off: SAFE" in text
    assert "4 failed, 1 passed" in text  # pytest itself fails the one that nobody runs


HALF = """
import asyncio

import pytest

@pytest.fixture
def report(tmp_path):
    return tmp_path / "report.csv"

@pytest.fixture
def whole(report):
    async def whole():
        return not report.exists() or len(report.read_text().splitlines()) == 3
    return whole

async def write(path):
    with open(path, "w") as file:
        for number in range(3):
            file.write(f"{number}\\n")
            await asyncio.sleep(0.001)

async def test_as_it_is(report):
    await write(report)

@pytest.mark.cancel_sweep(check="whole")
async def test_with_a_check(report, whole):
    await write(report)
"""


def test_half_a_file_is_for_a_check_to_tell(tmp_path: Path) -> None:
    write(tmp_path, HALF)
    text = run_pytest(tmp_path, "--cancel-sweep", "--cancel-sweep-every-test").stdout
    assert "test_as_it_is: SAFE" in text, text
    assert "test_with_a_check: UNSAFE: 3 await points" in text
    assert "await asyncio.sleep(0.001)\n  - check: the check returned False" in text


def test_replay_a_finding_and_live_with_it(tmp_path: Path) -> None:
    write(tmp_path, ALONE)
    test = "test_suite.py::test_check"
    text = run_pytest(tmp_path, test, "--cancel-sweep-html", "pages").stdout
    (page,) = (tmp_path / "pages").iterdir()
    assert "UNSAFE" in page.read_text()
    found = re.search(r"--cancel-sweep-replay (\S+)", text)
    assert found is not None
    again = run_pytest(tmp_path, "test_suite.py::test_check", "--cancel-sweep-replay", found[1]).stdout
    assert "3 runs, 1 unsafe" in again
    (tmp_path / "known").write_text(f"# for now\n{found[1]}  the next release mends it\n")
    done = run_pytest(tmp_path, test, "--cancel-sweep-known", "known", "--junit-xml=out.xml")
    assert "1 passed" in done.stdout
    assert f"  known {found[1]}: the next release mends it" in done.stdout
    properties = ET.parse(tmp_path / "out.xml").getroot().iter("property")
    reasons = [each.get("value") for each in properties if each.get("name") == "cancel_sweep_known"]
    assert reasons == [f"{found[1]}: the next release mends it"]


def test_budget_phases_and_going_on(tmp_path: Path) -> None:
    write(tmp_path, ALONE)
    test = "test_suite.py::test_switched_off"
    options = ("--cancel-sweep-max", "1", "--cancel-sweep-resume", "kept", "--cancel-sweep-phases", "early,late")
    assert "1 await point, 3 runs, 0 unsafe, 1 cancel not tried" in run_pytest(tmp_path, test, *options).stdout
    assert "3 runs, 0 unsafe, 1 cancel tried before in" in run_pytest(tmp_path, test, *options).stdout


def test_a_wrong_list_of_known_findings_is_wrong_usage(tmp_path: Path) -> None:
    write(tmp_path, ALONE)
    (tmp_path / "known").write_text("e-123456\n")
    done = run_pytest(tmp_path, "--cancel-sweep-known", "known")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "known:1: e-123456 needs a reason after it" in done.stderr


def test_the_plugin_is_there_where_calloff_is_installed() -> None:
    (entry,) = (entry for entry in entry_points(group="pytest11") if entry.name == "calloff")
    assert entry.value == "calloff.testing._pytest"


def test_twenty_tests_at_once(tmp_path: Path) -> None:
    """The size of the promise: a suite with 20 async tests, swept by one flag, with no change to it."""
    pytest.importorskip("pytest_asyncio")
    tests = "\n".join(f"async def test_{number}():\n    await asyncio.sleep(0.001)\n" for number in range(20))
    write(tmp_path, f"import asyncio\n{tests}", "asyncio_mode = auto")
    done = run_pytest(tmp_path, "--cancel-sweep", plugins=("pytest_asyncio.plugin",))
    assert done.returncode == 0, done.stdout
    assert "20 tests, 20 await points, 80 runs; of the tests 0 unsafe" in done.stdout


WAITS_AT_FIRST = """
import asyncio
from pathlib import Path

async def test_waits_less_later():
    with open(Path(__file__).with_name("runs"), "a") as file:
        file.write(".")
        number = file.tell()
    await asyncio.sleep(0)
    if number <= 3:
        await asyncio.sleep(0)
"""


def test_one_that_could_not_be_tried_is_told(tmp_path: Path) -> None:
    write(tmp_path, WAITS_AT_FIRST)
    done = run_pytest(tmp_path, "--cancel-sweep")
    assert "UNRESOLVED: 2 await points" in done.stdout, done.stdout
    assert "1 test, 2 await points" in done.stdout
    assert "of the tests 0 unsafe, 1 unresolved" in done.stdout
    assert done.returncode == 0


def test_the_plugin_imports_nothing_heavy() -> None:
    code = "import sys, calloff.testing._pytest as p; print([m for m in sys.modules if m.startswith('calloff')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "_sweep" not in done.stdout
