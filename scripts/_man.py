"""The manual page, from the same help that the command line prints: ``calloff(1)``.

    .venv/bin/python scripts/_man.py > calloff.1

Made when a wheel is built (`_backend.py`), so it can't grow old. A line of the help that begins with an option becomes a
tagged paragraph, an indented block stays as it is, all else is filled text.
"""

import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from importlib import import_module
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_OPTION = re.compile(r"^ {2,8}(-\S.*?)(?: {2,}(\S.*))?$")


def page(version: str) -> str:
    """The source of the page, in roff."""
    sys.path.insert(0, str(ROOT / "src"))
    os.environ["PYTHON_COLORS"] = "0"  # from Python 3.14 on a help may have colours
    cli = import_module("calloff.cli")
    first = _help(cli.main, [])
    parts = [
        f'.TH CALLOFF 1 "" "calloff {version}" "User Commands"',
        ".SH NAME",
        "calloff \\- start work, look at it while it runs, and really stop it",
        ".SH SYNOPSIS",
        ".B calloff",
        "\\fIVERB\\fR [\\fIOPTION\\fR...] ...",
        ".SH DESCRIPTION",
        *_blocks(first.partition("\n\n")[2]),
    ]
    for verb in cli.VERBS:
        usage, _, rest = _help(cli.main, [verb, "--help"]).partition("\n\n" if verb != "timeout" else "\n")
        parts += [f".SH CALLOFF {verb.upper()}", ".nf", *map(_line, usage.splitlines()), ".fi", *_blocks(rest)]
    return "\n".join(parts) + "\n"


def _help(main: Callable[[list[str]], int], argv: list[str]) -> str:
    said = io.StringIO()
    with redirect_stdout(said), suppress(SystemExit):
        main(argv)
    return said.getvalue()


def _blocks(text: str) -> Iterator[str]:
    for is_blank, lines in groupby(text.splitlines(), key=lambda line: not line.strip()):
        if not is_blank:
            yield from _block(list(lines))


def _block(lines: list[str]) -> Iterator[str]:
    """The lines between two empty ones."""
    if re.fullmatch(r"[a-zE].*:", lines[0]):  # "options:", "Exit status:"
        yield f".SS {lines[0].rstrip(':').capitalize()}"
        lines = lines[1:]
    else:
        yield ".PP"
    if lines and all(line.startswith("  ") for line in lines):
        yield from _options(lines) if _OPTION.match(lines[0]) else _as_it_is(lines)
    else:
        yield from map(_line, lines)


def _options(lines: list[str]) -> Iterator[str]:
    for line in lines:
        found = _OPTION.match(line)
        if found:
            yield from (".TP", f"\\fB{_line(found[1])}\\fR", *([_line(found[2])] if found[2] else []))
        else:
            yield _line(line.strip())


def _as_it_is(lines: list[str]) -> Iterator[str]:
    yield from (".RS 2", ".nf", *map(_line, lines), ".fi", ".RE")


def _line(line: str) -> str:
    """A line of text, in which nothing is an instruction."""
    plain = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


if __name__ == "__main__":
    import tomllib

    sys.stdout.write(page(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]))
