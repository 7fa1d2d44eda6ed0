"""How a test is swept.

A test that is swept first runs as ever. When it passes, it is run again, with its fixtures set up anew, in a forked
process for each cancel; the test's own function is put inside a wrapper that calls it off at one exact point and looks
at what is left. So it does not matter which plugin runs the async tests (pytest-asyncio, anyio's, or none: then ours
does), and the tests need no change. Fixtures of a wider scope are set up once, in the first process, and shared.
"""

import asyncio
import functools
import inspect
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from _pytest._code.code import ReprFileLocation, TerminalRepr
from _pytest.runner import CallInfo, runtestprotocol
from _pytest.unittest import TestCaseFunction

from ._pytest import NOTES, helpers_key, known_key
from ._sweep.case import Case, Result
from ._sweep.isolate import Server
from ._sweep.journal import Journal
from ._sweep.places import Place
from ._sweep.plan import Plan
from ._sweep.report import SweepReport
from ._sweep.sweeping import Sweeping
from ._sweep.touched import watched_locks
from ._sweep.trial import Trial
from ._sweep.whole import make_case

__all__ = ["run_alone", "run_and_sweep"]


def run_alone(item: pytest.Function) -> None:
    """Run an async test that no other plugin runs."""
    names = item._fixtureinfo.argnames
    with asyncio.Runner() as runner:
        runner.run(item.obj(**{name: item.funcargs[name] for name in names}))


def run_and_sweep(item: pytest.Item, nextitem: pytest.Item | None, options: dict[str, Any]) -> None:
    """Run the test as ever, then sweep it; the verdict becomes that of the test."""
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=_Sibling(item))  # type: ignore[arg-type]
    call = next((report for report in reports if report.when == "call"), None)
    if call is not None and call.passed and all(report.passed for report in reports):
        _judge(item, call, reports, options)
    teardown = CallInfo.from_call(lambda: item.session._setupstate.teardown_exact(nextitem), when="teardown")
    if teardown.excinfo is not None:
        reports.append(hook.pytest_runtest_makereport(item=item, call=teardown))
    for report in reports:
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


class _Sibling:
    """Stands for a next test in the same place: only what belongs to this one is torn down."""

    def __init__(self, item: pytest.Item) -> None:
        self._chain = item.listchain()[:-1]

    def listchain(self) -> list[Any]:
        return list(self._chain)


def _judge(item: pytest.Item, call: pytest.TestReport, all_: list[pytest.TestReport], options: dict[str, Any]) -> None:
    try:
        report = _swept(item, options)
    except (TypeError, ValueError, OSError) as error:
        call.outcome = "failed"
        call.longrepr = _Text(f"cancel sweep: {error}", f"cancel sweep: {error}", item)
        return
    if report is None:
        return
    summary = str(report).splitlines()[-1]
    known = [f"{finding.id}: {reason}" for finding, reason in report.silenced]
    setattr(
        call,
        NOTES,
        {"verdict": report.verdict, "points": report.points, "runs": report.runs, "summary": summary, "known": known},
    )
    for each in all_:  # JUnit's file takes those of the last
        each.user_properties += [("cancel_sweep", summary), *(("cancel_sweep_known", line) for line in known)]
    folder = item.config.getoption("--cancel-sweep-html")
    if folder:
        _file_in(folder, item, ".html").write_text(report.html(), encoding="utf-8")
    if report.verdict in ("UNSAFE", "ERROR"):
        call.outcome = "failed"
        call.longrepr = _Text(str(report), summary, item)


class _Text(TerminalRepr):
    """The report in place of a traceback, and its last line where one line is wanted."""

    def __init__(self, text: str, line: str, item: pytest.Item) -> None:
        file, number, _ = item.location
        self._text = text
        self.reprcrash = ReprFileLocation(file, (number or 0) + 1, line)

    def toterminal(self, tw: Any) -> None:
        """Write it."""
        tw.line(self._text)


def _file_in(folder: str, item: pytest.Item, ending: str) -> Path:
    """The file for a test in a folder that need not exist yet."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder, re.sub(r"[^\w.-]+", "_", item.nodeid) + ending)


def _swept(item: pytest.Item, options: dict[str, Any]) -> SweepReport | None:
    assert isinstance(item, pytest.Function)
    config = item.config
    isolate = options.pop("isolate", True) and not config.getoption("--cancel-sweep-in-process")
    phases = options.pop("phases", None) or str(config.getoption("--cancel-sweep-phases")).split(",")
    max_runs = options.pop("max_runs", None) or config.getoption("--cancel-sweep-max")
    known = config.stash.get(known_key, dict[str, str]()) | options.pop("known", {})
    folder = config.getoption("--cancel-sweep-resume")
    for role in ("check", "bystander"):
        options.pop(role, None)
    case = make_case(
        inspect.unwrap(item.obj),
        setup=None,
        teardown=_fixtures,
        check=None,
        bystander=None,
        timeout=options.pop("timeout", config.getoption("--cancel-sweep-timeout")),
        children=options.pop("children", True),
        how=options.pop("how", "cancel"),
        without=("restart", *options.pop("without", ())),
    )
    if options:
        raise TypeError(f"the mark cancel_sweep does not know {', '.join(sorted(options))}")
    replay = config.getoption("--cancel-sweep-replay")
    sweeping = Sweeping(
        case,
        phases=phases,
        max_runs=max_runs,
        known=known,
        replay=replay,
        target=item.nodeid,
        journal=None if folder is None else Journal(_file_in(folder, item, ".jsonl")),
        again=f"pytest '{item.nodeid}' --cancel-sweep --cancel-sweep-replay {{id}}",
    )
    run = functools.partial(_carry_out, item, case, isolate)
    place: Place = Server(run, 4 * case.timeout + 10) if isolate else _InProcess(run)
    try:
        return _driven(sweeping.run([place]), isolate)
    except ValueError:
        if replay is not None:
            return None  # the id belongs to another test
        raise
    finally:
        place.close()


async def _fixtures(*_args: Any) -> None:
    """Stands for the fixtures' own teardown."""


