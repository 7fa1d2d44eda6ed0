"""One run of a test that is swept: its fixtures are set up, its function is called off at one point, all is torn down.

The test's own function is put inside a wrapper. Where a plugin runs the async function that pytest has, that function is
replaced. Where a decorator made a plain one of it, the code of the async function within is replaced: whoever holds it,
and runs it on whatever loop, gets the wrapper.
"""

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import Any, Protocol

import pytest
from _pytest.runner import runtestprotocol
from _pytest.unittest import TestCaseFunction

from ._pytest import helpers_key
from ._sweep.blocked import is_alone
from ._sweep.case import Case, Result
from ._sweep.clock import standing
from ._sweep.opened import record_opening
from ._sweep.plan import Plan
from ._sweep.touched import watched_locks
from ._sweep.trial import Trial

__all__ = ["Sibling", "carry_out", "foreign_loop", "plugin", "put_in"]


def plugin(config: pytest.Config, name: str) -> Any:
    """The plugin ``pytest-NAME``, however it was loaded, or ``None``."""
    manager = config.pluginmanager
    return manager.get_plugin(name) or manager.get_plugin(f"pytest_{name}")


class Sibling:
    """Stands for a next test in the same place: only what belongs to this one is torn down."""

    def __init__(self, item: pytest.Item) -> None:
        self._chain = item.listchain()[:-1]

    def listchain(self) -> list[Any]:
        """The nodes from the session down."""
        return list(self._chain)


def carry_out(item: pytest.Function, case: Case, isolate: bool, order: tuple[Plan | None, Result | None]) -> Result:
    """Run the test once under a plan, with its fixtures."""
    probe = _Probe(item, case, *order)
    with ExitStack() as stack:
        if isolate:
            record_opening()
            _without_timer(item.config)
            stack.enter_context(
                _patched(asyncio.BaseEventLoop, "run_forever", standing(asyncio.BaseEventLoop.run_forever))
            )
        stack.enter_context(put_in(item, probe))
        stack.enter_context(_no_capture(item.config, isolate))
        stack.enter_context(_patched(asyncio.Runner, "close", probe.look_before(asyncio.Runner.close)))
        stack.enter_context(_patched(asyncio.BaseEventLoop, "close", probe.look_before(asyncio.BaseEventLoop.close)))
        reports = runtestprotocol(item, log=False, nextitem=Sibling(item))  # type: ignore[arg-type]
    return probe.result(reports)


