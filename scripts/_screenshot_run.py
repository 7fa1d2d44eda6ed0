"""Makes the picture of a terminal for the README: docs/images/run.svg.

    .venv/bin/python scripts/_screenshot_run.py

What it shows was printed by the commands, in a terminal, when the picture was made.
"""

import re
import sys
from io import StringIO
from pathlib import Path

import pexpect
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "run.svg"
COLUMNS = 118
COMMANDS = (
    "calloff run --timeout 2 --grace 1 examples/stubborn.py:main",
    "calloff run --timeout 3 --every 1 examples/hang.py",
)


def main() -> None:
    """Run the commands and draw what they print."""
    console = Console(record=True, width=COLUMNS, file=StringIO())
    for command in COMMANDS:
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        verb, *words = command.split()
        printed, status = pexpect.run(
            f"{Path(sys.executable).parent / verb} {' '.join(words)}",
            cwd=str(ROOT),
            encoding="utf-8",
            withexitstatus=True,
            dimensions=(24, COLUMNS),
            timeout=60,
        )
        for line in _lines(printed):
            console.print(Text(line, "yellow" if line.startswith("calloff:") else ""))
        console.print(Text(f"(exit status {status})", "dim"))
        console.print()
    drawn = console.export_svg(title="calloff", unique_id="calloff-run")
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL))  # it loads nothing from anywhere
    print(PICTURE.relative_to(ROOT), PICTURE.stat().st_size)


def _lines(printed: str) -> list[str]:
    """What stays on the terminal: a live line is drawn over itself and taken away."""
    lines = []
    for line in printed.replace("\r\n", "\n").split("\n"):
        kept = re.split(r"\r", line)[-1].removeprefix("\x1b[K")
        if kept or not lines:
            lines.append(kept)
    repeated = "Asked to stop, going on."
    first = lines.index(repeated) if repeated in lines else len(lines)
    return lines[: first + 1] + [line for line in lines[first + 1 :] if line != repeated]


if __name__ == "__main__":
    main()
