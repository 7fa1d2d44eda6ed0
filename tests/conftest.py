"""Every test that is an async function, or takes `arun`, runs on each kind of event loop that this Python has."""

import asyncio
import functools
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from blocking_calls import nothing_blocks, watch_for_blocking_calls

import calloff

try:
    import uvloop
except ImportError:  # pragma: no cover - uvloop has wheels for every Python we test on
    uvloop = None  # type: ignore[assignment]

# Threads are not traced for coverage: an exception that is forced into a thread would hit the tracer, too, between its
# locking and unlocking, and stop everything for good.
threading.settrace(None)

watch_for_blocking_calls()

# In the background of a shell (``scripts/test &``) these are ignored, also by all that we start: nothing could be tested.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),  # as by nohup
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

KINDS = ["asyncio"] + (["uvloop"] if uvloop else []) + (["eager"] if sys.version_info >= (3, 12) else [])
if chosen := os.environ.get("CALLOFF_TEST_LOOPS"):
    KINDS = [kind for kind in KINDS if kind in chosen.split(",")]


def loop_factory(kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """How to make a loop of that kind."""
    if kind == "uvloop":
        return uvloop.new_event_loop
    if kind == "eager":

        def eager() -> asyncio.AbstractEventLoop:
            loop = asyncio.new_event_loop()
            loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # since 3.12
            return loop

        return eager
    return asyncio.new_event_loop


@pytest.fixture(params=KINDS)
def loop_kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def arun(loop_kind: str) -> Callable[..., Any]:
    """Run an async function (or a coroutine) to its end on a fresh loop."""

    def run(work: Any, *args: Any, timeout: float = 60) -> Any:
        coro: Coroutine[Any, Any, Any] = work if asyncio.iscoroutine(work) else work(*args)

        async def bounded() -> Any:
            async with asyncio.timeout(timeout):
                return await coro

        with asyncio.Runner(loop_factory=loop_factory(loop_kind)) as runner:
            return runner.run(bounded())

    return run


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: object) -> None:
    if inspect.iscoroutinefunction(obj) and collector.istestfunction(obj, name):
        pytest.mark.usefixtures("arun")(obj)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    given: dict[str, Any] = pyfuncitem.funcargs
    given["arun"](functools.partial(test, **{name: given[name] for name in inspect.signature(test).parameters}))
    return True


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is forced has a minute, not a second: a busy machine may give its thread no turn for that long."""
    monkeypatch.setattr(calloff.Operation, "policy", replace(calloff.Operation.policy, last=60.0))


@pytest.fixture(autouse=True)
def nothing_left_listed() -> Any:
    """A test that leaves an operation listed has leaked it (abandoned ones end with their loop)."""
    before = set(calloff.operations())
    yield
    left = [op for op in calloff.operations() if op not in before and not op.get_loop().is_closed()]
    assert not left, f"left running: {left}"


@pytest.fixture(autouse=True)
def no_code_of_ours_blocks_a_loop() -> Any:
    """In every test, whatever loop it runs on."""
    with nothing_blocks():
        yield
