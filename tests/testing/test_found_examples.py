"""The scripts about what was found in other packages: their commands, their page, and those that need no server."""

import ast
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "examples/sweep/found"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py"))
PAGE = (ROOT / "docs/explanation/found.md").read_text()

#: those that need no server: the package they import, and a line that they print
ALONE = {
    "aioftp_reply.py": ("aioftp", "TYPE I -> Waiting for ('200',) but got 257"),
    "aiomcache_reply.py": ("aiomcache", "asked for twenty, got 10"),
    "aiorwlock_reader.py": ("aiorwlock", "the reader in the queue still waits"),
    "aiosmtplib_reply.py": ("aiosmtplib", "NOOP -> reply to RSET"),
    "anyio_count.py": ("anyio", "cancelling() is 0, both: TimeoutError"),
    "async_cache_waiter.py": ("cache", "still waits after 2 s"),
    "asyncio_pool_map.py": ("asyncio_pool", "cancelled, and yet it returned [1, CancelledError(), 9]"),
    "generic_pool_slot.py": ("generic_connection_pool", "no connection in 2 s"),
    "pyzmq_message.py": ("zmq", "20 cancelled as their message came, 20 messages lost"),
}


def docstring(script: str) -> str:
    return ast.get_docstring(ast.parse((FOLDER / script).read_text())) or ""


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_says_what_was_seen_and_how_to_see_it_again(script: str) -> None:
    defined = {
        node.name for node in ast.parse((FOLDER / script).read_text()).body if isinstance(node, ast.AsyncFunctionDef)
    }
    text = docstring(script)
    package = re.match(r"([\w-]+) (\d+\.\d+[\d.]*\d)\b", text)
    assert package is not None
    assert f"{package[1]} {package[2]}" in PAGE
    assert re.search(r"^Seen on \d+ \w+ 20\d\d with Python 3\.\d+\.\d+\.$", text, re.M)
    commands = re.findall(r"^calloff sweep (.*)$", text, re.M)
    assert commands
    for command in commands:
        target, *options = shlex.split(command)
        file, _, function = target.partition(":")
        assert file == f"examples/sweep/found/{script}"
        given = dict(zip(options[::2], options[1::2], strict=True))
        names = {given[f"--{role}"] for role in ("setup", "check", "teardown", "bystander") if f"--{role}" in given}
        assert {function} | names <= defined


@pytest.mark.parametrize("script", ALONE)
def test_it_shows_the_damage_without_a_sweep(script: str) -> None:
    package, line = ALONE[script]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    done = subprocess.run(
        [sys.executable, FOLDER / script], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert line in done.stdout
