"""The documentation says what the code does: its programs run, its lists are whole, what it names exists."""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import calloff
import calloff.testing

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
NAMES = dir(calloff)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
TOP_LEVEL_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def fences(text: str, language: str) -> list[str]:
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.M | re.S)
    return [block for block in found if "--8<--" not in block]


def run(*arguments: str, stdin: str = "", cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        input=stdin,
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_first_program_says_what_stands_below_it(page: str, tmp_path: Path) -> None:
    text = (ROOT / page).read_text()
    program, said = fences(text, "python")[0], fences(text, "text")[0]
    (tmp_path / "stubborn.py").write_text(program)
    done = run("stubborn.py", cwd=tmp_path)
    assert done.stderr.splitlines()[-1] == said.strip()
    assert done.returncode == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_pages_is_python_and_names_what_exists(page: Path) -> None:
    text = page.read_text()
    for block in fences(text, "python"):
        compile(block, page.name, "exec", flags=TOP_LEVEL_AWAIT)
    used = set(re.findall(r"(?<![/\w])calloff\.(?!md\b)([A-Za-z]\w*)", text))
    doors = {
        "asgi",
        "cli",
        "cluster",
        "control",
        "freezing",
        "http",
        "integrations",
        "logs",
        "mcp",
        "otel",
        "service",
        "testing",
    }
    names = {*NAMES, *doors}
    names |= set(
        re.findall(r'"calloff\.(\w+)', (ROOT / "src/calloff/otel.py").read_text())
    )  # of attributes and metrics
    assert used <= names, used - names


def test_examples_in_docstrings_are_python() -> None:
    found = 0
    for name in NAMES:
        value = getattr(calloff, name)
        for owner in (value, *(vars(value).values() if inspect.isclass(value) else ())):
            for block in re.findall(r"::\n\n((?:    .*\n?|\n)+)", inspect.getdoc(owner) or ""):
                if getattr(owner, "__module__", "calloff").startswith("calloff"):
                    compile(inspect.cleandoc("\n" + block), name, "exec", flags=TOP_LEVEL_AWAIT)
                    found += 1
    assert found >= 4


def test_the_reference_lists_every_public_name() -> None:
    text = (DOCS / "reference/calloff.md").read_text()
    listed = set(re.findall(r"^::: calloff\.(\w+)$", text, re.M)) | set(re.findall(r"\{ #calloff\.(\w+) \}", text))
    assert listed == set(NAMES)
    text = (DOCS / "reference/testing.md").read_text()
    assert set(re.findall(r"^::: calloff\.testing\.(\w+)$", text, re.M)) == set(dir(calloff.testing))


def _message(node: ast.expr) -> list[str]:
    """The texts that a logged or raised message may have, with … for what is filled in."""
    if isinstance(node, ast.IfExp):
        return _message(node.body) + _message(node.orelse)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [re.sub(r"%(?:\.?\d*)[sdrg]", "…", node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)]
    return []


def test_every_message_is_explained() -> None:
    page = (DOCS / "reference/messages.md").read_text()
    missing = []
    for file in sorted((ROOT / "src/calloff").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            logs = ast.unparse(node.func) in ("_logger.warning", "_logger.error", "_logger.exception")
            kind = ast.unparse(node.func)
            status = [arg.value for arg in node.args[1:] if kind == "Refused" and isinstance(arg, ast.Constant)]
            wrong_call = kind == "RuntimeError" and file.parent.name in ("_api", "_operation")
            if logs or wrong_call or kind in ("CalloffError", "WorkerDied") or status:
                found = (text.rstrip("…").removesuffix(": ") for text in _message(node.args[0]))
                missing += [f"{file.name}: {text}" for text in found if len(text) > 5 and text not in page]
    assert not missing, "docs/reference/messages.md has to say what these mean"


VERBS = ["run", "timeout", "asgi", "attach", "ps", "show", "watch", "cancel", "serve", "sweep", "top"]


@pytest.mark.parametrize("verb", VERBS)
def test_the_reference_lists_every_option(verb: str) -> None:
    text = (DOCS / "reference/command-line.md").read_text()
    section = text.partition(f"\n## calloff {verb}\n")[2].partition("\n## ")[0]
    shown = run("-m", "calloff", verb, "--help").stdout
    usage = re.findall(r"^```text\n(.*?)^```", section, re.M | re.S)[0]
    for line in usage.splitlines():
        assert line in re.sub(r"\s+", " ", shown), "how it is used"
    options = set(re.findall(r"^ +(?:-\w(?: [A-Z]+)?, )?(--[a-z][\w-]*)", shown, re.M)) - {"--help", "--version"}
    assert options
    assert options == set(re.findall(r"(?<![\w-])--[a-z][\w-]*", section)) - {"--help", "--version"}
    statuses = set(re.findall(r"^ {2,4}(\d+)  ", shown, re.M))
    assert statuses <= set(re.findall(r"\d+", section))


def test_lines_of_examples_that_pages_name_are_those() -> None:
    """``at main (examples/x.py:20): source`` in a page: line 20 of that file has that source."""
    found = 0
    for page in PAGES:
        for file, line, source in re.findall(r"\((examples/\w+\.py):(\d+)\): (.+)$", page.read_text(), re.M):
            assert (ROOT / file).read_text().splitlines()[int(line) - 1].strip() == source, page
            found += 1
    assert found >= 8
