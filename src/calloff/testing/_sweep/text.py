"""The report for people, like that of a coverage tool: the figures, then each point that is not safe."""

import os
import textwrap
from collections.abc import Iterable, Sequence

from .points import Stack, Step, is_python, whose
from .report import Finding, SweepReport

__all__ = ["NO_AWAIT", "alike", "count", "describe", "describe_finding", "owner", "place", "short", "summary"]

PHASES = {
    "before": "called off before its first step",
    "early": "called off while it waits here",
    "late": "called off when the wait here has its result, and it has not gone on yet",
    "double": "called off a second time here, in the clean-up after a first cancel",
    "amid": "called off while it waits here, in the same turn of the loop as a step of the bystander",
}
NO_AWAIT = "there was no await at which it could be called off"


def describe(report: SweepReport) -> str:
    """The whole report."""
    lines: list[str] = []
    if report.error:
        lines += [f"ERROR {report.target}".rstrip(), textwrap.indent(report.error, "  ")]
    for first, *others in alike(report.findings):
        lines.append(describe_finding(first, report.replay))
        if others:
            times = "once more" if len(others) == 1 else f"{len(others)} times more"
            lines.append(f"  the same {times}, when this await comes again: {' '.join(f.id for f in others[:5])}")
        lines.append("")
    for finding, reason in report.silenced:
        oracles = ", ".join(sorted(finding.oracles))
        lines.append(f"known {finding.id}: {finding.phase} {place(finding.at)} ({oracles}): {reason}")
    lines += [f"not tried: {oracle}: {reason}" for oracle, reason in report.not_tried.items()]
    lines.append(summary(report))
    return "\n".join(lines)


def describe_finding(finding: Finding, replay: str = "") -> str:
    """One finding, with its evidence and how to see it again."""
    task = f", in the task {finding.task}" if finding.task else ""
    lines = [f"{finding.verdict} {finding.phase} {place(finding.at)}{task}   [{finding.id}]"]
    lines.append(f"  {PHASES[finding.phase]}:")
    lines += _stack(finding.stack)
    lines += [f"  - {item.oracle}: {item.text}" for item in finding.violations]
    if finding.verdict == "UNSAFE":
        lines.append(f"  at fault: {place(finding.at_fault)} in {finding.at_fault.function} ({owner(finding)})")
    if replay:
        lines.append(f"  again: {replay.replace('{id}', finding.id)}")
    return "\n".join(lines)


def owner(finding: Finding) -> str:
    """Whose code is at fault."""
    if finding.python:
        return finding.python
    known = {"yours": "your code", "python": "Python's library"}
    return known.get(whose(finding.at_fault.file), finding.package or "a library")


def count(number: int, thing: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def place(step: Step) -> str:
    """``file:line``, the file as seen from the current directory."""
    return f"{short(step.file)}:{step.line}"


def short(file: str) -> str:
    """The path from the current directory, when it lies below it; of a library, from its package."""
    for mark in (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}"):
        if mark in file:
            return file.split(mark)[-1]
    below = os.getcwd() + os.sep
    return file.removeprefix(below)


def alike(findings: Sequence[Finding]) -> Iterable[list[Finding]]:
    """The findings that differ only in how often their await had come by before."""
    groups: dict[object, list[Finding]] = {}
    for finding in findings:
        key = finding.verdict, finding.phase, finding.task, finding.stack, finding.at_fault, finding.oracles
        groups.setdefault(key, []).append(finding)
    return groups.values()


def _stack(stack: Stack) -> list[str]:
    lines: list[str] = []
    for step in [step for step in stack if not is_python(step.file)] or stack:
        lines.append(f"    {place(step)} in {step.function}: {step.source}")
    return lines


def summary(report: SweepReport) -> str:
    """The figures in one line."""
    unsafe = len({(f.at, f.task) for f in report.unsafe})
    unresolved = sum(finding.verdict == "UNRESOLVED" for finding in report.findings)
    parts = [count(report.points, "await point"), count(report.runs, "run"), f"{unsafe} unsafe"]
    if unresolved:
        parts.append(f"{unresolved} unresolved")
    if report.silenced:
        parts.append(f"{len(report.silenced)} known")
    if report.tried_before:
        parts.append(f"{count(report.tried_before, 'cancel')} tried before")
    if report.not_tried:
        parts.append(f"{', '.join(report.not_tried)} not tried")
    if report.elsewhere:
        parts.append(f"{count(report.elsewhere, 'cancel')} at awaits that were swept already")
    if report.skipped:
        parts.append(f"{count(report.skipped, 'cancel')} not tried")
    versions = ", ".join(f"{name} {version}" for name, version in report.packages.items())
    tail = f" with {versions}" if versions else ""
    none = "" if report.points or report.error else f"; {NO_AWAIT}"
    return f"{report.verdict}: {', '.join(parts)} in {report.seconds:.1f} s (Python {report.python}{tail}){none}"