class _InProcess:
    """The runs of a test in this very process, one after the other."""

    def __init__(self, run: Callable[[Any], Result]) -> None:
        self._run = run

    async def ask(self, order: tuple[Plan | None, Result | None], /) -> Result:
        return self._run(order)

    def close(self) -> None: ...


def _driven(sweep: Coroutine[Any, Any, SweepReport], isolate: bool) -> SweepReport:
    """Run the sweep: on a loop of its own, or by hand where the tests' loops must run in this thread."""
    if not isolate:
        try:
            sweep.send(None)
        except StopIteration as stop:
            report: SweepReport = stop.value
            return report
        raise RuntimeError("a sweep in process awaits nothing")
    loop = asyncio.SelectorEventLoop()
    try:
        return loop.run_until_complete(sweep)
    finally:
        loop.close()


# --- one run, in its own process


def _carry_out(item: pytest.Function, case: Case, isolate: bool, order: tuple[Plan | None, Result | None]) -> Result:
    """Run the test once under a plan, with its fixtures."""
    probe = _Probe(item, case, *order)
    owner, name = (item.cls, item.name) if isinstance(item, TestCaseFunction) else (item, "obj")
    original = getattr(owner, name)
    with (
        _patched(owner, name, probe.wrapped(original), original),
        _no_capture(item.config, isolate),
        probe.before_loops_close(),
    ):
        reports = runtestprotocol(item, log=False, nextitem=_Sibling(item))  # type: ignore[arg-type]
    return probe.result(reports)


class _Probe:
    """Gets between the test's function and the loop on which some plugin runs it."""

    def __init__(self, item: pytest.Function, case: Case, plan: Plan | None, usual: Result | None) -> None:
        self._item = item
        self._case = case
        self._plan = plan
        self._usual = usual
        self._trial: Trial | None = None
        self._looked = False

    def wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function that is run in place of the test's."""

        @functools.wraps(function)
        async def swept(*args: Any, **kwargs: Any) -> None:
            helpers = self._item.stash.get(helpers_key, {})
            case = self._case.with_helpers(**helpers)
            self._trial = trial = Trial(case, self._plan, self._usual)
            with watched_locks(), trial.watching():
                await trial.body(lambda: function(*args, **kwargs))
                await trial.see_check()

        return swept

    def before_loops_close(self) -> Any:
        """Have the last look when the fixtures are torn down and before the loop cancels what is left."""
        original = asyncio.Runner.close

        def close(runner: asyncio.Runner) -> None:
            self.last_look()
            original(runner)

        return _patched(asyncio.Runner, "close", close, original)

    def last_look(self) -> None:
        """Judge what is left."""
        trial = self._trial
        if trial is None or self._looked:
            return
        self._looked = True
        if not trial.loop.is_closed() and not trial.loop.is_running():
            trial.loop.run_until_complete(trial.let_go())
        trial.finish()

    def result(self, reports: list[pytest.TestReport]) -> Result:
        """What the run showed."""
        if self._trial is None:
            failed = next((str(report.longrepr) for report in reports if not report.passed), "the test did not run")
            return Result(self._plan, broken=failed[-2000:])
        self.last_look()
        result = self._trial.result
        for report in reports:
            if report.failed:
                if self._plan is None or report.when == "setup":
                    result.broken = str(report.longrepr)[-2000:]
                else:
                    self._trial.violated("teardown", f"after it, the {report.when} failed: {_last_line(report)}")
        return result


def _last_line(report: pytest.TestReport) -> str:
    lines = [line for line in str(report.longrepr).splitlines() if line.startswith("E ")] or [str(report.longrepr)]
    return lines[-1].removeprefix("E").strip()[:300]


class _patched:
    """Put `new` in the place of an attribute while the block runs."""

    def __init__(self, owner: Any, name: str, new: Any, old: Any) -> None:
        self._put = functools.partial(setattr, owner, name)
        self._new, self._old = new, old

    def __enter__(self) -> None:
        self._put(self._new)

    def __exit__(self, *_error: object) -> None:
        self._put(self._old)


class _no_capture:
    """Keep pytest's capturing out: its files are shared with the process that forked."""

    def __init__(self, config: pytest.Config, forked: bool) -> None:
        self._manager: Any = config.pluginmanager.getplugin("capturemanager") if forked else None

    def __enter__(self) -> None:
        self._before = getattr(self._manager, "_global_capturing", None)
        if self._before is not None:
            from _pytest.capture import MultiCapture

            self._manager._global_capturing = MultiCapture(in_=None, out=None, err=None)

    def __exit__(self, *_error: object) -> None:
        if self._before is not None:
            self._manager._global_capturing = self._before
