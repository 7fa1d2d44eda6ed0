"""The test job: every check of the project, a line and its seconds for each. Started by scripts/test.

First the checks that only read the sources run a few at a time; beside them the environments of the other Pythons are
made and the tests that count coverage run. Then comes pytest, one interpreter after another, the main one while the last
of those checks run; several tests side by side, since most of them wait for something. Those marked `quiet` follow, a few
at a time, and those marked `alone`, which measure time, when nothing else runs. The first failure stops the job and shows
what the failed step printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
AT_ONCE = 3

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
BIN = ROOT / ".venv" / "bin"
ENVIRONMENTS = ROOT / ".venvs"
UNPACKED = ENVIRONMENTS / "pythons"
UV = os.environ.get("UV") or shutil.which("uv") or "uv"
THIS = f"{sys.version_info.major}.{sys.version_info.minor}"


class StepFailed(Exception):
    """A step ended with a status other than 0, or was given up because another one had failed."""

    @property
    def why(self) -> str:
        """The last line that the program printed."""
        return str(self).splitlines()[-2]


# ---------------------------------------------------------------------------------------------------------
# Running commands


_running: set[subprocess.Popen[str]] = set()
_lock = threading.Lock()
_given_up = threading.Event()


def command(*args: str | Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
    """Runs a program to its end and returns what it printed."""
    with _lock:
        if _given_up.is_set():
            raise StepFailed("given up")
        try:
            process = subprocess.Popen(
                [str(arg) for arg in args],
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        except OSError as error:
            raise StepFailed(f"$ {args[0]}\n{error}") from error
        _running.add(process)
    try:
        output = process.communicate()[0]
    finally:
        with _lock:
            _running.discard(process)
    if process.returncode:
        raise StepFailed(f"$ {' '.join(map(str, args))}\n{output}exit status {process.returncode}")
    return output


def give_up() -> None:
    """Ends the commands that still run: one step has failed, the others are of no more use."""
    with _lock:
        _given_up.set()
        for process in _running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()


@dataclass(frozen=True)
class Step:
    name: str
    run: Callable[[], str | None]  # what it returns is added to its line

    def __call__(self) -> None:
        began = time.monotonic()
        try:
            note = self.run()
        except StepFailed as failure:
            if not _given_up.is_set():
                give_up()
                line("FAILED", self.name, began)
                print(failure, flush=True)
            raise
        line("ok", self.name, began, note)


def line(verdict: str, name: str, began: float, note: str | None = None) -> None:
    seconds = time.monotonic() - began
    print(f"{verdict:<6} {name:<30} {seconds:6.1f} s  {note or ''}".rstrip(), flush=True)


def together(steps: Sequence[Step]) -> None:
    """Runs the steps a few at a time and raises when one has failed."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(step) for step in steps]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in futures:
            future.cancel()
    for future in done:
        future.result()


def uv(*args: str | Path, place: Path | None = None) -> None:
    """Runs uv, and again with the system's certificates where its own are not enough (a company's registry, say)."""
    env = {"UV_PROJECT_ENVIRONMENT": str(place)} if place else {}
    try:
        command(UV, *args, env=env)
    except StepFailed as failure:
        if "certificate" not in str(failure):
            raise
        command(UV, *args, env={**env, "UV_SYSTEM_CERTS": "1"})


# ---------------------------------------------------------------------------------------------------------
# The checks that read the sources


def ruff() -> None:
    command(BIN / "ruff", "check", "--output-format=concise", ".")
    command(BIN / "ruff", "format", "--check", ".")


def mypy() -> None:
    command(BIN / "mypy")


def mypy_of_tests() -> None:
    command(BIN / "mypy", "--config-file", "tests/mypy.ini")


def pyright() -> None:
    command(BIN / "pyright", "--pythonpath", BIN / "python")


def layers() -> None:
    command(BIN / "lint-imports", "--no-cache")


#: pages that between them have all that the theme draws: listings, tables, links in texts, signatures, wide tables
PAGES = (".", "how-to/map", "how-to/systemd", "reference/asgi", "explanation/bad-items", "explanation/faq")


def docs() -> str:
    """Builds the site, then looks at some of its pages for what hinders people: contrast, names, keys."""
    quiet = {"NO_MKDOCS_2_WARNING": "1"}
    # not with --quiet, which keeps the warnings from being counted
    command(BIN / "mkdocs", "build", "--strict", "--site-dir", BUILD / "site", env=quiet)
    return command(BIN / "python", ROOT / "scripts" / "_axe.py", BUILD / "site", *PAGES).strip()