class _Probe:
    """Gets between the test's function and the loop on which somebody runs it."""

    def __init__(self, item: pytest.Function, case: Case, plan: Plan | None, usual: Result | None) -> None:
        self._item = item
        self._case = case
        self._plan = plan
        self._usual = usual
        self._trial: Trial | None = None
        self._looked = False
        self._skipped = ""

    def wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function that is run in place of the test's."""

        @functools.wraps(function)
        async def swept(*args: Any, **kwargs: Any) -> Any:
            self._skipped = foreign_loop()
            if self._skipped or self._trial is not None:
                return await function(*args, **kwargs)
            helpers = self._item.stash.get(helpers_key, {})
            case = self._case.with_helpers(**helpers)
            self._trial = trial = Trial(case, self._plan, self._usual)

            def make() -> Any:
                return function(*args, **kwargs)

            with watched_locks(), trial.watching():
                await trial.body(make)
                await trial.see_check()
                await trial.see_restart(make)
            return None

        return swept

    def look_before(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        """Have the last look when the fixtures are torn down and before the loop cancels what is left."""

        def close(owner: Any) -> None:
            if owner is getattr(self._trial, "loop", None) or isinstance(owner, asyncio.Runner):
                self.last_look()
            original(owner)

        return close

    def last_look(self) -> None:
        """Judge what is left."""
        trial = self._trial
        if trial is None or self._looked:
            return
        self._looked = True
        if not trial.loop.is_closed() and not trial.loop.is_running():
            trial.loop.run_until_complete(trial.let_go())
        trial.finish()
        executor: Any = getattr(trial.loop, "_default_executor", None)
        if executor is not None and is_alone():  # whoever closes the loop would wait for a thread that never ends
            executor.shutdown(wait=False)
            trial.loop._default_executor = None  # type: ignore[attr-defined]

    def result(self, reports: list[pytest.TestReport]) -> Result:
        """What the run showed."""
        if self._trial is None:
            failed = next((str(report.longrepr) for report in reports if not report.passed), "")
            if self._skipped or not failed:
                return Result(self._plan, skipped=self._skipped or "its function did not come to run")
            return Result(self._plan, broken=failed[-2000:])
        self.last_look()
        result = self._trial.result
        for report in reports:
            if report.failed:
                if self._plan is None and report.when == "teardown" and result.restart == "ok":
                    result.restart = f"makes the teardown fail: {_last_line(report)}"
                elif self._plan is None or report.when == "setup":
                    result.broken = str(report.longrepr)[-2000:]
                else:
                    self._trial.violated("teardown", f"after it, the {report.when} failed: {_last_line(report)}")
        return result


def foreign_loop() -> str:
    """Why the code that runs now can't be swept, or ``""``."""
    if asyncio._get_running_loop() is not None and asyncio.current_task() is not None:
        return ""
    trio: Any = sys.modules.get("trio")
    if trio is not None:
        try:
            trio.lowlevel.current_trio_token()
            return "it runs on trio"
        except RuntimeError:
            pass
    return "it does not run in a task of asyncio"


def _last_line(report: pytest.TestReport) -> str:
    lines = [line for line in str(report.longrepr).splitlines() if line.startswith("E ")] or [str(report.longrepr)]
    return lines[-1].removeprefix("E").strip()[:300]


# --- getting between


class Wrapper(Protocol):
    """Puts something of its own around a test's function."""

    def wrapped(self, function: Callable[..., Any], /) -> Callable[..., Any]:
        """The function that is run in its place."""
        ...


def put_in(item: pytest.Function, probe: Wrapper) -> Any:
    """While the block runs, the test's function is what `probe` makes of it."""
    owner, name = (item.cls, item.name) if isinstance(item, TestCaseFunction) else (item, "obj")
    function = getattr(owner, name)
    if inspect.iscoroutinefunction(function):
        return _patched(owner, name, probe.wrapped(function))
    return _replaced_code(inspect.unwrap(function), probe)


@contextmanager
def _replaced_code(function: FunctionType, probe: Wrapper) -> Generator[None]:
    """Whoever calls `function` while the block runs gets the wrapper."""
    code = function.__code__
    copy = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    wrapper = probe.wrapped(copy)
    template = _stand_in.__code__
    consts = tuple(wrapper if const == _HERE else const for const in template.co_consts)
    function.__code__ = template.replace(co_consts=consts, co_freevars=code.co_freevars, co_name=code.co_name)
    try:
        yield
    finally:
        function.__code__ = code


_HERE = "the wrapper"


async def _stand_in(*args: Any, **kwargs: Any) -> Any:
    wrapper: Any = "the wrapper"
    return await wrapper(*args, **kwargs)


@contextmanager
def _patched(owner: Any, name: str, new: Any) -> Generator[None]:
    """Put `new` in the place of an attribute while the block runs."""
    old = getattr(owner, name)
    setattr(owner, name, new)
    try:
        yield
    finally:
        setattr(owner, name, old)


def _without_timer(config: pytest.Config) -> None:
    """A run has its own limit: pytest-timeout's would count for all that the sweep does in it."""
    found = plugin(config, "timeout")
    if found is not None:
        config.pluginmanager.unregister(found)


@contextmanager
def _no_capture(config: pytest.Config, forked: bool) -> Generator[None]:
    """Keep pytest's capturing out: its files are shared with the process that forked."""
    manager: Any = config.pluginmanager.getplugin("capturemanager") if forked else None
    before = getattr(manager, "_global_capturing", None)
    if before is None:
        yield
        return
    from _pytest.capture import MultiCapture

    manager._global_capturing = MultiCapture(in_=None, out=None, err=None)
    try:
        yield
    finally:
        manager._global_capturing = before
