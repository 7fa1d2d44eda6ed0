"""The pytest plugin: ``--cancel-sweep`` and ``@pytest.mark.cancel_sweep``.

It is loaded into every pytest where calloff is installed, so it holds only the options and the hooks; what they do is
in `_pytest_sweep`, imported when a test is to be swept.
"""

import gc
import inspect
import sys
from collections.abc import Generator
from typing import Any

import pytest

__all__: list[str] = []

#: the attribute of a test's report that holds the figures of its sweep: plain data, which pytest-xdist hands on
NOTES = "cancel_sweep"
#: what a mark may give that judges the world of its test
HELPERS = ("check", "bystander")
known_key = pytest.StashKey[dict[str, str]]()
helpers_key = pytest.StashKey[dict[str, Any]]()
#: set for a test that failed and is left to a plugin that runs such tests again
again_key = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cancel-sweep", "calling tests off at every await (calloff)")
    group.addoption("--cancel-sweep", action="store_true", help="call every async test off at every await")
    group.addoption("--cancel-sweep-max", metavar="N", type=int, help="at most N cancels for a test")
    group.addoption("--cancel-sweep-phases", metavar="LIST", help="of before,early,late,double,amid")
    group.addoption("--cancel-sweep-timeout", metavar="S", type=float, help="seconds after a cancel (5)")
    group.addoption("--cancel-sweep-replay", metavar="ID", help="only the cancel of one finding")
    group.addoption(
        "--cancel-sweep-known", metavar="FILE", help="findings to live with: a line each, ID and the reason"
    )
    group.addoption("--cancel-sweep-resume", metavar="DIR", help="keep results here, and try only what is missing")
    group.addoption("--cancel-sweep-html", metavar="DIR", help="write a page for each swept test")
    group.addoption("--cancel-sweep-fault", metavar="WHOSE", help="whose faults fail: project (default), tests or all")
    group.addoption(
        "--cancel-sweep-source", metavar="PATH", action="append", help="folder or package that is the project"
    )
    group.addoption(
        "--cancel-sweep-report", metavar="KIND", action="append", help="term, github, json[:FILE] or html[:FILE]"
    )
    group.addoption("--cancel-sweep-fail-under", metavar="PCT", help="fail when less of the awaits reached is safe")
    group.addoption("--cancel-sweep-baseline", metavar="FILE", help="faults that are known there don't fail")
    group.addoption("--cancel-sweep-write-baseline", action="store_true", help="keep the faults of now in that file")
    group.addoption("--cancel-sweep-diff", metavar="BASE", help="only functions that differ from this commit")
    group.addoption("--cancel-sweep-every-test", action="store_true", help="sweep an await in each test that meets it")
    parser.addini("cancel_sweep_source", "folders or packages that are the project", type="args", default=[])
    parser.addini("cancel_sweep_report", "reports of the sweep", type="args", default=[])
    for name in ("fault", "fail_under", "baseline", "how", "max", "timeout", "phases", "known"):
        parser.addini(f"cancel_sweep_{name}", f"as --cancel-sweep-{name.replace('_', '-')}", default="")
    parser.addini("cancel_sweep_without", "oracles to leave out", type="args", default=[])
    group.addoption("--cancel-sweep-how", metavar="HOW", help="what calls it off: cancel, deadline or operation")
    group.addoption("--cancel-sweep-without", metavar="LIST", action="append", help="oracles to leave out")
    group.addoption("--cancel-sweep-in-process", action="store_true", help="don't fork for each run")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "cancel_sweep(phases=, max_runs=, timeout=, check=, bystander=, children=, how=, without=, known=, isolate=, "
        "skip=): call this async test off at every await; check and bystander are async functions without arguments, "
        "or the names of fixtures that return one; known maps ids of findings to reasons; skip is the reason not to.",
    )
    known = config.getoption("--cancel-sweep-known") or config.getini("cancel_sweep_known") or None
    if known is not None:
        from ._sweep.known import read_known

        try:
            config.stash[known_key] = read_known(known)
        except ValueError as error:
            raise pytest.UsageError(f"--cancel-sweep-known: {error}") from None
        except OSError as error:
            raise pytest.UsageError(f"--cancel-sweep-known: {known}: {error.strerror}") from None


# --- which tests


def _wanted(item: pytest.Item) -> dict[str, Any] | None:
    """The options of the mark, when the test is to be swept."""
    mark = item.get_closest_marker("cancel_sweep")
    if mark is None and not item.config.getoption("--cancel-sweep"):
        return None
    options = {} if mark is None else dict(mark.kwargs)
    if options.pop("skip", None) or not isinstance(item, pytest.Function):
        return None
    if not inspect.iscoroutinefunction(inspect.unwrap(item.obj)):
        return None
    return options


def pytest_collection_finish(session: pytest.Session) -> None:
    """Import the sweep now, not while the time of a test counts."""
    if any(_wanted(item) is not None for item in session.items):
        from . import _pytest_sweep

        _pytest_sweep.begin(session)


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Get the fixtures that the mark names."""
    options = _wanted(item)
    if options is not None:
        names = {role: options.get(role) for role in HELPERS}
        request = item._request  # type: ignore[attr-defined]
        item.stash[helpers_key] = {
            role: request.getfixturevalue(given) if isinstance(given, str) else given for role, given in names.items()
        }


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run the async tests that no other plugin runs."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or _wanted(pyfuncitem) is None:
        return None
    from ._pytest_sweep import run_alone

    run_alone(pyfuncitem)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run the test, then sweep it."""
    options = _wanted(item)
    if options is None:
        return None
    from ._pytest_sweep import run_and_sweep

    return run_and_sweep(item, nextitem, options) or None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a test that passed only when another plugin ran it again as not swept."""
    report = yield
    if call.when == "call" and report.passed and item.stash.get(again_key, False):
        from ._pytest_sweep import leave_out

        leave_out([report], report, "it failed, and passed when it was run again")
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let others see all objects again; a replay that met no test with its id has shown nothing."""
    config = session.config
    if "calloff.testing._pytest_sweep" in sys.modules:
        gc.unfreeze()  # what is frozen has no referrers, for those who ask
    replay = config.getoption("--cancel-sweep-replay")
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return
    notes = _notes(reporter)
    if replay and not notes:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR
    if notes and session.exitstatus == pytest.ExitCode.OK:
        from ._pytest_suite import suite_of

        if suite_of(config).falls_short(notes):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _notes(reporter: Any) -> list[tuple[str, dict[str, Any]]]:
    every = [report for reports in reporter.stats.values() for report in reports]
    return [(report.nodeid, getattr(report, NOTES)) for report in every if hasattr(report, NOTES)]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    swept = _notes(terminalreporter)
    replay = terminalreporter.config.getoption("--cancel-sweep-replay")
    if replay and not swept:
        terminalreporter.write_line(f"cancel sweep: no cancel of the tests that were run has the id {replay}")
    if not swept:
        return
    from ._pytest_suite import suite_of

    terminalreporter.section("cancel sweep")
    suite_of(terminalreporter.config).tell(swept, terminalreporter)
