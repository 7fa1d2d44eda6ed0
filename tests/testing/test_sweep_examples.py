"""The scripts in examples/sweep: what they name exists, and where the package is installed, they can be imported.

The sweeps themselves need an environment for each release; `examples/sweep/run.py` makes them, by hand.
"""

import ast
import importlib.util
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "sweep"
HELPERS = {"fakes.py", "run.py"}
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if path.name not in HELPERS)


def command_of(script: str) -> list[str]:
    """What the docstring says how to start it: target and options."""
    text = ast.get_docstring(ast.parse((FOLDER / script).read_text())) or ""
    (line,) = re.findall(r"^ *calloff sweep (.*)$", text, re.MULTILINE)
    return shlex.split(line)


def functions_of(script: str) -> dict[str, str]:
    """The functions of the command, by their role."""
    target, *options = command_of(script)
    file, _, fn = target.rpartition(":")
    assert file == f"examples/sweep/{script}"
    return {"fn": fn, **dict(zip((option[2:] for option in options[::2]), options[1::2], strict=True))}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"sweep_example_{name.removesuffix('.py')}", FOLDER / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_command_names_what_is_there(script: str) -> None:
    defined = {
        node.name for node in ast.parse((FOLDER / script).read_text()).body if isinstance(node, ast.AsyncFunctionDef)
    }
    roles = functions_of(script)
    assert set(roles) <= {"fn", "setup", "check", "teardown", "bystander"}
    assert set(roles.values()) == defined


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_can_be_imported_where_the_package_is(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    try:
        module = load(script)
    except ImportError as error:
        if error.name is None or (FOLDER / f"{error.name}.py").exists():
            raise
        pytest.skip(f"{error.name} is not installed")
    finally:
        sys.modules.pop("fakes", None)
    for name in functions_of(script).values():
        assert inspect.iscoroutinefunction(getattr(module, name))


def test_the_runner_knows_every_script() -> None:
    runner = load("run.py")
    commands = {f"examples/sweep/{example.target}" for example in runner.EXAMPLES}
    assert commands == {shlex.join(command_of(script)) for script in SCRIPTS}
    names = [example.name for example in runner.EXAMPLES]
    assert len(set(names)) == len(names)
    listed = subprocess.run(
        [sys.executable, FOLDER / "run.py", "--list"], capture_output=True, text=True, check=True, timeout=60
    )
    assert listed.stdout.split() == names


def test_the_page_has_a_row_for_each() -> None:
    runner = load("run.py")
    page = (FOLDER / "README.md").read_text()
    for example in runner.EXAMPLES:
        package, _, version = example.packages.split()[0].partition("==")
        (row,) = [
            line
            for line in page.splitlines()
            if line.startswith(f"| {package} | {version} |") and shlex.split(example.target)[0] in line
        ]
        for phase, line, oracle in example.found:
            assert f"{phase} `{line}`" in row
            assert oracle in row
        assert bool(example.found) != ("nothing" in row)
