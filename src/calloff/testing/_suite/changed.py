"""Which functions have changed since a commit, as git tells."""

import ast
import re
import subprocess
from pathlib import Path

from .._sweep.points import Stack

__all__ = ["Changed"]


class Changed:
    """The lines that differ from `base`, and the functions that hold them.

    Raises:
        ValueError: git does not know the commit, or there is no git.
    """

    def __init__(self, base: str, root: Path) -> None:
        command = ["git", "-C", str(root), "diff", "--unified=0", "--no-color", "--no-ext-diff", base, "--", "*.py"]
        try:
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            top = subprocess.run(
                ["git", "-C", str(root), "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=True
            ).stdout.strip()
        except OSError as error:
            raise ValueError(f"git could not be run: {error.strerror}") from None
        except subprocess.CalledProcessError as error:
            raise ValueError((error.stderr or "git failed").strip().splitlines()[0]) from None
        self._lines: dict[str, set[int]] = {}
        self._spans: dict[str, list[tuple[int, int]]] = {}
        file = ""
        for line in text.splitlines():
            if line.startswith("+++ b/"):
                file = str(Path(top, line.removeprefix("+++ b/")).resolve())
            elif found := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
                first, count = int(found[1]), int(found[2] or 1)
                self._lines.setdefault(file, set()).update(range(first, first + max(count, 1)))

    def meets(self, stack: Stack) -> bool:
        """Whether a function on the way to an await has changed."""
        for step in stack:
            file = str(Path(step.file).resolve())
            for first, last in self._functions(file):
                if first <= step.line <= last and any(first <= line <= last for line in self._lines[file]):
                    return True
        return False

    def _functions(self, file: str) -> list[tuple[int, int]]:
        if file not in self._lines:
            return []
        if file not in self._spans:
            tree = ast.parse(Path(file).read_text(encoding="utf-8"))
            self._spans[file] = [
                (node.lineno, node.end_lineno or node.lineno)
                for node in ast.walk(tree)
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            ]
        return self._spans[file]