_one_browser = threading.Lock()


def browser() -> str | None:
    """Sees to it that there are a browser and a terminal for the tests of the faces, where that can be done."""
    with _one_browser:
        said = [command("sh", ROOT / "scripts" / name).strip() for name in ("_browser.sh", "_terminal.sh")]
    return "; ".join(filter(None, said)) or None


def wheel() -> str | None:
    """Builds the sdist and, from it, the wheel; uses that, alone, in a new environment."""
    dist, clean = BUILD / "dist", BUILD / "clean"
    for folder in (dist, clean):
        shutil.rmtree(folder, ignore_errors=True)
    uv("build", "--python", sys.executable, "--out-dir", dist)
    (built,) = dist.glob("*.whl")
    uv("venv", "--python", sys.executable, clean)
    uv("pip", "install", "--python", clean / "bin" / "python", "--no-deps", built)
    command(clean / "bin" / "python", "-I", "-c", "import calloff; print(calloff.__all__)", cwd=clean)
    command(clean / "bin" / "calloff", "--help", cwd=clean)
    if not (clean / "share" / "man" / "man1" / "calloff.1").exists():
        raise StepFailed("the manual page is not in the wheel")
    # Types as its users get them: of the installed package, which pyright finds by the first Python on PATH.
    uv("sync", "--locked", "--inexact", "--no-install-project", "--no-default-groups", "--all-extras", place=clean)
    installed = {"PATH": f"{clean / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    types = command(BIN / "pyright", "--verifytypes", "calloff", "--ignoreexternal", cwd=clean, env=installed)
    score = re.search(r"completeness score: (\S+)", types)
    return f"{score[1]} of its public names have full types" if score else None


# ---------------------------------------------------------------------------------------------------------
# The tests, on each Python


@dataclass
class Counts:
    """pytest's counts, summed over the interpreters."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    #: whether a test that fails beside others and passes alone counts as passed
    bears_flaky: bool = False
    #: the interpreters beside the main one that have an environment
    pythons: list[str] = field(default_factory=list)

    def add(self, report: Path) -> str:
        """Adds the counts of one JUnit report; a run that left none counts as one failure."""
        if not report.exists():
            self.failed += 1
            return "no report"
        suites = list(ET.parse(report).getroot().iter("testsuite"))
        tests, skipped = (sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "skipped"))
        failed = failed_in(report)
        passed = max(tests - failed - skipped, 0)
        with _lock:
            self.passed += passed
            self.failed += failed
            self.skipped += skipped
        return f"{passed} passed, {failed} failed, {skipped} skipped"

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


#: what runs in one process and one thread, and is worth measuring: tracing the rest would slow it down or disturb it
COVERED = ("tests/api", "tests/operation", "tests/properties", "tests/scopes", "tests/words")
#: what no other interpreter need repeat: the sweeps of whole corpora, what reads the sources, the browser, and what stands
#: on floors that hardly know the interpreter
ONCE = (
    "tests/asgi",
    "tests/cli",
    "tests/control",
    "tests/logs",
    "tests/otel",
    "tests/pages",
    "tests/places/test_pyinstaller.py",
    "tests/properties",
    "tests/test_docs.py",
    "tests/test_examples.py",
    "tests/testing",
    "tests/top",
    "tests/typing",
    "tests/web",
)
#: of those, what is run on each all the same, to see that it works at all
SMOKE = ("tests/cli/test_main.py", "tests/control/test_processes.py", "tests/testing/test_sweep.py")
#: on the main Python each test runs on every kind of event loop; on the others on one kind, another one on each Python
IN_TURN = {"CALLOFF_TEST_LOOPS": os.environ.get("CALLOFF_TEST_LOOPS", "turns")}
#: what needs the parts of others: on one Python, in an environment of its own
BORDERS, BORDERS_ON = "tests/borders", "3.13"
#: agents in processes and behind an sshd: what they run on is tested everywhere, so they are on that one, too
CLUSTER = "tests/cluster"
#: those agents on engines, in an environment that has these
_PATIENT = ("-o", "faulthandler_timeout=300")  # Ray takes its time to come up
ENGINES = ("tests/cluster/test_dask.py", "tests/cluster/test_ray.py")
SIDE_BY_SIDE = ("-n", "6", "--dist", "worksteal")
#: those marked `quiet`: what a page shows within a second, say; they wait for most of their time
A_FEW = ("-n", "3", "--dist", "worksteal")


def covered(counts: Counts) -> str:
    """A part of the tests on the main interpreter, with coverage."""
    coverage = BIN / "coverage"
    command(coverage, "erase")
    result = pytest((coverage, "run"), f"{THIS}-covered", COVERED, counts)
    command(coverage, "combine", "--quiet")
    floors = "--include=*/calloff/_words/*,*/calloff/_scopes/*,*/calloff/_operation/*"
    total = command(coverage, "report", "--format=total", floors).strip()
    return f"{result}, {total} % of floors 0-2 covered"


def tests_on(version: str, counts: Counts) -> str:
    """All tests on one interpreter, but for those of the main one that have counted coverage."""
    return "; ".join((side_by_side(version, counts), a_few_and_alone(version, counts)))


def side_by_side(version: str, counts: Counts) -> str:
    """The tests that any others may run beside."""
    browser()
    left_out = _left_out(version)
    arguments = [*SIDE_BY_SIDE, "-m", "not quiet and not alone", *(f"--ignore={path}" for path in left_out)]
    return pytest((_python_of(version),), version, arguments, counts, _loops_of(version))


def a_few_and_alone(version: str, counts: Counts) -> str:
    """The tests that few others may run beside, then those that need the machine for themselves."""
    said: list[str] = []
    for mark, how in (("quiet", A_FEW), ("alone", ())):
        if files := _marked(mark, _left_out(version)):
            arguments = [*how, "-m", mark, *files]
            result = pytest((_python_of(version),), f"{version}-{mark}", arguments, counts, _loops_of(version))
            said.append(f"{mark}: {result}")
    return "; ".join(said)


def _python_of(version: str) -> Path:
    return BIN / "python" if version == THIS else ENVIRONMENTS / version / "bin" / "python"


def _loops_of(version: str) -> Mapping[str, str]:
    return {} if version == THIS else IN_TURN


def _left_out(version: str) -> list[str]:
    return [BORDERS, CLUSTER, *(COVERED if version == THIS else _without_smoke(ONCE))]


def _marked(mark: str, left_out: Sequence[str]) -> list[str]:
    """The files in which a test is marked so: for a few of them thousands need not be collected once more."""
    marked = [file for file in (ROOT / "tests").rglob("test_*.py") if re.search(rf"mark\.{mark}\b", file.read_text())]
    files = sorted(file.relative_to(ROOT) for file in marked)
    return [str(file) for file in files if not {str(file), *map(str, file.parents)}.intersection(left_out)]


def _without_smoke(paths: Sequence[str]) -> list[str]:
    """The paths, but folders that hold one of SMOKE as the files that are not."""
    found: list[str] = []
    for path in paths:
        if any(Path(path) in Path(smoke).parents for smoke in SMOKE):
            files = (str(file.relative_to(ROOT)) for file in (ROOT / path).glob("test_*.py"))
            found += sorted(file for file in files if file not in SMOKE)
        else:
            found.append(path)
    return found


#: how often a test that failed beside others may run alone until it has failed for good
BEARS = 3


def pytest(
    python: Sequence[str | Path],
    name: str,
    arguments: Sequence[str],
    counts: Counts,
    env: Mapping[str, str] | None = None,
) -> str:
    """Runs pytest and adds its counts, also when it fails.

    Tests that failed run once more, one by one. That tells those that fail always from those that fail now and then, which
    is a bug, too, of the test or of what it tests: they are listed as flaky, and count as failed, but not where the counts
    say that they don't (`--bear-flaky`, for a machine that others keep busy as well; there they may run alone up to
    `BEARS` times, for they meet a busy machine then, too).
    """
    report, again = BUILD / f"pytest-{name}.xml", BUILD / f"pytest-{name}-again.xml"
    for old in (report, again):
        old.unlink(missing_ok=True)
    cache = BUILD / f"pytest-{name}.cache"  # of its own, so that only its own failures are repeated
    shutil.rmtree(cache, ignore_errors=True)
    run = (*python, "-m", "pytest", "-o", f"cache_dir={cache}", *arguments)
    try:
        command(*run, f"--junit-xml={report}", env=env)
    except StepFailed as failure:
        load = os.getloadavg()[0]
        flaky: list[str] = []
        for _ in range(BEARS if counts.bears_flaky else 1):
            again.unlink(missing_ok=True)
            with contextlib.suppress(StepFailed):
                command(*run, "-n0", "--lf", "--lfnf=none", f"--junit-xml={again}", env=env)
            flaky += passed_in(again)
            if len(flaky) == failed_in(report):
                break
        for test in flaky:
            print(f"FLAKY  {name}: {test} failed at load {load:.1f} and passed when it ran alone", flush=True)
        said = counts.add(report)
        if not counts.bears_flaky or not flaky or len(flaky) < failed_in(report):
            raise failure from None
        counts.failed -= len(flaky)
        counts.passed += len(flaky)
        return f"{said}, of which {len(flaky)} flaky"
    return counts.add(report)


def failed_in(report: Path) -> int:
    """How many tests of a run did not pass; more than there are, when it has left no report.

    A test can fail and have an error when its fixtures are torn down, too: that is one test, which runs once more as one.
    """
    if not report.exists():
        return sys.maxsize
    cases = ET.parse(report).getroot().iter("testcase")
    bad = (case for case in cases if case.find("failure") is not None or case.find("error") is not None)
    return len({(case.get("classname"), case.get("name")) for case in bad})


def passed_in(report: Path) -> list[str]:
    """The tests that passed in a run."""
    cases = ET.parse(report).getroot().iter("testcase") if report.exists() else ()
    return [f"{case.get('classname')}::{case.get('name')}" for case in cases if len(case) == 0]


def python_of_borders() -> Path:
    """The interpreter for what is run on one Python; this one where there is none of that version."""
    try:
        return interpreter(BORDERS_ON)[0]
    except StepFailed:
        return Path(sys.executable)


def environments_of_borders() -> str:
    """What the borders need: their environments, and the servers of the system."""
    words = ["--python", python_of_borders(), "--no-default-groups"]
    for group in ("borders", "borders-mcp2"):
        uv("sync", "--locked", *words, "--group", group, place=ENVIRONMENTS / group)
    said = [command("sh", ROOT / "scripts" / name).strip() for name in ("_servers.sh", "_sshd.sh")]
    return "; ".join(filter(None, said))


def borders(counts: Counts) -> str:
    """The tests with drivers, servers and frameworks of others, on one Python."""
    python, without = ENVIRONMENTS / "borders" / "bin" / "python", [f"--ignore={path}" for path in ENGINES]
    return pytest((python,), "borders", ["-n", "2", "--dist", "loadfile", BORDERS, CLUSTER, *without], counts)


def mcp_2(counts: Counts) -> str:
    """The server of tools on the other version of its package, which can't be in the same environment."""
    python = ENVIRONMENTS / "borders-mcp2" / "bin" / "python"
    return pytest((python,), "borders-mcp2", [f"{BORDERS}/test_mcp.py"], counts)


