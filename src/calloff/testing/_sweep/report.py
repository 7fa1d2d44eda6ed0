"""What a sweep found, as plain values; their texts for people are in `text` and `html`."""

import json
from dataclasses import dataclass, field
from typing import Any

from .points import Point, Stack, Step, shown, whose

__all__ = ["Finding", "SweepReport", "Violation"]

_STATUS = {"SAFE": 0, "UNSAFE": 1, "ERROR": 2, "UNRESOLVED": 3}


@dataclass(frozen=True)
class Violation:
    """One promise that was broken.

    Attributes:
        oracle: which of the oracles saw it (``obeyed``, ``tasks``, ``locks``, ...).
        text: the evidence.
    """

    oracle: str
    text: str


@dataclass(frozen=True)
class Finding:
    """A point at which the function can't safely be called off.

    Attributes:
        id: short and stable; ``--replay`` takes it.
        phase: ``before``, ``early``, ``late`` or ``double``.
        verdict: ``UNSAFE``, ``UNRESOLVED`` (the point did not come again) or ``ERROR``.
        stack: the frames of the await at which the cancel arrived, outermost first.
        at_fault: the frame to mend.
        violations: what was broken.
        task: ``""`` for the function's own task, else the name of the child task that was at that await.
        package: name and version of the library that is at fault, or ``""``.
        python: what is known of it, when it is a fault of Python's own library; else ``""``.
    """

    id: str
    phase: str
    verdict: str
    stack: Stack
    at_fault: Step
    violations: tuple[Violation, ...]
    task: str = ""
    package: str = ""
    python: str = ""

    @property
    def at(self) -> Step:
        """The frame of the await: the innermost that is not Python's own."""
        return shown(self.stack)

    @property
    def oracles(self) -> frozenset[str]:
        """The names of the oracles that were violated."""
        return frozenset(violation.oracle for violation in self.violations)

    def to_json(self) -> dict[str, Any]:
        """The finding as the documented JSON."""
        fault = _frame(self.at_fault)
        fault["whose"] = whose(self.at_fault.file)
        if self.package:
            fault["package"] = self.package
        if self.python:
            fault["python"] = self.python
        return {
            "id": self.id,
            "phase": self.phase,
            "verdict": self.verdict,
            "await": _frame(self.at),
            "stack": [_frame(step) for step in self.stack],
            "at_fault": fault,
            "violations": [{"oracle": item.oracle, "text": item.text} for item in self.violations],
        }


@dataclass(frozen=True)
class SweepReport:
    """The result of `sweep`.

    Attributes:
        verdict: ``SAFE``, ``UNSAFE``, ``UNRESOLVED`` or ``ERROR`` (the function fails without any cancel).
        points: the awaits that were found.
        runs: how many times the function was run.
        python: the version of Python.
        packages: the versions of the packages whose frames were seen.
        findings: what is not safe.
        target: what was swept.
        seconds: how long it took.
        skipped: cancels that were planned and left out, because of ``max_runs``.
        tried_before: cancels whose result was taken over from an earlier sweep, by ``resume``.
        error: why the function could not be swept, for the verdict ``ERROR``.
        safe: the points at which every cancel tried went well.
        seen: the points that a run without a cancel came by, tried or not.
        elsewhere: cancels that were left out because another test of the same suite has them.
        not_tried: oracles that could say nothing here, with the reason: ``SAFE`` does not speak for them.
        silenced: findings that were known, with the reason given for each.
        replay: the command that repeats one cancel, with ``{id}`` in it.
    """

    verdict: str
    points: int
    runs: int
    python: str
    packages: dict[str, str]
    findings: tuple[Finding, ...] = ()
    target: str = ""
    seconds: float = 0.0
    skipped: int = 0
    tried_before: int = 0
    error: str = ""
    safe: tuple[Point, ...] = ()
    seen: tuple[Point, ...] = ()
    silenced: tuple[tuple[Finding, str], ...] = ()
    not_tried: dict[str, str] = field(default_factory=dict)
    elsewhere: int = 0
    replay: str = field(default="", compare=False)

    @property
    def unsafe(self) -> tuple[Finding, ...]:
        """The findings with the verdict ``UNSAFE``."""
        return tuple(finding for finding in self.findings if finding.verdict == "UNSAFE")

    @property
    def exit_status(self) -> int:
        """0 all safe, 1 something unsafe, 2 the function fails without any cancel, 3 something unresolved."""
        return _STATUS[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """The report as the documented JSON.

        ``error``, ``silenced``, ``not_tried`` and ``skipped`` are there only where they say something.
        """
        document: dict[str, Any] = {
            "verdict": self.verdict,
            "points": self.points,
            "runs": self.runs,
            "python": self.python,
            "packages": dict(self.packages),
            "findings": [finding.to_json() for finding in self.findings],
        }
        if self.error:
            document["error"] = self.error
        if self.silenced:
            document["silenced"] = [{**finding.to_json(), "reason": reason} for finding, reason in self.silenced]
        if self.not_tried:
            document["not_tried"] = dict(self.not_tried)
        if self.skipped:
            document["skipped"] = self.skipped
        return document

    def json(self) -> str:
        """`to_json` as text."""
        return json.dumps(self.to_json(), indent=2)

    def assert_safe(self) -> None:
        """Raise `AssertionError` with the whole report as its text, unless everything is safe."""
        if self.verdict != "SAFE":
            raise AssertionError(str(self))

    def html(self) -> str:
        """One self-contained page: the findings, and the code with its awaits marked safe, unsafe or not reached."""
        from .html import page

        return page(self)

    def __str__(self) -> str:
        from .text import describe

        return describe(self)


def _frame(step: Step) -> dict[str, Any]:
    return {"file": step.file, "line": step.line, "function": step.function, "source": step.source}
