"""The test suites of other packages, plain and swept, as a table (`scripts/suites` says how).

Each package is unpacked from its sdist and installed in editable form, with what its tests need and this calloff, in an
environment of its own. A newcomer's budget is given: ``--cancel-sweep-max 20``.
"""

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BASE = Path(
    os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "calloff-suites"
)  # apart: these have roots of their own
UV = os.environ.get("UV", "uv")
PLAIN_LIMIT, SWEPT_LIMIT = 300, 900


class Suite(NamedTuple):
    """One package: its version, what its tests need, and what pytest is given."""

    version: str
    needs: str
    arguments: str


_FUNCTION = "-o asyncio_default_fixture_loop_scope=function"
SUITES = {
    "aiolimiter": Suite("1.3.0", "pytest-asyncio pytest-cov dunamai typing_extensions", "tests"),
    "async_timeout": Suite("5.0.1", "pytest-asyncio pytest-cov", "tests"),
    "aiorwlock": Suite("1.4.0", "pytest<8.2 pytest-asyncio==0.21.2 pytest-cov", "tests"),
    "async_lru": Suite("2.4.0", "pytest-asyncio pytest-cov pytest-timeout", f"tests -o addopts= {_FUNCTION}"),
    "asyncstdlib": Suite("3.14.0", "pytest-cov typing_extensions", "unittests"),
    "tenacity": Suite("9.2.1", "tornado typeguard trio anyio", "tests/test_asyncio.py"),
    "stamina": Suite("26.1.0", "pytest-asyncio anyio trio dirty-equals structlog prometheus-client", "tests"),
    "aiostream": Suite("0.8.1", "pytest-asyncio pytest-cov", "tests"),
    "aiosqlite": Suite("0.22.1", "", "aiosqlite/tests/smoke.py"),
    "aiofiles": Suite("25.1.0", "pytest-asyncio", "tests"),
    "aiojobs": Suite("1.4.0", "pytest-asyncio<1.3 pytest-aiohttp aiohttp pytest-cov", "tests -o asyncio_mode=auto"),
    "janus": Suite("2.0.0", "pytest-asyncio pytest-cov pytest-codspeed", "tests"),
    "asgiref": Suite("3.13.0", "pytest-asyncio", "tests"),
    "aiocache": Suite(
        "0.12.3",
        "pytest-asyncio pytest-cov pytest-mock redis aiomcache msgpack aiohttp marshmallow",
        f"tests/ut {_FUNCTION}",
    ),
    "httpcore": Suite("1.0.9", "anyio trio h2 socksio sniffio pytest-httpbin pytest-trio", "tests"),
    "httpx": Suite(
        "0.28.1",
        "anyio trio h2 socksio brotli zstandard click rich pygments chardet trustme uvicorn cryptography pytest-trio",
        "tests",
    ),
    "starlette": Suite(
        "1.10.0",
        "anyio trio httpx httpx2 itsdangerous jinja2 python-multipart pyyaml typing_extensions opentelemetry-sdk",
        "tests",
    ),
    "anyio": Suite(
        "4.16.0",
        "trio uvloop blockbuster hypothesis psutil pytest-mock pytest-timeout trustme truststore exceptiongroup",
        "tests/test_synchronization.py tests/streams/test_memory.py tests/test_taskgroups.py -k asyncio",
    ),
    "aiosmtplib": Suite("5.1.3", "pytest-asyncio aiosmtpd hypothesis trustme cryptography", "tests"),
    "aiohttp": Suite(
        "3.14.5",
        "pytest-aiohttp pytest-cov pytest-mock pytest-timeout pytest-xdist pytest-codspeed trustme re-assert blockbuster "
        "freezegun proxy.py uvloop isal zlib_ng aiodns python-on-whales time-machine",
        f"tests/test_connector.py tests/test_streams.py tests/test_resolver.py -p no:codspeed -n 0 {_FUNCTION}",
    ),
}