def engines(counts: Counts) -> str:
    """Agents on one small Ray cluster and one small Dask cluster, where these can be installed."""
    place = ENVIRONMENTS / "engines"
    words = ["--python", python_of_borders(), "--no-default-groups", "--group", "engines"]
    try:
        # a node of Ray gives up when its helper is not up in 15 s, which is not enough to compile all that it imports
        uv("sync", "--locked", "--compile-bytecode", *words, place=place)
    except StepFailed as failure:
        return f"SKIPPED, Ray and Dask can't be installed here: {failure.why}"
    return pytest((place / "bin" / "python",), "engines", [*_PATIENT, *ENGINES], counts)


def environment(version: str, counts: Counts) -> str:
    """An environment of its own for another interpreter, from the same lock; says where that was found."""
    try:
        python, how = interpreter(version)
    except StepFailed as failure:
        return f"SKIPPED, no Python {version} is installed and none can be unpacked: {failure.why}"
    uv("sync", "--locked", "--python", python, place=ENVIRONMENTS / version)
    counts.pythons.append(version)
    return f"{how} {python}"


def interpreter(version: str) -> tuple[Path, str]:
    """A Python of this version, and how it was got: it is unpacked where none is installed."""
    if python := find(version):
        return python, "found at"
    command("sh", ROOT / "scripts" / "_pythons.sh", version)
    return UNPACKED / version / "usr" / "bin" / f"python{version}", "unpacked from Debian's packages into"


