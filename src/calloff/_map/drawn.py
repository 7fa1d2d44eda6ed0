"""How far a map is, as rich draws it (extra ``cli``); without rich a plain line has to do.

Two lines: the bar with its numbers, and, once an item runs for a second, the slowest one and where it is. What is drawn
fits the width of the terminal, and has the colours that the terminal can show and `NO_COLOR` allows.
"""

import io
from functools import cache
from typing import TYPE_CHECKING, Any

from .._words.durations_text import spoken
from .._words.frame import at_line
from .._words.text import clean

if TYPE_CHECKING:
    from .bar import Progress

__all__ = ["SLOW", "drawn", "erased"]

#: seconds from which on the slowest item is told
SLOW = 1.0
#: cells of the bar: as many as the numbers leave, within these
_LEAST, _WIDTH = 8, 24


def drawn(name: str, progress: "Progress", width: int) -> str:
    """What to write on a terminal whose cursor stands at the begin of an empty line; there it stands afterwards, too."""
    lines = _by_rich(name, progress, width) or [f"{name}: {progress.text(bar=True)}"[: width - 1]]
    back = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
    return "\n".join(lines) + back + "\r"


def erased() -> str:
    """What to write to have an empty line there again, and nothing below it."""
    return "\r\x1b[J"


def _by_rich(name: str, progress: "Progress", width: int) -> list[str] | None:
    rich = _rich()
    if rich is None:
        return None
    counts, total, share, left = progress.counts, progress.total, progress.share, progress.left
    text = rich.Text()
    if share is not None:
        text.append(f" {share:4.0%} ", "bold").append(f"of {total:,}  ")
    text.append(f"{counts.completed:,} done", "green")
    text.append(f"  {counts.failed:,} failed", "bold red" if counts.failed else "bright_black")
    text.append(f"  {counts.running:,} running")
    if counts.waiting:
        text.append(f"  {counts.waiting:,} to be tried again", "yellow")
    if counts.skipped:
        text.append(f"  {counts.skipped:,} done before", "bright_black")
    if counts.failed_before:
        text.append(f"  {counts.failed_before:,} of them did not complete", "red")
    text.append(f"  {progress.rate:,.3g}/s" if progress.rate < 100 else f"  {progress.rate:,.0f}/s")
    if left:
        text.append(f"  {spoken(left)} left")
    head = rich.Text(f"{clean(name)} ")
    if share is not None:
        room = max(_LEAST, min(_WIDTH, width - 1 - head.cell_len - text.cell_len))
        filled = round(share * room)
        head.append("━" * filled, "green" if share == 1 else "cyan").append("━" * (room - filled), "bright_black")
    found = [head.append_text(text)]
    slowest = progress.slowest
    if slowest is not None and slowest.elapsed >= SLOW:
        line = clean(at_line(slowest.where()) or "")
        said = f"  slowest: {spoken(slowest.elapsed)}" + (f" at {line}" if line else "")
        found.append(rich.Text(said, "yellow"))
    console = rich.Console(file=io.StringIO(), force_terminal=True, width=max(10, width - 1), highlight=False)
    for each in found:
        console.print(each, no_wrap=True, overflow="ellipsis", crop=True)
    lines: list[str] = console.file.getvalue().splitlines()
    return lines


@cache
def _rich() -> Any:
    """What we use of rich; ``None`` where it is not installed."""
    try:
        import rich.console
        import rich.text
    except ImportError:
        return None

    class Used:
        Console, Text = rich.console.Console, rich.text.Text

    return Used
