"""``pytest --cancel-sweep`` on suites that know nothing of it."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

SUITE = """
import asyncio
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
"""


def run_pytest(folder: Path, *words: str, plugins: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    loaded = [word for name in ("calloff.testing._pytest", *plugins) for word in ("-p", name)]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *loaded, *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


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


@pytest.mark.parametrize("in_process", [False, True])
@pytest.mark.parametrize("host", HOSTS)
def test_an_existing_suite_is_swept_by_one_flag(tmp_path: Path, host: str, in_process: bool) -> None:
    pytest.importorskip(host)
    plugin, header, fixture, mark = HOSTS[host]
    header = ANYIO_BACKEND if host == "anyio" else header
    write(tmp_path, SUITE.format(header=header, async_fixture=fixture, mark=mark))
    options = ["--cancel-sweep-in-process"] if in_process else []
    done = run_pytest(tmp_path, "--cancel-sweep", "--junit-xml=out.xml", *options, plugins=(plugin,))
    text = done.stdout
    assert done.returncode == 1, text + done.stderr
    assert "4 failed, 3 passed" in text
    assert re.search(r"test_good: SAFE: 1 await points, \d+ runs", text), text
    assert "test_captured: SAFE" in text
    assert text.count("- locks: the Lock is still held, acquired at test_suite.py:") == 4
    assert "- tasks: the task sleep still runs" in text
    assert "again: pytest 'test_suite.py::test_bad[0.001]' --cancel-sweep --cancel-sweep-replay e-" in text
    assert "as ever" in text
    assert "5 tests, 5 await points" in text
    suite = next(ET.parse(tmp_path / "out.xml").getroot().iter("testsuite"))
    assert suite.get("failures") == "4"
    failure = next(suite.iter("failure"))
    assert "UNSAFE early" in (failure.text or "")


def test_without_the_flag_nothing_changes(tmp_path: Path) -> None:
    pytest.importorskip("pytest_asyncio")
    plugin, header, fixture, mark = HOSTS["pytest_asyncio"]
    write(tmp_path, SUITE.format(header=header, async_fixture=fixture, mark=mark))
    done = run_pytest(tmp_path, plugins=(plugin,))
    assert "1 failed, 6 passed" in done.stdout
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


def test_replay_max_phases_and_pages(tmp_path: Path) -> None:
    write(tmp_path, ALONE)
    test = "test_suite.py::test_check"
    text = run_pytest(tmp_path, test, "--cancel-sweep-html", "pages").stdout
    (page,) = (tmp_path / "pages").iterdir()
    assert "UNSAFE" in page.read_text()
    found = re.search(r"--cancel-sweep-replay (\S+)", text)
    assert found is not None
    again = run_pytest(tmp_path, test, "--cancel-sweep-replay", found[1]).stdout
    assert "3 runs, 1 unsafe" in again
    assert "1 passed" in run_pytest(tmp_path, test, "--cancel-sweep-replay", "e-000000").stdout
    switched = "test_suite.py::test_switched_off"
    assert "1 await points, 3 runs" in run_pytest(tmp_path, switched, "--cancel-sweep-max", "1").stdout
    assert "1 await points, 3 runs" in run_pytest(tmp_path, switched, "--cancel-sweep-phases", "late").stdout


def test_twenty_tests_at_once(tmp_path: Path) -> None:
    """The size of the promise: a suite with 20 async tests, swept by one flag, with no change to it."""
    pytest.importorskip("pytest_asyncio")
    tests = "\n".join(
        f"async def test_{number}():\n    for _ in range(2):\n        await asyncio.sleep(0.001)\n"
        for number in range(20)
    )
    write(tmp_path, f"import asyncio\n{tests}", "asyncio_mode = auto")
    done = run_pytest(tmp_path, "--cancel-sweep", plugins=("pytest_asyncio.plugin",))
    assert done.returncode == 0, done.stdout
    assert "20 tests, 40 await points, 140 runs, 0 tests unsafe" in done.stdout


def test_the_plugin_imports_nothing_heavy() -> None:
    code = "import sys, calloff.testing._pytest as p; print([m for m in sys.modules if m.startswith('calloff')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "_sweep" not in done.stdout