def find(version: str) -> Path | None:
    """The real path of an installed Python of this version: on PATH, of pyenv, or any that uv knows."""
    candidates = [Path(found)] if (found := shutil.which(f"python{version}")) else []
    pyenv = os.environ.get("PYENV_ROOT") or _output("pyenv", "root").strip() or Path.home() / ".pyenv"
    candidates += sorted(Path(pyenv, "versions").glob(f"{version}.*/bin/python{version}"), key=_patch)
    for candidate in candidates:
        if path := _real_path(candidate, version):
            return path
    listed = _output(UV, "python", "list", "--only-installed", "--output-format", "json", version)
    for entry in json.loads(listed or "[]"):
        if path := _real_path(Path(entry["path"]), version):
            return path
    return None


def _patch(python: Path) -> int:
    """Sorts the newest patch release first, and free-threaded or pre-release builds last."""
    number = python.parent.parent.name.rpartition(".")[2]
    return -int(number) if number.isdigit() else 1


def _real_path(python: Path, version: str) -> Path | None:
    source = "import sys; print('%d.%d' % sys.version_info[:2], sys._base_executable or sys.executable)"
    found, _, path = _output(str(python), "-c", source).strip().partition(" ")
    return Path(path) if found == version else None


def _output(*args: str) -> str:
    try:
        done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


