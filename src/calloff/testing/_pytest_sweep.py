"""How a test is swept.

A test that is swept first runs as ever. When it passes, it is run again, with its fixtures set up anew, in a forked
process for each cancel (`_pytest_probe`). So it does not matter which plugin runs the async tests (pytest-asyncio,
anyio's, or none: then ours does), and the tests need no change. Fixtures of a wider scope are set up once, in the first
process, and shared. A test that can't be swept is left out, with the reason.
"""

import asyncio
import faulthandler
import functools
import inspect
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from _pytest._code.code import ReprFileLocation, TerminalRepr
from _pytest.outcomes import OutcomeException
from _pytest.runner import CallInfo, runtestprotocol

from ._pytest import HELPERS, NOTES, again_key, known_key
from ._pytest_noting import noted
from ._pytest_probe import Sibling, carry_out, plugin
from ._pytest_suite import Wants, option, suite_of
from ._sweep.case import Case, Result
from ._sweep.isolate import Server
from ._sweep.journal import Journal
from ._sweep.places import Place
from ._sweep.plan import PHASES, Plan, Seen
from ._sweep.report import SweepReport
from ._sweep.sweeping import NotForUs, Sweeping
from ._sweep.undo import Tree
from ._sweep.whole import make_case

__all__ = ["begin", "leave_out", "run_alone", "run_and_sweep"]


def begin(session: pytest.Session) -> None:
    """Say now what is wrong with the options, and note which files are tests."""
    suite_of(session.config).tests |= {item.path for item in session.items}


def run_alone(item: pytest.Function) -> None:
    """Run an async test that no other plugin runs."""
    names = item._fixtureinfo.argnames
    with asyncio.Runner() as runner:
        runner.run(item.obj(**{name: item.funcargs[name] for name in names}))


def run_and_sweep(item: pytest.Item, nextitem: pytest.Item | None, options: dict[str, Any]) -> bool:
    """Run the test as ever, then sweep it; the verdict becomes that of the test.

    ``False`` leaves the test to the other plugins: it failed, and one of them runs such tests again.
    """
    hook = item.ihook
    rerun = _is_tried_again(item)
    if not rerun:
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports, seen = _run_as_ever(item, options)
    if rerun:
        if any(report.failed for report in reports):
            item.stash[again_key] = True
            return False
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    call = next((report for report in reports if report.when == "call"), None)
    if call is not None and call.passed and all(report.passed for report in reports):
        _stop_timer(item)
        _judge(item, call, reports, options, seen)
    teardown = CallInfo.from_call(lambda: item.session._setupstate.teardown_exact(nextitem), when="teardown")
    if teardown.excinfo is not None:
        reports.append(hook.pytest_runtest_makereport(item=item, call=teardown))
    for report in reports:
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _is_tried_again(item: pytest.Item) -> bool:
    """Whether pytest-rerunfailures runs the test again when it fails; that it is installed says nothing yet."""
    found = plugin(item.config, "rerunfailures")
    tries = getattr(found, "get_reruns_count", None)
    return found is not None and (tries is None or bool(tries(item)))


def _has_helpers(options: dict[str, Any]) -> bool:
    """Whether a function of its own judges the world of the test: then no other test is called off in its place."""
    return any(options.get(role) is not None for role in HELPERS)


def _run_as_ever(item: pytest.Item, options: dict[str, Any]) -> tuple[list[pytest.TestReport], list[Seen] | None]:
    """The test's own run, and the awaits that it came by; what fails while these are noted is run again without."""
    assert isinstance(item, pytest.Function)
    wanted = suite_of(item.config).shares and not _has_helpers(options) and not _foreign(item)
    with noted(item, wanted) as noting:
        reports = runtestprotocol(item, log=False, nextitem=Sibling(item))  # type: ignore[arg-type]
    if noting.seen is not None and any(report.failed for report in reports):
        return runtestprotocol(item, log=False, nextitem=Sibling(item)), None  # type: ignore[arg-type]
    return reports, noting.seen


def _stop_timer(item: pytest.Item) -> None:
    """The limits of pytest-timeout and of pytest's faulthandler are for the test, not for its sweep: a run has its own."""
    faulthandler.cancel_dump_traceback_later()
    if plugin(item.config, "timeout") is not None:
        item.ihook.pytest_timeout_cancel_timer(item=item)


def _judge(
    item: pytest.Item,
    call: pytest.TestReport,
    all_: list[pytest.TestReport],
    options: dict[str, Any],
    seen: list[Seen] | None,
) -> None:
    tree: list[str] = []
    try:
        report = _swept(item, options, call.duration, tree, seen)
    except (TypeError, ValueError, OSError) as error:
        call.outcome = "failed"
        call.longrepr = _Text(f"cancel sweep: {error}", f"cancel sweep: {error}", item)
        return
    except NotForUs as reason:
        leave_out(all_, call, str(reason))
        return
    except (Exception, OutcomeException) as error:
        leave_out(all_, call, f"the sweep failed: {type(error).__name__}: {error}")
        return
    if report is None:
        return
    if report.error:
        leave_out(all_, call, " ".join(report.error.split())[-300:], "ERROR")
        return
    summary = str(report).splitlines()[-1]
    known = [f"{finding.id}: {reason}" for finding, reason in report.silenced]
    notes = {
        "verdict": report.verdict,
        "points": report.points,
        "runs": report.runs,
        "summary": summary,
        "known": known,
        "restored": tree,
    }
    more, fails = suite_of(item.config).judged(report)
    notes |= more
    setattr(call, NOTES, notes)
    for each in all_:  # JUnit's file takes those of the last
        each.user_properties += [("cancel_sweep", summary), *(("cancel_sweep_known", line) for line in known)]
    folder = item.config.getoption("--cancel-sweep-html")
    if folder:
        _file_in(folder, item, ".html").write_text(report.html(), encoding="utf-8")
    if fails:
        call.outcome = "failed"
        call.longrepr = _Text(str(report), summary, item)


