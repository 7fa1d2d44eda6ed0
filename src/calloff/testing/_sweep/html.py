"""The report as one self-contained page: what is not safe, and the code with its awaits marked.

The page has no script and loads nothing. It shows of each file the functions that were seen waiting; their other awaits
were not reached, or had nothing to wait for. Colours are never alone: each mark has a sign and a word.
"""

from collections.abc import Iterable, Sequence
from html import escape

from .html_code import Listing, listings
from .html_style import STYLE
from .points import is_python
from .report import Finding, SweepReport
from .text import NO_AWAIT, PHASES, alike, count, owner, place, summary

__all__ = ["page"]

#: from worst to best: the class, the sign and the word of a mark
_MARKS = {
    "unsafe": ("✕", "unsafe"),
    "inside": ("↘", "unsafe inside"),
    "unresolved": ("?", "did not come again"),
    "known": ("~", "known"),
    "safe": ("✓", "safe"),
    "untried": ("-", "not tried"),
    "none": ("○", "never waited"),
}


def page(report: SweepReport) -> str:
    """The whole page."""
    title = escape(report.target or "sweep")
    heading = title.replace("/", "/<wbr>").replace(":", ":<wbr>")
    verdict = escape(report.verdict)
    shown = list(listings(report))
    used = {line.mark for listing in shown for line in listing.lines}
    key = "".join(f"<li>{_mark(name)}</li>" for name in _MARKS if name in used)
    code = "\n".join(map(_listing, shown)) or "<p>It was never seen waiting.</p>"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{verdict}: {title}</title>
