"""Small programs, each with one bug that only a cancel brings out, and its mended twin.

The line at which the cancel does harm carries ``# unsafe: PHASES: ORACLE``. Every such line must be found, in one of
its phases, by that oracle; and nothing must be said of the twin.
"""

import asyncio
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from calloff.testing import SweepReport, sweep

CORPUS = Path(__file__).parent.parent / "corpus"
NAMES = sorted(path.stem for path in CORPUS.glob("*.py"))
ROLES = ("setup", "check", "teardown", "bystander")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"corpus_{name}", CORPUS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if hasattr(module, "SECONDS"):  # it waits for real, and a busy machine takes long to look at what is left
        module.SECONDS = 1.5  # type: ignore[attr-defined]
    return module


def marks(name: str) -> dict[int, tuple[set[str], str]]:
    found = {}
    for number, line in enumerate((CORPUS / f"{name}.py").read_text().splitlines(), 1):
        if match := re.search(r"# unsafe: ([a-z, ]+): ([a-z]+)$", line):
            found[number] = set(match[1].split(", ")), match[2]
    return found


def swept(module: ModuleType, which: str, **options: Any) -> SweepReport:
    roles: dict[str, Any] = {role: getattr(module, role, None) for role in ROLES}
    options = {"timeout": 20.0 if hasattr(module, "SECONDS") else 1.0, "jobs": 3, **options}

    async def main() -> SweepReport:
        return await sweep(getattr(module, which), **roles, **options)

    return asyncio.run(main())


@pytest.mark.parametrize("name", NAMES)
def test_every_bug_is_found_at_its_line(name: str) -> None:
    report = swept(load(name), "buggy")
    assert report.verdict == "UNSAFE", str(report)
    wanted = marks(name)
    assert wanted
    for line, (phases, oracle) in wanted.items():
        found = [finding for finding in report.unsafe if line in (finding.at.line, finding.at_fault.line)]
        assert {finding.phase for finding in found} & phases, f"line {line}:\n{report}"
        assert any(oracle in finding.oracles for finding in found), f"line {line}:\n{report}"
        assert all(finding.at.file.endswith(f"{name}.py") for finding in found)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_said_of_the_mended_twin(name: str) -> None:
    module = load(name)
    module.OWNER_CLOSES = True  # type: ignore[attr-defined]
    report = swept(module, "mended", timeout=20.0)  # nothing hangs, but programs that it starts may be late
    assert report.verdict == "SAFE", str(report)
    assert report.findings == ()
