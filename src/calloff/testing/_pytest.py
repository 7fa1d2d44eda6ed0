"""The pytest plugin: ``--cancel-sweep`` and ``@pytest.mark.cancel_sweep``.

It is loaded into every pytest where calloff is installed, so it holds only the options and the hooks; what they do is
in `_pytest_sweep`, imported when a test is to be swept.
"""

import inspect
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ._sweep.report import SweepReport

__all__: list[str] = []

reports_key = pytest.StashKey[dict[str, "SweepReport"]]()
helpers_key = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cancel-sweep", "calling tests off at every await (calloff)")
    group.addoption("--cancel-sweep", action="store_true", help="call every async test off at every await")
    group.addoption("--cancel-sweep-max", metavar="N", type=int, help="at most N cancels for a test")
    group.addoption("--cancel-sweep-phases", metavar="LIST", default="before,early,late,double", help="of %(default)s")
    group.addoption("--cancel-sweep-timeout", metavar="S", type=float, default=5.0, help="seconds after a cancel (5)")
    group.addoption("--cancel-sweep-replay", metavar="ID", help="only the cancel of one finding")
    group.addoption("--cancel-sweep-html", metavar="DIR", help="write a page for each swept test")
    group.addoption("--cancel-sweep-in-process", action="store_true", help="don't fork for each run")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "cancel_sweep(phases=, max_runs=, timeout=, check=, bystander=, children=, how=, without=, known=, isolate=, "
        "skip=): call this async test off at every await; check and bystander are async functions without arguments, "
        "or the names of fixtures that return one; known maps ids of findings to reasons; skip is the reason not to.",
    )
    config.stash[reports_key] = {}


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


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Get the fixtures that the mark names."""
    options = _wanted(item)
    if options is not None:
        names = {role: options.get(role) for role in ("check", "bystander")}
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

    run_and_sweep(item, nextitem, options)
    return True


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reports = config.stash.get(reports_key, {})
    if reports:
        terminalreporter.section("cancel sweep")
        for name, report in reports.items():
            terminalreporter.write_line(f"{name}: {str(report).splitlines()[-1]}")
        points = sum(report.points for report in reports.values())
        runs = sum(report.runs for report in reports.values())
        unsafe = sum(report.verdict == "UNSAFE" for report in reports.values())
        terminalreporter.write_line(f"{len(reports)} tests, {points} await points, {runs} runs, {unsafe} tests unsafe")