# ---------------------------------------------------------------------------------------------------------
# The job


def every_check(counts: Counts, *, fast: bool) -> None:
    steps = [
        Step(f"pytest on {THIS}, covered", partial(covered, counts)),
        Step("pyright", pyright),
        Step("mypy --strict", mypy),
        Step("mypy of the tests", mypy_of_tests),
        Step("ruff", ruff),
        Step("wheel and its public types", wheel),
        Step("imports go down only", layers),
        Step("browser", browser),
    ]
    print(f"       {THIS}: {sys.executable}", flush=True)
    if not fast:
        steps += [Step("docs", docs)]
        steps += [Step(f"environment for {v}", partial(environment, v, counts)) for v in PYTHONS if v != THIS]
        steps += [Step("environments of the borders", environments_of_borders)]
    steps += [Step(f"pytest on {THIS}", partial(side_by_side, THIS, counts))]
    together(steps)
    Step(f"pytest on {THIS}, the rest", partial(a_few_and_alone, THIS, counts))()
    for version in sorted(counts.pythons):
        Step(f"pytest on {version}", partial(tests_on, version, counts))()
    if not fast:
        together(tests_of_borders(counts))  # those of engines take long: a job of its own


def tests_of_borders(counts: Counts) -> list[Step]:
    return [
        Step("pytest of the borders", partial(borders, counts)),
        Step("pytest of the borders, mcp 2", partial(mcp_2, counts)),
    ]


def jobs(counts: Counts) -> dict[str, list[Step]]:
    """The parts that can be run alone, by their names; each step follows the one before it."""
    found = {
        "lint": [Step("ruff", ruff)],
        "types": [Step("mypy --strict", mypy), Step("mypy of the tests", mypy_of_tests), Step("pyright", pyright)],
        "imports": [Step("imports go down only", layers)],
        "docs": [Step("browser", browser), Step("docs", docs)],
        "wheel": [Step("wheel and its public types", wheel)],
        "borders": [Step("environments of the borders", environments_of_borders), *tests_of_borders(counts)],
        "engines": [Step("pytest on engines", partial(engines, counts))],
    }
    for version in PYTHONS:
        steps = [Step(f"pytest on {version}", partial(tests_on, version, counts))]
        if version == THIS:
            steps.insert(0, Step(f"pytest on {THIS}, covered", partial(covered, counts)))
        else:
            steps.insert(0, Step(f"environment for {version}", partial(environment, version, counts)))
        found[f"tests-{version}"] = steps
    return found


def main() -> int:
    # else each of thousands of interpreters would compile all that it imports
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    usage = "scripts/test [--fast | JOB | PYTEST_ARGS...]"
    parser = argparse.ArgumentParser(prog="scripts/test", usage=usage, description=__doc__, allow_abbrev=False)
    parser.add_argument("--fast", action="store_true", help="lint, types and tests on one Python")
    parser.add_argument("--summary", action="store_true", help="end with pytest's counts over all Pythons")
    parser.add_argument(
        "--bear-flaky", action="store_true", help="tests that fail, and pass when run alone, have passed"
    )
    options, pytest_args = parser.parse_known_args()
    counts = Counts(bears_flaky=options.bear_flaky)
    alone = jobs(counts)
    if pytest_args and set(pytest_args) <= set(alone):
        BUILD.mkdir(exist_ok=True)
        try:
            for step in (step for name in pytest_args for step in alone[name]):
                step()
        except StepFailed:
            return 1
        return 0
    if pytest_args:
        return subprocess.call([BIN / "python", "-m", "pytest", *pytest_args], cwd=ROOT)
    BUILD.mkdir(exist_ok=True)
    began, status = time.monotonic(), 0
    try:
        every_check(counts, fast=options.fast)
    except StepFailed:
        status = 1
    line("ok" if status == 0 else "FAILED", "all checks", began)
    if options.summary:
        print(counts, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