<style>{STYLE}</style>
</head>
<body>
<header class="{verdict.lower()}">
<p class="verdict">{verdict}</p>
<h1>{heading}</h1>
<p class="what">{escape(_sentence(report))}</p>
<dl>{"".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in _figures(report))}</dl>
</header>
{_ways(report)}<main>
<section aria-labelledby="awaits">
<h2 id="awaits">Awaits</h2>
<ul class="key" aria-label="What the marks mean">{key}</ul>
{code}
</section>
{_findings(report)}
{_silenced(report)}
</main>
<footer>{escape(summary(report))}</footer>
</body>
</html>
"""


def _sentence(report: SweepReport) -> str:
    tried = f"It was called off at {count(report.points, 'await point')}"
    if report.verdict == "ERROR" and report.error:
        return "It could not be swept: " + report.error
    if not (report.points or report.findings or report.silenced):
        return f"{NO_AWAIT.capitalize()}."
    if report.verdict == "SAFE":
        known = f", but for {count(len(report.silenced), 'known finding')}" if report.silenced else ""
        return f"{tried}, and came to no harm{known}."
    if report.verdict == "UNSAFE":
        points = len({(finding.at, finding.task) for finding in report.unsafe})
        return f"{tried}; at {points} of them that does harm."
    return f"{tried}; not every one came again."


def _figures(report: SweepReport) -> Iterable[tuple[str, str]]:
    yield "await points", str(report.points)
    yield "runs", str(report.runs)
    yield "findings", str(len(report.findings))
    if report.silenced:
        yield "known", str(len(report.silenced))
    if report.tried_before:
        yield "tried before", str(report.tried_before)
    if report.skipped:
        yield "not tried", str(report.skipped)
    yield "seconds", f"{report.seconds:.1f}"
    yield "Python", report.python
    yield from report.packages.items()


def _ways(report: SweepReport) -> str:
    ways = [("awaits", "Awaits")] + [("findings", "Findings")] * bool(report.findings)
    ways += [("known", "Known")] * bool(report.silenced)
    if len(ways) == 1:
        return ""
    return "<nav>" + " ".join(f'<a href="#{anchor}">{title}</a>' for anchor, title in ways) + "</nav>\n"


# --- the findings


def _findings(report: SweepReport) -> str:
    """A card for each await and what it breaks, whatever the phase."""
    if not report.findings:
        return ""
    groups: dict[object, list[list[Finding]]] = {}
    for same in alike(report.findings):
        first = same[0]
        key = first.verdict, first.task, first.stack, first.at_fault, first.violations
        groups.setdefault(key, []).append(same)
    cards = "\n".join(_card(group, report.replay) for group in groups.values())
    return f'<section aria-labelledby="findings">\n<h2 id="findings">Findings</h2>\n{cards}\n</section>'


def _silenced(report: SweepReport) -> str:
    if not report.silenced:
        return ""
    cards = "\n".join(_card([[finding]], report.replay, reason) for finding, reason in report.silenced)
    return f'<section aria-labelledby="known">\n<h2 id="known">Known</h2>\n{cards}\n</section>'


def _card(group: Sequence[Sequence[Finding]], replay: str, reason: str = "") -> str:
    """One await. `group` has for each phase the finding, and after it those that repeat it when the await comes again."""
    finding = group[0][0]
    kind = "known" if reason else finding.verdict.lower()
    phases = "".join(f'<span class="phase" id="{escape(first.id)}">{first.phase}</span> ' for first, *_ in group)
    link = f'<a href="#{_anchor(finding.at.file, finding.at.line)}">{escape(place(finding.at))}</a>'
    task = f" <span>in the task {escape(finding.task)}</span>" if finding.task else ""
    lines = [f'<article class="{kind}">', f"<h3>{phases}{link}{task}</h3>"]
    if reason:
        lines.append(f'<p class="reason"><b>Known:</b> {escape(reason)}</p>')
    lines.append('<ul class="evidence">')
    lines += [f"<li><b>{escape(v.oracle)}</b> <span>{escape(v.text)}</span></li>" for v in finding.violations]
    lines += ["</ul>", f'<ol class="stack">{_stack(finding)}</ol>']
    if finding.verdict == "UNSAFE":
        fault = f"{place(finding.at_fault)} in {finding.at_fault.function} ({owner(finding)})"
        lines.append(f"<p>At fault: {escape(fault)}</p>")
    lines.append("<dl>")
    for first, *others in group:
        again = replay.replace("{id}", first.id) if replay else first.id
        more = f" <span>and {count(len(others), 'time')} more, when it comes again</span>" if others else ""
        lines.append(f"<dt>{PHASES[first.phase].capitalize()}</dt>")
        lines.append(f'<dd><code class="command">{escape(again)}</code>{more}</dd>')
    lines += ["</dl>", "</article>"]
    return "\n".join(lines)


def _stack(finding: Finding) -> str:
    own = [step for step in finding.stack if not is_python(step.file)] or list(finding.stack)
    return "".join(
        f"<li><span>{escape(place(step))} in {escape(step.function)}</span> <code>{escape(step.source)}</code></li>"
        for step in own
    )


# --- the code


def _listing(listing: Listing) -> str:
    rows: list[str] = []
    last = 0
    for line in listing.lines:
        if last and line.number != last + 1:
            rows.append('<tr class="gap"><td colspan="3">⋯</td></tr>')
        last = line.number
        links = "".join(
            f' <a href="#{escape(finding.id)}" title="{escape(", ".join(sorted(finding.oracles)))}">{finding.phase}</a>'
            for finding in line.findings
        )
        rows.append(
            f'<tr id="{_anchor(listing.file, line.number)}" class="{line.mark}"><td>{line.number}</td>'
            f"<td>{_mark(line.mark) if line.mark else ''}</td>"
            f"<td><code>{_code(line.text, line.awaits)}</code>{links}</td></tr>"
        )
    rest = f"<p>Never waited in: {escape(', '.join(listing.never_waited))}</p>" if listing.never_waited else ""
    return (
        f"<details open><summary>{escape(listing.name)}</summary>\n"
        f'<div class="code" tabindex="0" role="region" aria-label="{escape(listing.name)}"><table>\n'
        + "\n".join(rows)
        + f"\n</table></div>{rest}</details>"
    )


def _code(text: str, awaits: Sequence[tuple[int, int]]) -> str:
    """A line of code; the words that wait stand out."""
    parts: list[str] = []
    last = 0
    for begin, end in awaits:
        parts += [escape(text[last:begin]), f"<b>{escape(text[begin:end])}</b>"]
        last = end
    return "".join([*parts, escape(text[last:])])


def _mark(name: str) -> str:
    sign, word = _MARKS[name]
    return f'<span class="mark {name}"><i aria-hidden="true">{sign}</i> <span>{word}</span></span>'


def _anchor(file: str, line: int) -> str:
    return escape(f"{place_of(file)}-{line}", quote=True)


def place_of(file: str) -> str:
    """A file's name as part of an anchor."""
    return "".join(char if char.isalnum() else "-" for char in file)
