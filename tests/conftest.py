"""Every test that is an async function, or takes `arun`, runs on each kind of event loop that this Python has."""

import asyncio
import functools
import gc
import inspect
import itertools
import linecache
import os
import signal
import sys
import threading
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from blocking_calls import nothing_blocks, watch_for_blocking_calls

import calloff
from calloff._operation.operation import Operation
from calloff._scopes.timers import Timers

try:
    import uvloop
except ImportError:  # pragma: no cover - uvloop has wheels for every Python we test on
    uvloop = None  # type: ignore[assignment]

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # where the borders and the engines are tested
    pass
else:  # how long an example takes says nothing on a busy machine
    settings.register_profile(
        "calloff", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("calloff")

TIMES_OUT_AFTER_A_CANCEL = pytest.mark.skipif(
    sys.version_info < (3, 11, 3),
    reason="before 3.11.3 asyncio.timeout lets a cancel through in a task that was cancelled",
)

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
chosen = os.environ.get("CALLOFF_TEST_LOOPS", "")
#: whether each test has its turn on one kind only: another one on the next Python
IN_TURN = chosen == "turns"
if chosen and not IN_TURN:
    KINDS = [kind for kind in KINDS if kind in chosen.split(",")]


@pytest.fixture
def short_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last second of the ladder takes less than half of one. (That it is one second is tested on its own.)"""
    monkeypatch.setattr(Operation, "policy", Operation.policy._replace(last=0.4))


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


def has_its_turn(item: pytest.Item) -> bool:
    """Whether a test of one kind of loop is run on this Python, of those that differ in the kind alone one is."""
    case = getattr(item, "callspec", None)
    if case is None or case.params.get("loop_kind") not in KINDS:
        return True
    others = sorted((name, index) for name, index in case.indices.items() if name != "loop_kind")
    name = f"{item.location[0]} {item.getparent(pytest.Class)} {getattr(item, 'originalname', '')} {others}"
    turn = (zlib.crc32(name.encode()) + sys.version_info.minor) % len(KINDS)
    return KINDS[turn] == case.params["loop_kind"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if IN_TURN:
        others = [item for item in items if not has_its_turn(item)]
        config.hook.pytest_deselected(items=others)
        gone = set(others)
        items[:] = [item for item in items if item not in gone]


def pytest_collection_finish() -> None:
    """Thousands of tests are many objects, which no collection of garbage need look at again."""
    gc.collect()
    gc.freeze()


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


@pytest.fixture(autouse=True)
def lines_of_the_test_are_known(request: pytest.FixtureRequest) -> None:
    """Whoever reads lines is waited for a quarter of a second, in which a busy machine may give it no turn."""
    linecache.getlines(str(request.path))


@pytest.fixture
def crun(loop_kind: str) -> Callable[..., Any]:
    """`calloff.run` on that kind of loop."""

    def run(main: Any, **options: Any) -> Any:
        return calloff.run(main, loop_factory=loop_factory(loop_kind), **options)

    return run


@pytest.fixture
def patient() -> Any:
    """What is forced has a minute, not a second: a busy machine may give its thread no turn for that long."""
    with pytest.MonkeyPatch.context() as patched:  # of its own: a test may undo what it has patched itself
        patched.setattr(calloff.Operation, "policy", calloff.Operation.policy._replace(last=60.0))
        yield


@pytest.fixture
def begins_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits are heard some turns after the last was set, behind what is ready: a body has begun, and what it starts, too.

    uvloop calls timers first. On a busy machine a short limit is over before the loop turns, and nothing would begin.
    """
    add, fire = Timers.add, Timers._fire
    added = itertools.count()
    latest = 0

    def counted(timers: Timers, *what: Any) -> None:
        nonlocal latest
        latest = next(added)
        add(timers, *what)

    def behind(timers: Timers, turns: int = 5, since: int = -1) -> None:
        if turns:
            turns, since = (turns - 1, since) if since == latest else (5, latest)
            timers.loop.call_soon(behind, timers, turns, since)
        else:
            fire(timers)

    # stands for code of ours, in which nothing is raised; what is left at the end of a grace would never call the timers
    behind.__code__ = behind.__code__.replace(co_filename=add.__code__.co_filename)
    monkeypatch.setattr(Timers, "add", counted)
    monkeypatch.setattr(Timers, "_fire", behind)


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Without what Python says of the garbage of tests before this one, whenever it comes by that."""
    gc.collect()
    caplog.clear()
    return caplog


@pytest.fixture
def recwarn(recwarn: pytest.WarningsRecorder) -> pytest.WarningsRecorder:
    """Without the warnings of the garbage of tests before this one."""
    gc.collect()
    recwarn.clear()
    return recwarn


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
