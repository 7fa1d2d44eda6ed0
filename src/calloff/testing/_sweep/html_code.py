"""What the page shows of each file: the functions that were seen waiting, their lines, and the mark of each await."""

import ast
import linecache
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from .points import Stack, Step, is_python, shown, whose
from .report import Finding, SweepReport
from .text import short

__all__ = ["Line", "Listing", "listings"]

#: how many lines of a library are shown around one that matters
_NEAR = 5
_ORDER = ("unsafe", "inside", "unresolved", "known", "safe", "untried", "none")


@dataclass
class Line:
    """A line of code.

    Attributes:
        mark: what is known of its await; ``""`` where there is none.
        awaits: from which column to which the words stand that wait.
        findings: those whose await this is.
    """

    number: int
    text: str
    mark: str = ""
    awaits: list[tuple[int, int]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass
class Listing:
    """The lines of a file that are worth seeing, and the async functions in which nothing was seen waiting."""

    file: str
    name: str
    lines: list[Line]
    never_waited: list[str]


def listings(report: SweepReport) -> Iterator[Listing]:
    """A listing of each file that is the user's own, or that a finding is in."""
    marks = _marks(report)
    findings: dict[tuple[str, int], list[Finding]] = defaultdict(list)
    for finding in (*report.findings, *(finding for finding, _ in report.silenced)):
        if all(other.phase != finding.phase for other in findings[finding.at.file, finding.at.line]):
            findings[finding.at.file, finding.at.line].append(finding)
    for file, of_lines in sorted(marks.items(), key=lambda item: (whose(item[0]) != "yours", _worst(item[1]), item[0])):
        texts = [text.rstrip("\n") for text in linecache.getlines(file)]
        functions, words = _parsed(texts)
        yours = whose(file) == "yours"
        wanted = set(of_lines)
        for line in of_lines:
            begin, end, _ = (_around(functions, line) if yours else None) or (line - _NEAR, line + _NEAR, "")
            wanted.update(range(begin, end + 1))
        lines = [
            Line(
                number,
                texts[number - 1],
                of_lines.get(number, "none" if number in words else ""),
                sorted(words.get(number, [])),
                findings[file, number],
            )
            for number in sorted(wanted)
            if 0 < number <= len(texts)
        ]
        rest = [name for begin, end, name in functions if yours and wanted.isdisjoint(range(begin, end + 1))]
        yield Listing(file, short(file), lines, rest)


def _marks(report: SweepReport) -> dict[str, dict[int, str]]:
    known = [finding for finding, _ in report.silenced]
    stacks = [(point.stack, "untried") for point in report.seen]
    stacks += [(point.stack, "safe") for point in report.safe]
    stacks += [(finding.stack, _mark_of(finding)) for finding in report.findings]
    stacks += [(finding.stack, "known") for finding in known]
    wanted = {finding.at.file for finding in (*report.findings, *known)}
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for stack, mark in stacks:
        for step, here in _marked(stack, mark):
            if not is_python(step.file) and (whose(step.file) == "yours" or step.file in wanted):
                before = found[step.file].get(step.line, here)
                found[step.file][step.line] = min(before, here, key=_ORDER.index)
    return dict(found)


def _marked(stack: Stack, mark: str) -> Iterator[tuple[Step, str]]:
    """The mark belongs to the innermost frame that a person wants to see; those around it only lead there."""
    at = shown(stack)
    for step in stack:
        yield step, mark if step == at or mark == "untried" else "inside" if mark == "unsafe" else "safe"


def _mark_of(finding: Finding) -> str:
    return "unsafe" if finding.verdict == "UNSAFE" else "unresolved"


def _worst(marks: dict[int, str]) -> int:
    return min(map(_ORDER.index, marks.values()))


Function = tuple[int, int, str]


def _parsed(texts: list[str]) -> tuple[list[Function], dict[int, list[tuple[int, int]]]]:
    """The async functions of a file with their lines, and where its awaits stand."""
    functions: list[Function] = []
    words: dict[int, list[tuple[int, int]]] = defaultdict(list)
    names: dict[ast.AST, str] = {}
    try:
        tree = ast.parse("\n".join(texts))
    except SyntaxError:
        return functions, words
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names[child] = f"{names.get(node, '')}{node.name}."
            elif node in names:
                names[child] = names[node]
        if isinstance(node, ast.AsyncFunctionDef):
            begin = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            functions.append((begin, node.end_lineno or begin, f"{names.get(node, '')}{node.name}"))
        word = _WORDS.get(type(node))
        if word is not None and isinstance(node, ast.expr | ast.stmt):
            text = texts[node.lineno - 1]
            column = len(text.encode()[: node.col_offset].decode(errors="replace"))
            words[node.lineno].append((column, column + len(word)))
    return sorted(functions), words


_WORDS: dict[type[ast.AST], str] = {ast.Await: "await", ast.AsyncFor: "async for", ast.AsyncWith: "async with"}


def _around(functions: list[Function], line: int) -> Function | None:
    """The innermost function around a line."""
    inside = [function for function in functions if function[0] <= line <= function[1]]
    return max(inside, default=None)
