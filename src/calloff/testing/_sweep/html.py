"""The report as one self-contained page: what is not safe, and the code with its awaits marked."""

import ast
import html
import linecache
from collections import defaultdict

from .points import Step, is_python, whose
from .report import Finding, SweepReport
from .text import PHASES, place, short

__all__ = ["page"]

_MARKS = {"unsafe": "unsafe", "unresolved": "not reached again", "safe": "safe", "none": "not reached"}


def page(report: SweepReport) -> str:
    """The whole page; it loads nothing from anywhere."""
    title = html.escape(f"{report.verdict}: {report.target or 'sweep'}")
    summary = html.escape(str(report).splitlines()[-1])
    findings = "\n".join(map(_finding, report.findings)) or "<p>Nothing was found.</p>"
    files = "\n".join(_file(file, lines) for file, lines in _marked(report).items())
    error = f"<pre class='error'>{html.escape(report.error)}</pre>" if report.error else ""
    key = " ".join(f"<span class='mark {name}'>{text}</span>" for name, text in _MARKS.items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{_STYLE}</style></head>
<body><h1><span class="verdict {report.verdict.lower()}">{report.verdict}</span> {html.escape(report.target)}</h1>
<p>{summary}</p>{error}
<h2>Findings</h2>
{findings}
<h2>Awaits</h2>
<p>{key}</p>
{files}
</body></html>
"""


def _finding(finding: Finding) -> str:
    stack = "\n".join(
        f"{place(step)} in {step.function}: {step.source}" for step in finding.stack if not is_python(step.file)
    )
    broken = "".join(f"<li><b>{html.escape(v.oracle)}</b> {html.escape(v.text)}</li>" for v in finding.violations)
    task = f" in the task {finding.task}" if finding.task else ""
    owner = finding.package or {"yours": "your code", "python": "Python's library"}.get(
        whose(finding.at_fault.file), ""
    )
    fault = f"{place(finding.at_fault)} in {finding.at_fault.function}" + (f" ({owner})" if owner else "")
    return f"""<section id="{finding.id}"><h3><span class="verdict {finding.verdict.lower()}">{finding.verdict}</span>
{finding.phase} <a href="#{_anchor(finding.at)}">{html.escape(place(finding.at))}</a>{html.escape(task)}
<code>{finding.id}</code></h3>
<p>{html.escape(PHASES[finding.phase])}:</p><pre>{html.escape(stack)}</pre><ul>{broken}</ul>
<p>At fault: {html.escape(fault)}</p></section>"""


def _marked(report: SweepReport) -> dict[str, dict[int, str]]:
    """For each file that is the user's own, or that a finding is in: the mark of each line with an await."""
    stacks = [(point.stack, "safe") for point in report.safe]
    stacks += [(finding.stack, finding.verdict.lower()) for finding in report.findings]
    found: dict[str, dict[int, str]] = defaultdict(dict)
    wanted = {finding.at.file for finding in report.findings}
    for stack, verdict in stacks:
        for step in stack:
            if is_python(step.file) or (whose(step.file) != "yours" and step.file not in wanted):
                continue
            mark = "unresolved" if verdict in ("unresolved", "error") else verdict
            if mark != "safe" and step != stack[-1] and step != _inner(stack):
                mark = "safe" if found[step.file].get(step.line) is None else found[step.file][step.line]
            known = found[step.file].get(step.line, "none")
            order = list(_MARKS)
            found[step.file][step.line] = min(known, mark, key=order.index)
    for file, lines in found.items():
        for line in _awaits(file):
            lines.setdefault(line, "none")
    return dict(found)


def _inner(stack: tuple[Step, ...]) -> Step | None:
    return next((step for step in reversed(stack) if not is_python(step.file)), None)


def _awaits(file: str) -> set[int]:
    """The lines of a file at which something is awaited."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return set()
    kinds = (ast.Await, ast.AsyncFor, ast.AsyncWith)
    return {node.lineno for node in ast.walk(tree) if isinstance(node, kinds)}


def _file(file: str, marks: dict[int, str]) -> str:
    rows: list[str] = []
    lines = linecache.getlines(file)
    shown = _near(set(marks), len(lines)) if len(lines) > _WHOLE else set(range(1, len(lines) + 1))
    last = 0
    for number in sorted(shown):
        if number != last + 1:
            rows.append("<tr class='gap'><td>...</td><td></td><td></td></tr>")
        last = number
        mark = marks.get(number, "")
        label = f"<span class='mark {mark}'>{_MARKS[mark]}</span>" if mark else ""
        text = html.escape(lines[number - 1].rstrip("\n"))
        anchor = _anchor(Step(file, number, ""))
        rows.append(
            f"<tr id='{anchor}' class='{mark}'><td>{number}</td><td>{label}</td><td><code>{text}</code></td></tr>"
        )
    return f"<details open><summary>{html.escape(short(file))}</summary><table>{''.join(rows)}</table></details>"


def _near(lines: set[int], end: int) -> set[int]:
    return {near for line in lines for near in range(max(1, line - 6), min(end, line + 6) + 1)}


def _anchor(step: Step) -> str:
    return html.escape(f"{short(step.file)}:{step.line}", quote=True)


_WHOLE = 400
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#1c1c1c;background:#fff}
pre,code{font:13px/1.45 ui-monospace,monospace}pre{background:#f4f4f5;padding:.6rem;overflow-x:auto}
section{border-left:4px solid #b91c1c;padding-left:1rem;margin:1.5rem 0}h3{font-size:1rem}h3 code{color:#666}
.verdict{color:#fff;padding:.1rem .5rem;border-radius:.3rem;background:#666}
.verdict.safe{background:#15803d}.verdict.unsafe{background:#b91c1c}
.verdict.unresolved,.verdict.error{background:#a16207}
.mark{font-size:12px;padding:0 .35rem;border-radius:.3rem;white-space:nowrap}
.mark.safe{background:#dcfce7;color:#14532d}.mark.unsafe{background:#fee2e2;color:#7f1d1d}
.mark.unresolved{background:#fef3c7;color:#713f12}.mark.none{background:#e4e4e7;color:#3f3f46}
table{border-collapse:collapse;width:100%}td{padding:0 .5rem;vertical-align:top}
td:first-child{color:#999;text-align:right}
td:last-child{white-space:pre;width:100%}tr.unsafe td{background:#fef2f2}summary{font-weight:600;margin:.8rem 0}
@media(prefers-color-scheme:dark){body{background:#18181b;color:#e4e4e7}pre{background:#27272a}
tr.unsafe td{background:#3f1d1d}
a{color:#93c5fd}}
"""
