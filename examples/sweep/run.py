"""Each script beside this file against the release of a package that it is about, in an environment of its own.

    python examples/sweep/run.py --all
    python examples/sweep/run.py redis-4.5.1 httpcore-1.0.9
    python examples/sweep/run.py --list

An environment is made the first time (with uv where it is on PATH, else with venv and pip) in the folder that --envs
names, and kept. For each sweep it prints the verdict and what was found; at the end stands a table. The exit status is
0 when everything that is said below was found, and nothing where nothing should be, else 1.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ENVS = Path(tempfile.gettempdir()) / "calloff-sweep-examples"


class Example(NamedTuple):
    """What to sweep, with which packages, and what is to be found: phase, line and oracle; nothing means safe."""

    name: str
    target: str
    packages: str
    found: tuple[tuple[str, str, str], ...] = ()
    python: str = "3.13"


HEAD = """\
| package | version | Python | found: phase and line | oracle | awaits | runs | s | command |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |"""
REDIS_REPLY = "redis_reply.py:two_keys --setup client"
REDIS_SLOT = "redis_slot.py:one_key --setup client --check a_place_is_free"
POSTGRES = "psycopg_pool_connection.py:query --setup pool --teardown close"
ANYIO = "anyio_lock.py:take --setup lock"
LIMITER = "anyio_limiter.py:borrow --setup limiter --bystander borrow"
RELEASE = "anyio_release.py:take --setup lock --bystander give_and_take"
REDIS_PIPELINE = "redis_pipeline.py:watched --setup client"
PING = "websockets_ping.py:ping --setup connection --teardown close"
HTTPCORE2 = "httpcore2_pool.py:request --setup pool"

EXAMPLES = (
    Example(
        "redis-4.5.1",
        REDIS_REPLY,
        "redis==4.5.1",
        (("early", "redis/asyncio/client.py:514", "restart"),),
    ),
    Example(
        "redis-4.5.4",
        REDIS_SLOT,
        "redis==4.5.4",
        (("early", "redis/asyncio/client.py:531", "tasks"), ("early", "redis/asyncio/client.py:531", "check")),
    ),
    Example("redis-4.5.5", REDIS_REPLY, "redis==4.5.5"),
    Example("redis-4.5.5-slot", REDIS_SLOT, "redis==4.5.5"),
    Example(
        "httpcore-1.0.9",
        "httpcore_pool.py:request --setup pool",
        "httpcore==1.0.9 anyio==4.16.0",
        (
            ("late", "httpcore/_async/connection_pool.py:232", "restart"),
            ("early", "httpcore/_async/http11.py:72", "restart"),
            ("early", "httpcore/_async/http11.py:239", "restart"),
        ),
    ),
    Example(
        "aiohttp-3.14.5",
        "aiohttp_waiter.py:request --setup session --bystander request",
        "aiohttp==3.14.5",
        (("late", "aiohttp/connector.py:717", "bystander"),),
    ),
    Example(
        "aiosqlite-0.22.1",
        "aiosqlite_connect.py:one",
        "aiosqlite==0.22.1",
        (("early", "aiosqlite/core.py:168", "files"), ("late", "aiosqlite/core.py:168", "files")),
    ),
    Example(
        "aiojobs-1.4.0",
        "aiojobs_close.py:close_a_job --setup scheduler --teardown close",
        "aiojobs==1.4.0",
        (("early", "aiojobs/_job.py:124", "obeyed"),),
    ),
    Example(
        "psycopg-pool-3.2.7",
        POSTGRES,
        "psycopg-pool==3.2.7 psycopg[binary]==3.3.9",
        (
            ("late", "psycopg_pool/pool_async.py:905", "obeyed"),
            ("early", "psycopg_pool/pool_async.py:239", "restart"),
            ("late", "psycopg_pool/pool_async.py:239", "restart"),
        ),
    ),
    Example("psycopg-pool-3.3.3", POSTGRES, "psycopg-pool==3.3.3 psycopg[binary]==3.3.9"),
    Example(
        "anyio-3.4.0",
        ANYIO,
        "anyio==3.4.0",
        (("early", "anyio/_core/_synchronization.py:137", "restart"),),
    ),
    Example("anyio-4.14.2", ANYIO, "anyio==4.14.2"),
    Example(
        "anyio-4.9.0",
        LIMITER,
        "anyio==4.9.0",
        (("late", "anyio/_backends/_asyncio.py:2010", "bystander"),),
    ),
    Example("anyio-4.10.0", LIMITER, "anyio==4.10.0"),
    Example(
        "anyio-4.12.1",
        "anyio_condition.py:wait --setup condition --bystander wait",
        "anyio==4.12.1",
        (("late", "anyio/_backends/_asyncio.py:1789", "bystander"),),
    ),
    Example(
        "anyio-4.13.0",
        RELEASE,
        "anyio==4.13.0",
        (("amid", "anyio/_backends/_asyncio.py:1843", "bystander"),),
    ),
    Example("anyio-4.14.0", RELEASE, "anyio==4.14.0"),
    Example(
        "redis-8.0.0",
        REDIS_PIPELINE,
        "redis==8.0.0",
        (("early", "redis/asyncio/client.py:1690", "restart"), ("late", "redis/asyncio/client.py:1690", "restart")),
    ),
    Example("redis-8.0.1", REDIS_PIPELINE, "redis==8.0.1"),
    Example(
        "websockets-14.1",
        PING,
        "websockets==14.1",
        (("early", "examples/sweep/websockets_ping.py:27", "restart"),),
    ),
    Example("websockets-14.2", PING, "websockets==14.2"),
    Example(
        "httpcore2-2.0.0",
        HTTPCORE2,
        "httpcore2==2.0.0 anyio==4.16.0",
        (("early", "httpcore2/_async/http11.py:74", "restart"),),
    ),
    Example("httpcore2-2.16.2", HTTPCORE2, "httpcore2==2.16.2 anyio==4.16.0"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Sweep releases of packages, each in an environment of its own.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which, of --list")
    parser.add_argument("--all", action="store_true", help="every one")
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("--text", action="store_true", help="show the whole report of each sweep")
    parser.add_argument("--envs", type=Path, default=ENVS, metavar="DIR", help="the environments (%(default)s)")
    options = parser.parse_args()
    known = {example.name: example for example in EXAMPLES}
    if options.list or not (options.all or options.names):
        print(*known, sep="\n")
        return 0
    unknown = set(options.names) - set(known)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; --list tells what there is")
    rows = [sweep(example, options) for example in EXAMPLES if options.all or example.name in options.names]
    print(f"\n{HEAD}", *(f"| {' | '.join(row.cells)} |" for row in rows), sep="\n")
    return 0 if all(row.right for row in rows) else 1


class Row(NamedTuple):
    """A line of the table, and whether the sweep went as expected."""

    right: bool
    cells: tuple[str, ...]


def sweep(example: Example, options: argparse.Namespace) -> Row:
    """Sweep once, print what was found, and compare."""
    python = environment(example, options.envs)
    target, *roles = shlex.split(example.target)
    words = ["sweep", str(HERE.relative_to(ROOT) / target), *roles]
    command = [python, "-m", "calloff", *words]
    print(f"\n{example.name}: {shlex.join(command)}", flush=True)
    if options.text:
        subprocess.run(command, cwd=ROOT, check=False)
    began = time.monotonic()
    done = subprocess.run([*command, "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode not in (0, 1, 3):
        print(f"not swept, status {done.returncode}\n{done.stdout}")
        return Row(False, (example.name, "", "not swept"))
    report = json.loads(done.stdout)
    print(f"{report['verdict']}: {report['points']} await points, {report['runs']} runs, {seconds:.1f} s")
    for finding in report["findings"]:
        for violation in finding["violations"]:
            print(f"  {finding['id']} {finding['phase']} at {line_of(finding['await'])}: {violation['text']}")
    missed = [one for one in example.found if not any(matches(finding, *one) for finding in report["findings"])]
    right = not missed if example.found else report["verdict"] == "SAFE"
    print("as expected" if right else f"NOT AS EXPECTED, missed: {missed}")
    found = [f"{phase} `{line}`" for phase, line, _ in example.found] if right else [f"**{report['verdict']}**"]
    oracles = [oracle for _, _, oracle in example.found]
    package, _, version = example.packages.split()[0].partition("==")
    cells = (
        package,
        version,
        report["python"],
        "<br>".join(found) or "nothing",
        "<br>".join(oracles),
        str(report["points"]),
        str(report["runs"]),
        f"{seconds:.1f}",
        f"`calloff {shlex.join(words)}`",
    )
    return Row(right, cells)


def matches(finding: "dict[str, Any]", phase: str, line: str, oracle: str) -> bool:
    """Whether the cancel arrived in that phase with that line on the stack, and that oracle saw it."""
    lines = {line_of(step) for step in finding["stack"]}
    oracles = {violation["oracle"] for violation in finding["violations"]}
    return finding["verdict"] == "UNSAFE" and finding["phase"] == phase and line in lines and oracle in oracles


def line_of(step: "dict[str, Any]") -> str:
    """``package/module.py:12``."""
    return f"{step['file'].split('site-packages/')[-1].removeprefix(f'{ROOT}/')}:{step['line']}"


def environment(example: Example, envs: Path) -> str:
    """The Python of the example's environment, made when it is not there."""
    packages = example.packages.split()
    folder = envs / f"{re.sub(r'[^a-z0-9.]+', '-', example.packages)}-py{example.python}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if ready.exists():
        return str(python)
    print(f"making {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    base = interpreter(example.python)
    uv = os.environ.get("UV") or shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".venvs" / "uv" / "bin"))
    if uv:
        run(uv, "venv", "--quiet", "--python", base, str(folder))
        run(uv, "pip", "install", "--quiet", "--python", str(python), "--editable", str(ROOT), *packages)
    else:
        run(base, "-m", "venv", str(folder))
        run(str(python), "-m", "pip", "install", "--quiet", "--editable", str(ROOT), *packages)
    ready.touch()
    return str(python)


def interpreter(version: str) -> str:
    """A Python of that version, from PATH or of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which(f"python{version}"), sys.executable]
    candidates += map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python")))
    for candidate in filter(None, candidates):
        ask = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        if subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip() == version:
            return candidate
    sys.exit(f"there is no Python {version} on PATH")


def run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())
