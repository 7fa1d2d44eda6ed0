"""What a sweep of a suite takes from one await, and from one test, to the next."""

import json
from pathlib import Path

from .test_pytest_plugin import run_pytest

POOL = """
import asyncio
import warnings

class Base:
    open = False

    def __del__(self):
        if self.open:
            warnings.warn("unclosed base <Base>", ResourceWarning)

class Connection:
    def __init__(self):
        self.base = Base()

    async def __aenter__(self):
        self.base.open = True
        await asyncio.sleep(0.001)
        return self

    async def work(self):
        await asyncio.sleep(0.002)

    async def __aexit__(self, *_):
        self.base.open = False
"""
TOGETHER = """
import asyncio
import pool

async def one(turn):
    for _ in range(turn):
        await asyncio.sleep(0.001)
    async with pool.Connection() as connection:
        await connection.work()

async def test_many():
    await asyncio.gather(*map(one, range(4)))
"""


def project(folder: Path, module: str, tests: str, name: str = "pool") -> Path:
    (folder / "tests").mkdir()
    (folder / f"{name}.py").write_text(module)
    (folder / "tests" / f"test_{name}.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    return folder


def faults(folder: Path, *options: str) -> list[tuple[str, str]]:
    done = run_pytest(folder, "--cancel-sweep", "--cancel-sweep-report=json", *options)
    assert (folder / "cancel-sweep.json").exists(), done.stdout
    document = json.loads((folder / "cancel-sweep.json").read_text())
    return [(fault["owner"], fault["function"]) for fault in document["faults"]]


def test_of_tasks_called_off_together_each_is_judged_by_what_it_leaves_itself(tmp_path: Path) -> None:
    assert faults(project(tmp_path, POOL, TOGETHER)) == [("project", "__aenter__")]


BOTH = """
import asyncio
import pool

lost = []

def lose():
    lost.append(pool.Base())
    if len(lost) == 2:
        lost[0].open = True
        lost.clear()

async def one():
    try:
        await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        lose()
        raise

async def other():
    try:
        await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        lose()
        raise
"""


def test_what_none_of_them_leaves_alone_is_held_against_where_all_were_called_off(tmp_path: Path) -> None:
    test = "import asyncio\nimport both\n\nasync def test_both():\n    await asyncio.gather(both.one(), both.other())\n"
    folder = project(tmp_path, BOTH, test, "both")
    (folder / "pool.py").write_text(POOL)
    assert faults(folder, "--cancel-sweep-phases=early") == [("tests", "test_both")]