def leave_out(all_: list[pytest.TestReport], call: pytest.TestReport, reason: str, verdict: str = "SKIPPED") -> None:
    """The test passes, and is counted as not swept."""
    summary = f"not swept: {reason}"
    setattr(
        call, NOTES, {"verdict": verdict, "points": 0, "runs": 0, "summary": summary, "known": [], "reason": reason}
    )
    for each in all_:
        each.user_properties.append(("cancel_sweep", summary))


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


def _foreign(item: pytest.Item) -> str:
    """Why a test is not for the sweep, as far as that can be told without running it."""
    if item.get_closest_marker("trio") is not None and plugin(item.config, "trio") is not None:
        return "pytest-trio runs it, on trio"
    params = getattr(getattr(item, "callspec", None), "params", {})
    backend = params.get("anyio_backend", "")
    if "trio" in (backend if isinstance(backend, tuple) else (backend,)):
        return "it runs on trio"
    if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        return "hypothesis runs it many times"
    return ""


def _swept(
    item: pytest.Item, options: dict[str, Any], took: float, changed: list[str], seen: list[Seen] | None
) -> SweepReport | None:
    assert isinstance(item, pytest.Function)
    config = item.config
    runners, runner = suite_of(config).runners, _runner(item)
    if reason := _foreign(item) or runners.get(runner, ""):
        raise NotForUs(reason)
    isolate = options.pop("isolate", True) and not config.getoption("--cancel-sweep-in-process")
    phases = options.pop("phases", None) or str(option(config, "phases") or ",".join(PHASES)).split(",")
    max_runs = options.pop("max_runs", None) or option(config, "max")
    max_runs = None if max_runs is None else int(max_runs)
    without = [word for part in option(config, "without") or () for word in part.split(",")]
    known = config.stash.get(known_key, dict[str, str]()) | options.pop("known", {})
    folder = config.getoption("--cancel-sweep-resume")
    alone = _has_helpers(options)
    for role in HELPERS:
        options.pop(role, None)
    case = make_case(
        inspect.unwrap(item.obj),
        setup=None,
        teardown=_fixtures,
        check=None,
        bystander=None,
        timeout=options.pop("timeout", None) or float(option(config, "timeout") or 5.0),
        children=options.pop("children", True),
        how=options.pop("how", None) or option(config, "how") or "cancel",
        without={*options.pop("without", ()), *without},
        calls=True,
        patience=5 * took,
    )
    if options:
        raise TypeError(f"the mark cancel_sweep does not know {', '.join(sorted(options))}")
    replay = config.getoption("--cancel-sweep-replay")
    terms = repr([case.terms, sorted(phases), max_runs, sorted(known), isolate])
    sweeping = Sweeping(
        case,
        phases=phases,
        max_runs=max_runs,
        wants=None if alone else Wants(suite_of(config), item.nodeid, terms),
        concerns=suite_of(config).concerns,
        learnt=suite_of(config).learnt,
        known=known,
        replay=replay,
        target=item.nodeid,
        journal=None if folder is None else Journal(_file_in(folder, item, ".jsonl")),
        again=f"pytest '{item.nodeid}' --cancel-sweep --cancel-sweep-replay {{id}}",
    )
    if seen is not None and (report := sweeping.done_elsewhere(seen)) is not None:
        return report
    run = functools.partial(carry_out, item, case, isolate)
    try:
        report = _in_its_place(config, run, sweeping, case, isolate, changed)
        if report is not None and report.error and not sweeping.lost:
            raise NotForUs(f"run once more, {_brief(report.error)}")
        return report
    except NotForUs as error:
        if runner is not None:
            runners[runner] = str(error)  # a run is not needed to know it of the next test
        raise


def _brief(error: str) -> str:
    """The message of a traceback; what is one line stays as it is."""
    lines = [line.removeprefix("E").strip() for line in error.splitlines() if line.startswith("E ")]
    return f"it fails: {' '.join(lines)[:200]}" if lines else " ".join(error.split())[:300]


def _runner(item: pytest.Function) -> Any:
    """The code of the decorator that runs a test; ``None`` where a plugin does."""
    return None if inspect.iscoroutinefunction(item.obj) else getattr(item.obj, "__code__", None)


def _in_its_place(
    config: pytest.Config,
    run: Callable[[Any], Result],
    sweeping: Sweeping,
    case: Case,
    isolate: bool,
    changed: list[str],
) -> SweepReport | None:
    if not isolate:
        return _run([_InProcess(run)], sweeping, isolate)
    tree = _tree(config)
    try:
        limit = 4 * case.timeout + 10 + 3 * case.patience
        return _run([Server(run, limit, around=tree, again=True)], sweeping, isolate)
    finally:
        changed += tree.close()


def _run(places: list[Place], sweeping: Sweeping, isolate: bool) -> SweepReport | None:
    try:
        return _driven(sweeping.run(places), isolate)
    except ValueError:
        if sweeping.replay is not None:
            return None  # the id belongs to another test
        raise
    finally:
        for place in places:
            place.close()


def _tree(config: pytest.Config) -> Tree:
    """What the runs must leave as it is: the project, without pytest's temporary folders."""
    factory: Any = getattr(config, "_tmp_path_factory", None)
    but = [] if factory is None else [str(factory.getbasetemp())]
    return Tree({str(config.rootpath), str(config.invocation_params.dir)}, but)


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
