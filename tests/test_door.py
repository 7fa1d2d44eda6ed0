"""The door: what `import calloff` shows, and nothing else."""

import ast
import inspect
import json
import pickle
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import calloff
import calloff.asgi
import calloff.control
import calloff.http
import calloff.testing

#: every public name of the root, by what it is for; a name joins here when it joins the door, never by accident
DOOR = {
    "run work": ["call", "group", "map", "race", "run", "start"],
    "say where": ["command", "process", "thread"],
    "limit code in the current task": [
        "CancelScope",
        "TaskGroup",
        "current_deadline",
        "move_on_after",
        "move_on_at",
        "remaining",
        "shield",
        "timeout",
        "timeout_at",
        "wait_for",
    ],
    "from inside an operation": ["checkpoint", "current", "progress"],
    "see": ["operations"],
    "hand on a stop": ["on_stop", "tool"],
    "types": [
        "Abandoned",
        "Cancelled",
        "Completed",
        "Failed",
        "Frame",
        "Kind",
        "Operation",
        "Outcome",
        "Reason",
        "Rung",
        "StopReport",
        "Tick",
    ],
    "about": ["__version__"],
    "errors": ["CalloffError", "CommandFailed", "OperationCancelled", "StopForced", "TimedOut", "WorkerDied"],
}
NAMES = sorted(name for names in DOOR.values() for name in names)


def in_a_new_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_list_is_pinned_and_sorted():
    assert calloff.__all__ == NAMES  # type: ignore[attr-defined]  # made as it is first used


def test_dir_shows_the_list():
    assert dir(calloff) == NAMES


@pytest.mark.parametrize(
    "door", [calloff, calloff.asgi, calloff.control, calloff.http, calloff.testing], ids=lambda door: door.__name__
)
def test_type_checkers_see_the_same_names(door):
    """The names that are loaded late are imported for type checkers, one line each."""
    tree = ast.parse(Path(door.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    flag = next(node.value for node in tree.body if isinstance(node, ast.Assign))
    assert not isinstance(flag, ast.Constant), "Jedi believes a plain False, and offers none of the names"
    imported = [
        (node.module, alias.asname) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert sorted(str(name) for _, name in imported) == door.__all__ == dir(door)
    assert sorted(imported) == sorted((home, name) for home, names in door._HOMES.items() for name in names)


@pytest.mark.parametrize(
    "door", [calloff.asgi, calloff.control, calloff.http, calloff.testing], ids=lambda door: door.__name__
)
def test_deeper_doors_show_their_public_path(door):
    for name in door.__all__:
        assert getattr(getattr(door, name), "__module__", door.__name__) == door.__name__, name
    with pytest.raises(AttributeError, match=f"^module '{door.__name__}' has no attribute 'strat'"):
        door.strat  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_documented_and_shows_the_public_path(name):
    value = getattr(calloff, name)
    assert getattr(calloff, name) is value
    if name == "Outcome":  # a union of the four endings
        assert {typing.get_origin(part) or part for part in typing.get_args(value)} == {
            calloff.Completed,
            calloff.Failed,
            calloff.Cancelled,
            calloff.Abandoned,
        }
        return
    if name == "__version__":
        assert value[0].isdigit()
        return
    assert value.__module__ == "calloff"
    assert inspect.getdoc(value)
    if isinstance(value, type):
        assert pickle.loads(pickle.dumps(value)) is value


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="^module 'calloff' has no attribute 'strat'"):
        calloff.strat  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError):
        from calloff import strat  # type: ignore[attr-defined]  # noqa: F401


def test_importing_it_imports_neither_asyncio_nor_typing_nor_anything_optional():
    code = "import sys; before = set(sys.modules); import calloff; print(*set(sys.modules) - before)"
    assert set(in_a_new_python(code).split()) == {"calloff", "calloff._door"}


def test_the_whole_door_needs_the_standard_library_only():
    code = (
        "import sys; before = set(sys.modules); import calloff, json\n"
        "for name in calloff.__all__: getattr(calloff, name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    foreign = set(json.loads(in_a_new_python(code))) - set(sys.stdlib_module_names) - {"calloff"}
    pythons = ("_calloff", "_sysconfigdata", "_missing_stdlib_info")  # the last one on 3.15, as Debian packs it
    assert {name for name in foreign if not name.startswith(pythons)} == set()


def test_a_star_import_gives_the_list():
    code = "from calloff import *; print(sorted(name for name in dir() if name[0] != '_' or name == '__version__'))"
    assert in_a_new_python(code).strip() == str(sorted(NAMES, key=str))


def test_there_is_a_marker_for_type_checkers():
    assert (Path(calloff.__file__).parent / "py.typed").exists()


def test_a_program_that_uses_operations_does_not_load_what_is_slow_to_load():
    code = """import asyncio, sys, calloff
before = set(sys.modules)
calloff.start, calloff.timeout, calloff.run
print(sorted({"dataclasses", "sysconfig"} & (set(sys.modules) - before)))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