def main() -> None:
    """Set up, run and tell."""
    parser = argparse.ArgumentParser(prog="scripts/suites")
    parser.add_argument("--setup-only", action="store_true", help="set the environments up and stop")
    parser.add_argument("--again", action="store_true", help="run the plain suites again, too")
    parser.add_argument("--max", type=int, default=20, help="cancels for a test (20)")
    parser.add_argument("--python", default=sys.executable, help="the Python of the environments (that of the script)")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SUITES)}")
    given = parser.parse_args()
    unknown = set(given.names).difference(SUITES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    (BASE / "out").mkdir(parents=True, exist_ok=True)
    if not given.setup_only:
        print(
            f"{'suite':22} {'plain':>22} {'swept':>22} {'faults':>30} errors restored   seconds  of the processor",
            flush=True,
        )
    for name in given.names or SUITES:
        try:
            _set_up(name, given.python)
        except subprocess.CalledProcessError as error:
            print(f"{name:22} could not be set up: {str(error.stderr or error)[-300:]}", flush=True)
            continue
        if not given.setup_only:
            print(_row(name, given.max, given.again), flush=True)


def _folder(name: str) -> Path:
    return BASE / "src" / f"{name}-{SUITES[name].version}"


def _python(name: str) -> Path:
    return BASE / "envs" / name / "bin" / "python"


def _set_up(name: str, python: str) -> None:
    suite, folder = SUITES[name], _folder(name)
    if not folder.exists():
        _download(name, python)
    stamp = BASE / "envs" / name / "ready"
    wanted = f"{suite.version} {suite.needs} {python}"
    options = ["pip", "install", "-q", "--python", str(_python(name))]
    if not stamp.exists() or stamp.read_text() != wanted:
        _do(UV, "venv", "-q", "--clear", "--python", python, str(BASE / "envs" / name))
        _do(UV, *options, "-e", str(folder), "-e", str(ROOT), "pytest", *suite.needs.split())
        stamp.write_text(wanted)
    _do(UV, *options, "--no-deps", "-e", str(ROOT))  # the environment may be that of another working tree


def _download(name: str, python: str) -> None:
    """Fetch the sdist and unpack it; uv can only install, so pip does it."""
    pip = BASE / "envs" / "pip"
    if not pip.exists():
        _do(UV, "venv", "-q", "--seed", "--python", python, str(pip))
    version = SUITES[name].version
    wheelless = ["--no-deps", "--no-binary", ":all:", "-d", str(BASE / "sdists"), f"{name}=={version}"]
    _do(str(pip / "bin" / "python"), "-m", "pip", "download", "-q", *wheelless)
    for file in (BASE / "sdists").glob(f"{name}-{version}.tar.gz"):
        with tarfile.open(file) as archive:
            archive.extractall(BASE / "src", filter="data")


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _row(name: str, most: int, again: bool) -> str:
    """Run the suite both ways; the line of the table."""
    plain_file, swept_file = (BASE / "out" / f"{name}-{kind}" for kind in ("plain", "swept"))
    kept = plain_file.with_suffix(".seconds")
    if again or not kept.exists():
        _, *took = _run(name, [], plain_file, PLAIN_LIMIT)
        kept.write_text(" ".join(f"{figure:.1f}" for figure in took))
    plain_took, plain_cpu = map(float, kept.read_text().split())
    found = swept_file.with_suffix(".json")
    found.unlink(missing_ok=True)
    options = ["--cancel-sweep", f"--cancel-sweep-max={most}", f"--cancel-sweep-report=term,json:{found}"]
    status, swept_took, swept_cpu = _run(name, options, swept_file, SWEPT_LIMIT)
    seconds = f"{plain_took:.0f} -> {swept_took:.0f} (x {swept_took / plain_took:.1f})"
    seconds += f"  {plain_cpu:.0f} -> {swept_cpu:.0f} (x {swept_cpu / plain_cpu:.1f})"
    columns = f"{name + ' ' + SUITES[name].version:22} {_ending(plain_file):>22} {_ending(swept_file):>22}"
    if not found.exists():
        return f"{columns}  HANG or no report: status {status}  {seconds}"
    document = json.loads(found.read_text())
    tests = [test["verdict"] for test in document["tests"].values()]
    owners = [fault["owner"] for fault in document["faults"] if fault["verdict"] == "UNSAFE"]
    unresolved = sum(fault["verdict"] == "UNRESOLVED" for fault in document["faults"])
    faults = " ".join(f"{owners.count(owner)} {owner}" for owner in sorted(set(owners))) or "0"
    faults += f" {unresolved} unresolved" if unresolved else ""
    restored = re.search(r"put back (\d+) file", swept_file.with_suffix(".log").read_text())
    return f"{columns} {faults:>30} {tests.count('ERROR'):6} {restored[1] if restored else 0:>8}   {seconds}"


def _run(name: str, more: list[str], file: Path, limit: float) -> tuple[str, float, float]:
    """How pytest ended, the seconds it took, and those of the processor, which a busy machine does not change."""
    command = [
        str(_python(name)),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *SUITES[name].arguments.split(),
        *more,
    ]
    began, cpu = time.monotonic(), _cpu()
    with open(file.with_suffix(".log"), "w") as log:
        process = subprocess.Popen(
            command, cwd=_folder(name), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            status = str(process.wait(limit))
        except subprocess.TimeoutExpired:
            status = f"killed after {limit} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return status, time.monotonic() - began, _cpu() - cpu


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _ending(file: Path) -> str:
    """What pytest counted at its end, in short."""
    counts = re.findall(r"(\d+) (passed|failed|errors?)\b", file.with_suffix(".log").read_text()[-3000:])
    return ", ".join(f"{number} {word}" for number, word in counts[-4:]) or "nothing"


if __name__ == "__main__":
    sys.exit(main())
