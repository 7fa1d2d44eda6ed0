"""One finding for each fault: the findings of all tests, put together by the line to mend."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._sweep.points import Step
from .._sweep.report import Finding
from .._sweep.text import PHASES, owner, place, short
from .owners import OWNERS, Owners

__all__ = ["Fault", "faults_of", "key_of", "plain", "read_baseline", "write_baseline"]


def plain(finding: Finding, owners: Owners, test: str, replay: str) -> dict[str, Any]:
    """A finding as plain data, which pytest-xdist hands on."""
    return {
        "id": finding.id,
        "phase": finding.phase,
        "verdict": finding.verdict,
        "owner": owners.of(finding.at_fault.file),
        "whose": owner(finding),
        "at": list(finding.at),
        "fault": list(finding.at_fault),
        "source": finding.at_fault.source,
        "key": key_of(finding),
        "task": finding.task,
        "oracles": sorted(finding.oracles),
        "texts": [f"{item.oracle}: {item.text}" for item in finding.violations],
        "test": test,
        "replay": replay.replace("{id}", finding.id),
    }


def key_of(finding: Finding) -> str:
    """What a baseline knows a fault by; a move of the lines does not change it."""
    fault = finding.at_fault
    parts = (short(fault.file).split("/")[-1], fault.function, fault.source)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]


@dataclass
class Fault:
    """All findings that have one line to mend."""

    owner: str
    whose: str
    at: Step
    source: str
    key: str
    verdict: str = "UNSAFE"
    findings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def tests(self) -> int:
        """How many tests show it."""
        return len({item["test"] for item in self.findings})

    @property
    def points(self) -> int:
        """At how many awaits it shows."""
        return len({(*item["at"][:2], item["task"]) for item in self.findings})

    @property
    def oracles(self) -> list[str]:
        """Which oracles saw it."""
        return sorted({oracle for item in self.findings for oracle in item["oracles"]})

    def to_json(self) -> dict[str, Any]:
        """The fault as the documented JSON."""
        first = self.findings[0]
        return {
            "verdict": self.verdict,
            "owner": self.owner,
            "key": self.key,
            "file": self.at.file,
            "line": self.at.line,
            "function": self.at.function,
            "source": self.source,
            "oracles": self.oracles,
            "tests": sorted({item["test"] for item in self.findings}),
            "points": self.points,
            "ids": sorted({item["id"] for item in self.findings}),
            "text": first["texts"][0],
            "replay": first["replay"],
        }

    def lines(self) -> list[str]:
        """What to tell people."""
        first = self.findings[0]
        tests = "1 test" if self.tests == 1 else f"{self.tests} tests"
        points = "1 await" if self.points == 1 else f"{self.points} awaits"
        phases = sorted({item["phase"] for item in self.findings})
        return [
            f"{self.verdict} {place(self.at)} in {self.at.function}: {self.source}",
            f"  {', '.join(self.oracles)} ({', '.join(phases)}); {tests}, {points}; {self.whose}   [{self.key}]",
            f"  {PHASES[first['phase']]}, {place(Step(*first['at']))}:",
            f"  - {first['texts'][0]}",
            f"  again: {first['replay']}",
        ]


def faults_of(findings: Iterable[dict[str, Any]]) -> list[Fault]:
    """The faults, those of the project first, and of those the ones that most tests show."""
    found: dict[tuple[str, str, str], Fault] = {}
    for item in findings:
        step = Step(*item["fault"])
        key = (item["verdict"], item["key"], step.file)
        fault = found.setdefault(
            key, Fault(item["owner"], item["whose"], step, item["source"], item["key"], item["verdict"])
        )
        fault.findings.append(item)
    order = {owner: number for number, owner in enumerate(OWNERS)}
    return sorted(found.values(), key=lambda fault: (fault.verdict != "UNSAFE", order[fault.owner], -fault.tests))


def read_baseline(file: str) -> set[str]:
    """The keys of the faults in a baseline.

    Raises:
        ValueError: it is none.
        OSError: it can't be read.
    """
    try:
        document = json.loads(Path(file).read_text(encoding="utf-8"))
        return {fault["key"] for fault in document["faults"]}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{file} is not a baseline of a sweep") from None


def write_baseline(file: str, faults: Iterable[Fault]) -> int:
    """Keep the faults that are there now; how many."""
    kept = [
        {"key": fault.key, "file": short(fault.at.file), "function": fault.at.function, "source": fault.source}
        for fault in faults
        if fault.verdict == "UNSAFE"
    ]
    Path(file).write_text(json.dumps({"faults": kept}, indent=1) + "\n", encoding="utf-8")
    return len(kept)
