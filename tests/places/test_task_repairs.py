"""What puts things in order in an ``except CancelledError``, and raises again, is passed by by no force."""

import ast
import asyncio
import builtins
import contextlib
import gc
import textwrap
import types
import weakref
from asyncio import CancelledError
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest
from conftest import TIMES_OUT_AFTER_A_CANCEL

import calloff
from calloff._places.task.repairs import standing

Seen = list[str]
#: global names of a clause's types
BOTH = (OSError, CancelledError)
NEITHER = (OSError, ValueError)


def base() -> type[BaseException]:
    return CancelledError


#: whether what is raised there is a `CancelledError`, too: it is where the clause would not have seen `StopForced`
CLAUSES = {
    "except CancelledError": True,
    "except CancelledError as error": True,
    "except asyncio.CancelledError": True,
    "except (OSError, asyncio.CancelledError)": True,
    "except BOTH": True,
    "except base()": False,
    "except OSError: pass\n    except CancelledError": True,
    "except Exception: pass\n    except asyncio.exceptions.CancelledError": True,
    "except Exception": False,
    "except NEITHER": False,
    "except BaseException": False,
    "except": False,
    "except (CancelledError, StopForced)": False,
    "except (StopForced, asyncio.CancelledError)": False,
    "except StopForced": False,
}
PAUSE = "await asyncio.sleep(1000)"


def function(text: str) -> Callable[[Seen], Awaitable[object]]:
    """Return the function ``f`` of a text."""
    names = {**globals(), "StopForced": calloff.StopForced}
    exec(compile(text, "<text>", "exec", dont_inherit=True), names)
    made: Callable[[Seen], Awaitable[object]] = names["f"]
    return made


def tries(clause: str, end: str = "raise", body: str = PAUSE) -> Callable[[Seen], Awaitable[object]]:
    return function(f"async def f(seen):\n    try: {body}\n    {clause}:\n        seen.append('repaired'); {end}\n")


async def forced(work: Callable[[Seen], Awaitable[object]], *, child: bool = False, grace: float = 0.1) -> Seen:
    """Force a clean-up that does `work`; return what that has seen, and the exception that has come out of it."""
    seen: Seen = []

    async def clean_up() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            try:
                await work(seen)
            except BaseException as error:
                seen.append(type(error).__name__)
                raise

    async def body() -> None:
        await (asyncio.gather(clean_up()) if child else clean_up())

    outcome = await stop(body(), grace=grace)
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.FORCED
    return seen


async def stop(coro: Any, grace: float) -> calloff.Outcome[None]:
    op: calloff.Operation[None] = calloff.start(coro, grace=grace)
    for _ in range(20):
        await asyncio.sleep(0)
    return await op.stop()


CHILD = pytest.mark.parametrize("child", [False, True])
pytestmark = pytest.mark.usefixtures("patient")


@pytest.mark.parametrize("clause", CLAUSES)
async def test_a_clause_for_cancelled_error_is_heard(clause: str) -> None:
    seen = await forced(tries(clause))
    if CLAUSES[clause]:
        assert seen == ["repaired", "ForcedOut"]
    else:
        assert seen[-1] == "StopForced"


@pytest.mark.parametrize(
    "end",
    [
        "raise error",
        "raise error.with_traceback(None)",
        "\n        try: seen.sort()\n        finally: raise error",
        "\n        try: seen.sort()\n        except BaseException: raise\n        raise",
    ],
)
async def test_a_clause_that_raises_it_by_its_name_is_heard(end: str) -> None:
    assert await forced(tries("except CancelledError as error", end)) == ["repaired", "ForcedOut"]


@CHILD
@pytest.mark.parametrize("end", ["pass", "return", "seen.append('again')"])
async def test_a_clause_that_swallows_is_passed_by(end: str, child: bool) -> None:
    assert await forced(tries("except CancelledError", end), child=child) == ["StopForced"]


async def test_a_clause_around_something_else_is_not_looked_at() -> None:
    before = "async def f(seen):\n    try: await asyncio.sleep(0)\n    except CancelledError: raise\n    "
    assert await forced(function(before + PAUSE)) == ["StopForced"]
    inside = (
        f"async def f(seen):\n    try: raise OSError\n    except CancelledError: raise\n    except OSError: {PAUSE}\n"
    )
    assert await forced(function(inside)) == ["StopForced"]


async def test_a_clause_is_found_at_any_distance_and_in_code_of_any_length() -> None:
    deep = "async def g(n):\n    await (g(n - 1) if n else asyncio.sleep(1000))\n"
    work = (
        f"async def f(seen):\n    try: await g(50)\n    except CancelledError: seen.append('repaired'); raise\n{deep}"
    )
    assert await forced(function(work)) == ["repaired", "ForcedOut"]
    long = "seen.append('x') if len(seen) > 9 else None; " * 400
    work = f"async def f(seen):\n    try:\n        {long}{PAUSE}\n    except OSError:\n        {long}\n        raise\n"
    work += f"    except CancelledError:\n        {long}seen.append('repaired')\n        raise\n    {long}\n"
    assert await forced(function(work)) == ["repaired", "ForcedOut"]


@contextlib.asynccontextmanager
async def lease(seen: Seen) -> AsyncIterator[None]:
    try:
        yield
    except CancelledError:
        seen.append("repaired")
        raise


@contextlib.contextmanager
def plain_lease(seen: Seen) -> Iterator[None]:
    try:
        yield
    except (OSError, CancelledError):
        seen.append("repaired")
        raise


@types.coroutine
def old_style(seen: Seen) -> Generator[Any, Any, None]:
    try:
        yield from asyncio.sleep(1000).__await__()
    except CancelledError:
        seen.append("repaired")
        raise


async def in_lease(seen: Seen) -> None:
    async with lease(seen):
        await asyncio.sleep(1000)


async def in_plain_lease(seen: Seen) -> None:
    with plain_lease(seen):
        await asyncio.sleep(1000)


async def in_stack(seen: Seen) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(lease(seen))
        stack.enter_context(contextlib.nullcontext())
        await asyncio.sleep(1000)


async def in_plain_stack(seen: Seen) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(plain_lease(seen))
        await asyncio.sleep(1000)


@pytest.mark.parametrize("work", [in_lease, in_plain_lease, in_stack, in_plain_stack, old_style])
async def test_generators_are_heard_as_well(work: Callable[[Seen], Awaitable[object]]) -> None:
    assert await forced(work) == ["repaired", "ForcedOut"]


async def test_what_it_awaits_there_has_a_moment() -> None:
    assert await forced(tries("except CancelledError", "await asyncio.sleep(0.25); seen.append('whole'); raise")) == [
        "repaired",
        "whole",
        "ForcedOut",
    ]


async def test_what_hangs_there_is_forced_all_the_same() -> None:
    assert await forced(tries("except CancelledError", f"{PAUSE}; raise")) == ["repaired", "StopForced"]


@CHILD
async def test_what_hangs_in_two_of_them_is_forced_all_the_same(child: bool) -> None:
    work = f"""
async def g(seen):
    try: {PAUSE}
    except CancelledError:
        {PAUSE}
        raise

async def f(seen):
    try: {PAUSE}
    except CancelledError:
        await g(seen)
        raise
"""
    assert (await forced(function(work), child=child))[-1] == "StopForced"


@pytest.mark.parametrize("first", ["pass", "await asyncio.sleep(0.01)"])
async def test_who_swallows_it_now_and_then_is_forced_all_the_same(first: str) -> None:
    work = f"""
async def f(seen):
    try: {PAUSE}
    except CancelledError:
        {first}
        if seen: raise
    seen.append("went on")
    {PAUSE}
"""
    assert await forced(function(work)) == ["StopForced"]


@CHILD
async def test_who_keeps_it_and_goes_on_is_forced_all_the_same(child: bool) -> None:
    work = f"""
async def f(seen):
    kept = None
    while not seen:
        try: {PAUSE}
        except CancelledError as error:
            if seen: raise
            kept = error
    raise kept
"""
    assert await forced(function(work), child=child) == ["StopForced"]


@pytest.mark.parametrize("end", ["finally", "except BaseException"])
async def test_what_force_reaches_by_itself_has_its_time(end: str) -> None:
    """It is not cut short, as what hangs in a clause is; nor is the leaving of a block, whose method is told the error."""
    work = f"""
class Block:
    async def __aenter__(self): pass
    async def __aexit__(self, kind, error, trace): await asyncio.sleep(0.7)

async def f(seen):
    try:
        async with Block():
            try: {PAUSE}
            except CancelledError:
                seen.append("repaired")
                raise
    {end}:
        await asyncio.sleep(0.7)
        seen.append("whole")
        if "{end}" != "finally": raise
"""
    assert await forced(function(work)) == ["repaired", "whole", "ForcedOut"]


# --- what it must not harm


lib: Any = function(f"async def f():\n    try: {PAUSE}\n    except CancelledError: raise\n")


async def test_what_is_awaited_after_it_was_swallowed_is_not_harmed() -> None:
    """A task, an operation and a future of somebody else's."""
    free = asyncio.Event()
    task: asyncio.Task[bool] = asyncio.create_task(free.wait())
    op = calloff.start(free.wait())
    future = asyncio.get_running_loop().create_future()
    for other in (task, op, future, asyncio.gather(task, op, future)):

        async def work(_: Seen, other: Any = other) -> None:
            with contextlib.suppress(CancelledError):
                await lib()
            await other

        assert await forced(work) == ["StopForced"]
    free.set()
    future.set_result(True)
    assert await task is await op is await future is True


@pytest.mark.parametrize("ends", ["pass", "await asyncio.sleep(0)"])
async def test_who_only_yields_after_that_is_forced_all_the_same(ends: str) -> None:
    work = f"""
async def f(seen):
    try:
        try: {PAUSE}
        except CancelledError:
            {ends}
            raise
    except CancelledError: pass
    while True: await asyncio.sleep(0)
"""
    assert await forced(function(work)) == ["StopForced"]


@CHILD
async def test_a_cancel_of_somebody_else_does_not_take_its_place(child: bool) -> None:
    work = f"""
async def f(seen):
    while True:
        try:
            try: {PAUSE}
            except CancelledError:
                await asyncio.sleep(0.001)
                raise
        except CancelledError: pass
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001): {PAUSE}
"""
    assert await forced(function(work), child=child) == ["StopForced"]


@CHILD
async def test_what_hangs_in_a_context_manager_is_forced_all_the_same(child: bool) -> None:
    work = f"""
@contextlib.asynccontextmanager
async def lease():
    try: yield
    except CancelledError:
        {PAUSE}
        raise

async def f(seen):
    async with lease(): {PAUSE}
"""
    assert await forced(function(work), child=child) == ["StopForced"]


async def test_who_keeps_it_in_a_finally_is_forced_all_the_same() -> None:
    work = """
async def f(seen):
    for _ in range(100):
        try: await lib()
        except CancelledError as error: last = error
        seen.append("again")
"""
    assert await forced(function(work)) == ["StopForced"]


@CHILD
@pytest.mark.parametrize("waits", ["await child", "await asyncio.gather(child)"])
async def test_what_waits_for_a_child_hears_of_force_and_not_of_a_cancel(waits: str, child: bool) -> None:
    work = f"""
async def f(seen):
    child = asyncio.create_task(lib())
    try: {waits}
    except CancelledError:
        seen.append("cancelled")
        {PAUSE}
"""
    seen = await forced(function(work))
    assert seen == (["StopForced"] if not child else seen)


@pytest.mark.parametrize("group", ["asyncio.TaskGroup", "calloff.TaskGroup"])
async def test_nobody_goes_on_behind_a_group_whose_task_was_forced(group: str) -> None:
    work = f"""
async def f(seen):
    async with {group}() as group:
        group.create_task(lib())
    seen.append("went on")
    {PAUSE}
"""
    assert "went on" not in await forced(function(work))


async def test_nobody_goes_on_behind_a_group_of_anyio_whose_task_was_forced() -> None:
    pytest.importorskip("anyio")
    work = f"""
import anyio

async def f(seen):
    async with anyio.create_task_group() as group:
        group.start_soon(lib)
    seen.append("went on")
    {PAUSE}
"""
    assert "went on" not in await forced(function(work))


async def test_tasks_that_are_started_there_are_forced_with_it() -> None:
    started: list[asyncio.Task[None]] = []

    async def stubborn() -> None:
        while True:
            with contextlib.suppress(CancelledError):
                await asyncio.sleep(1000)

    async def work(seen: Seen) -> None:
        try:
            await asyncio.sleep(1000)
        except CancelledError:
            seen.append("repairs")
            started.extend(asyncio.create_task(stubborn()) for _ in range(2))
            await asyncio.gather(*started)
            raise

    assert (await forced(work))[0] == "repairs"
    assert all(task.done() for task in started)


INSIDE = {
    "finally": f"try: {PAUSE}\n        finally: ",
    "async with": f"async with Block(seen): {PAUSE}\n        ",
    "except BaseException": f"try: {PAUSE}\n        except BaseException: ",
}


@CHILD
@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("around", ["raise", "pass"])
async def test_clean_up_inside_of_a_clause_has_its_time(inside: str, around: str, child: bool) -> None:
    """The clause runs since the asking, and is not what force has led to."""
    work = f"""
class Block:
    def __init__(self, seen): self.seen = seen
    async def __aenter__(self): pass
    async def __aexit__(self, kind, error, trace):
        await asyncio.sleep(0.7)
        self.seen.append("whole")

async def whole(seen):
    await asyncio.sleep(0.7)
    seen.append("whole")

async def g(seen):
    try: {PAUSE}
    except CancelledError:
        {INSIDE[inside]}{"pass" if "with" in inside else "await whole(seen)"}
        raise

async def f(seen):
    try: await g(seen)
    except CancelledError: {around}
"""
    seen: Seen = []
    body: Any = function(work)(seen)
    if child:
        body = asyncio.gather(body)
        outcome = await stop(_awaits(body), grace=0.1)
    else:
        outcome = await stop(body, grace=0.1)
    assert seen == ["whole"]
    assert outcome.report is not None


async def _awaits(future: Any) -> None:
    await future


async def test_who_has_caught_all_and_cleans_up_behind_that_has_his_time() -> None:
    work = """
async def f(seen):
    caught = None
    try: await lib()
    except BaseException as error: caught = error
    await asyncio.sleep(0.7)
    seen.append("whole")
    raise caught
"""
    assert await forced(function(work)) == ["whole", "ForcedOut"]


@pytest.mark.parametrize(
    "raises", ["raise TimeoutError", "raise TimeoutError('late') from None", "raise OSError() from e"]
)
async def test_a_clause_that_makes_another_error_of_it_is_passed_by(raises: str) -> None:
    assert await forced(tries("except CancelledError as e", raises)) == ["StopForced"]


async def test_our_own_scopes_know_it_from_a_cancel() -> None:
    for scope in ("calloff.timeout(0.01)", "calloff.move_on_after(0.01)"):
        work = f"""
async def f(seen):
    with {scope}:
        try: {PAUSE}
        finally:
            await lib()
    seen.append("went on")
"""
        seen = await forced(function(work), grace=1)  # by then the limit has come, on a busy machine, too
        assert seen == ["ForcedOut"], scope


async def test_operations_of_a_group_are_forced_with_it() -> None:
    work = """
async def f(seen):
    async with calloff.group() as group:
        group.start(asyncio.sleep(1000), grace=50)
        await lib()
"""
    assert await forced(function(work)) == ["ForcedOut"]


# --- what stands there may be odd


class Builtins:
    """No dict, and no more than the interpreter asks for."""

    def __getitem__(self, name: str) -> object:
        return getattr(builtins, name)


class Globals(dict[str, Any]):
    def get(self, *_: object) -> Any:
        raise RuntimeError("somebody's own")


CLAUSE = f"try: {PAUSE}\nexcept CancelledError:\n    seen.append('repaired')\n    raise\n"


@pytest.mark.parametrize("kind", ["builtins", "globals"])
async def test_code_in_odd_surroundings_is_forced_as_well(kind: str) -> None:
    names: dict[str, Any] = {"asyncio": asyncio, "CancelledError": CancelledError}
    if kind == "builtins":
        names["__builtins__"] = Builtins()
    exec("async def f(seen):\n" + textwrap.indent(CLAUSE, "    "), names)
    work = names["f"]
    if kind == "globals":
        work = types.FunctionType(work.__code__, Globals(names))
    assert await forced(work) == ["repaired", "ForcedOut"]


async def test_code_outside_of_any_function_is_heard_as_well() -> None:
    async def work(seen: Seen) -> None:
        code = compile(CLAUSE, "<text>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        await eval(code, {"asyncio": asyncio, "CancelledError": CancelledError, "seen": seen})

    assert await forced(work) == ["repaired", "ForcedOut"]


@CHILD
@pytest.mark.parametrize("look", ["_puts_in_order", "_standing"])
async def test_a_look_that_fails_keeps_no_stop_up(
    look: str, child: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("not as it should be")

    monkeypatch.setattr(f"calloff._places.task.repairs.{look}", fails)
    assert (await forced(tries("except CancelledError"), child=child))[-1] in ("StopForced", "ForcedOut")
    caplog.clear()


async def test_what_was_forced_is_freed_without_a_garbage_collector() -> None:
    class Thing:
        pass

    freed: list[weakref.ref[Thing]] = []

    async def body() -> None:
        thing = Thing()
        freed.append(weakref.ref(thing))
        try:
            await asyncio.sleep(1000)
        finally:
            await lib()

    gc.disable()
    try:
        op = calloff.start(body(), grace=0.1)
        await asyncio.sleep(0)
        assert isinstance(await op.stop(), calloff.Cancelled)
        del op
        assert freed[0]() is None
    finally:
        gc.enable()


# --- what was promised before there were clauses to be heard


async def test_a_child_task_passes_such_a_clause_by() -> None:
    """Nobody sees it swallow what it has heard in the same step, so it hears `StopForced` alone."""
    assert await forced(tries("except CancelledError"), child=True) == ["StopForced"]
    assert await forced(tries("except CancelledError", f"{PAUSE}; raise"), child=True) == ["StopForced"]


SWALLOWS = """
async def child(seen):
    try: await lib()
    except CancelledError: seen.append("swallowed")
    return 1
"""


@pytest.mark.parametrize("waits", ["child(seen)", "asyncio.gather(child(seen))", "asyncio.create_task(child(seen))"])
async def test_a_child_that_would_swallow_it_hands_no_value_on(waits: str) -> None:
    work = f"{SWALLOWS}\nasync def f(seen):\n    await asyncio.create_task(g(seen))\n"
    work += f"async def g(seen):\n    await {waits}\n    seen.append('went on')\n"
    assert await forced(function(work)) == ["StopForced"]


@CHILD
async def test_tasks_that_a_clean_up_starts_are_not_forced_with_what_has_led_to_it(child: bool) -> None:
    work = f"""
async def write(seen):
    await asyncio.sleep(0.3)
    seen.append("written")

async def f(seen):
    try: {PAUSE}
    finally: await asyncio.create_task(write(seen))
"""
    seen = await forced(function(work), child=child)
    assert seen == ["written", "StopForced"]


async def test_a_task_of_somebody_else_that_a_clean_up_waits_for_is_not_harmed() -> None:
    innocent = asyncio.create_task(asyncio.sleep(0.3, "whole"))

    async def work(_: Seen) -> None:
        child = asyncio.create_task(asyncio.sleep(1000))
        try:
            await child
        finally:
            await asyncio.wait([innocent])

    assert await forced(work) == ["StopForced"]
    assert await innocent == "whole"


FAILING = {
    "except and raise": "try: int('no number')\n        except BaseException as error:\n"
    "            await hangs(seen)\n            if seen is None: raise",
    "except": "try: int('no number')\n        except ValueError: await hangs(seen)",
    "finally": "try: int('no number')\n        finally: await hangs(seen)",
    "with": "async with Closes(seen): int('no number')",
    "deeper": "try: int('no number')\n        except ValueError as e:\n            try: {}['no key']\n"
    "            except KeyError: await hangs(seen)",
    "called": "await closes(seen)",
}


@pytest.mark.parametrize("way", FAILING)
async def test_what_hangs_behind_another_error_of_such_a_clause_is_forced_all_the_same(way: str) -> None:
    work = f"""
class Closes:
    def __init__(self, seen): self.seen = seen
    async def __aenter__(self): pass
    async def __aexit__(self, *_): await hangs(self.seen)

async def closes(seen):
    try: raise OSError
    except OSError: await hangs(seen)

async def hangs(seen):
    seen.append("closes")
    {PAUSE}

async def f(seen):
    try: {PAUSE}
    except CancelledError as error:
        {FAILING[way]}
        raise
"""
    assert (await forced(function(work)))[0] == "closes"


async def test_what_hangs_while_it_is_kept_in_an_expression_is_forced_all_the_same() -> None:
    work = f"""
async def hangs(): {PAUSE}

async def f(seen):
    try: await lib()
    except CancelledError as error: kept = [error]
    raise (kept.pop(), await hangs())[0]
"""
    assert (await forced(function(work)))[-1] == "StopForced"


LIMITED = {
    "wait_for": "await asyncio.wait_for(asyncio.sleep(1000), 0.2)",
    "timeout": "\n            async with asyncio.timeout(0.2): await asyncio.sleep(1000)",
    "ours": "\n            async with calloff.timeout(0.2): await asyncio.sleep(1000)",
}


@pytest.mark.parametrize("limit", ["wait_for", pytest.param("timeout", marks=TIMES_OUT_AFTER_A_CANCEL), "ours"])
async def test_a_limit_in_a_clean_up_that_force_has_led_to_is_a_limit(limit: str) -> None:
    work = f"""
async def f(seen):
    try: await asyncio.create_task(lib())
    finally:
        try: {LIMITED[limit]}
        except TimeoutError: seen.append("timed out")
"""
    assert await forced(function(work)) == ["timed out", "StopForced"]


@pytest.mark.parametrize("waits", ["await asyncio.gather(*tasks)", "await asyncio.wait(tasks)", "await tasks[0]"])
async def test_a_clean_up_that_waits_for_tasks_goes_on_when_they_have_ended(waits: str) -> None:
    work = f"""
async def whole(seen):
    try: {PAUSE}
    finally:
        await asyncio.sleep(0.2)
        seen.append("written")

async def f(seen):
    tasks = [asyncio.create_task(whole(seen))]
    try: await tasks[0]
    finally:
        with contextlib.suppress(BaseException): {waits}
        await asyncio.sleep(0.1)
        seen.append("closed")
"""
    assert await forced(function(work)) == ["written", "closed", "StopForced"]


async def test_looking_where_it_stands_keeps_nothing_alive() -> None:
    class Thing:
        pass

    freed: list[bool] = []

    async def work(_: Seen) -> None:
        try:
            await asyncio.sleep(1000)
        except CancelledError:
            thing = Thing()
            dead = weakref.ref(thing)
            await asyncio.sleep(0.1)
            del thing
            freed.append(dead() is None)
            raise

    assert await forced(work) == ["ForcedOut"]
    assert freed == [True]


# --- it leads nowhere else than `StopForced` would


#: what stands around `lib`, which puts something in order and raises again; each swallows a cancel, or may
AROUND = {
    "except: pass": "try: await lib()\n        except CancelledError: pass",
    "except: return": "try: await lib()\n        except CancelledError: return",
    "except: keeps": "try: await lib()\n        except CancelledError as error: seen.kept = error",
    "except: now and then": "try: await lib()\n        except CancelledError:\n            if not seen: return\n"
    "            raise",
    "except: another error": "try: await lib()\n        except CancelledError as error: raise OSError from error",
    "except: another error in a call": "try: await lib()\n        except CancelledError: raise OSError('late') from None",
    "except: another error in a variable": "try: await lib()\n        except CancelledError as error:\n"
    "            other = OSError()\n            raise other",
    "except: another error as well": "try: await lib()\n        except CancelledError:\n"
    "            if seen is None: raise\n            raise OSError",
    "except: another error with a traceback": "try: await lib()\n        except CancelledError as error:\n"
    "            raise OSError().with_traceback(error.__traceback__)",
    "except BaseException that looks": "try: await lib()\n        except BaseException as error:\n"
    "            if not isinstance(error, CancelledError): raise",
    "except BaseException that hangs for a cancel": "try: await lib()\n        except BaseException as error:\n"
    "            if isinstance(error, CancelledError): await asyncio.sleep(1000)\n            raise",
    "__exit__": "with Takes(): await lib()",
    "__aexit__": "async with Takes(): await lib()",
    "a function of a stack": "with contextlib.ExitStack() as stack:\n            stack.push(takes)\n"
    "            await lib()",
    "suppress of a tuple": "with contextlib.suppress((OSError, CancelledError)): await lib()",
    "a class of suppress": "with Suppress(CancelledError): await lib()",
    "except*": "try: await lib()\n        except* CancelledError: pass",
    "except base()": "try: await lib()\n        except base(): pass",
    "except A if B else C": "try: await lib()\n        except (CancelledError if seen is not None else OSError): pass",
    "except await": "try: await lib()\n        except (await kinds()): pass",
    "suppress": "with contextlib.suppress(CancelledError): await lib()",
    "suppress in a stack": "with contextlib.ExitStack() as stack:\n            stack.enter_context("
    "contextlib.suppress(OSError, CancelledError))\n            await lib()",
    "a context manager": "async with swallows(): await lib()",
    "an async generator": "async for _ in items(): pass",
}
WHOLE = """
def takes(kind, *_): return kind is not None and issubclass(kind, CancelledError)

class Suppress(contextlib.suppress): pass

class Takes:
    def __enter__(self): pass
    def __exit__(self, kind, *_): return issubclass(kind, CancelledError)
    async def __aenter__(self): pass
    async def __aexit__(self, kind, *_): return issubclass(kind, CancelledError)

async def kinds(): return (CancelledError,)

@contextlib.asynccontextmanager
async def swallows():
    try: yield
    except CancelledError: pass

async def items():
    try:
        await lib()
        yield 1
    except CancelledError: return

"""


@pytest.mark.parametrize("around", AROUND)
async def test_what_swallows_a_cancel_is_passed_by_and_the_clean_up_in_it_is_whole(around: str) -> None:
    work = f"""{WHOLE}
async def inner(seen):
    try:
        {AROUND[around]}
        seen.append("went on")
    finally:
        await asyncio.sleep(0.5)
        seen.append("whole")

async def f(seen):
    try: await inner(seen)
    except CancelledError: raise
    seen.append("went on")
"""

    class Record(list[str]):
        kept: object = None

    seen = Record()
    outcome = await stop(_in_clean_up(function(work)(seen)), grace=0.1)
    assert isinstance(outcome, calloff.Cancelled)
    assert seen == ["whole"]


async def _in_clean_up(work: Awaitable[object]) -> None:
    try:
        await asyncio.sleep(1000)
    finally:
        await work


async def test_code_behind_an_iterator_of_somebodys_own_has_its_time() -> None:
    """What is behind it can't be looked at."""

    class Opaque:
        def __init__(self, coro: Any) -> None:
            self.steps = [coro.__await__()]

        def __await__(self) -> Any:
            return self

        __iter__ = __await__

        def __next__(self) -> Any:
            return next(self.steps[0])

        def throw(self, *error: Any) -> Any:
            return self.steps[0].throw(*error)

    async def work(seen: Seen) -> None:
        try:
            await Opaque(_in_slow_clean_up(seen))
        except CancelledError:
            seen.append("repaired")
            raise

    assert await forced(work) == ["whole", "StopForced"]


async def _in_slow_clean_up(seen: Seen) -> None:
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(0.2)
        seen.append("whole")


async def test_code_behind_more_frames_than_are_looked_at_has_its_time() -> None:
    work = f"""
async def g(n, seen):
    if n: return await g(n - 1, seen)
    try: {PAUSE}
    finally:
        await asyncio.sleep(0.2)
        seen.append("whole")

async def f(seen):
    try: await g(250, seen)
    except CancelledError: raise
"""
    assert await forced(function(work)) == ["whole", "StopForced"]


HANGS = {
    "__exit__": "with Takes(): await lib()",
    "__aexit__": "async with Takes(): await lib()",
    "type": "try: await lib()\n        except BaseException as error:\n            if type(error) is StopForced: raise",
}


@pytest.mark.parametrize("way", HANGS)
async def test_who_swallows_it_in_a_way_that_no_clause_tells_is_forced_in_the_same_step(way: str) -> None:
    work = f"""
class Takes:
    def __enter__(self): pass
    def __exit__(self, kind, *_): return kind is not StopForced
    async def __aenter__(self): pass
    async def __aexit__(self, kind, *_): return kind is not StopForced

async def f(seen):
    while True:
        {HANGS[way]}
        seen.append("once more")
        {PAUSE}
"""
    assert await forced(function(work)) == ["once more", "StopForced"]


async def test_who_has_swallowed_it_and_yields_no_future_is_forced_all_the_same() -> None:
    @types.coroutine
    def odd() -> Generator[Any]:
        yield 5

    class Takes:
        async def __aenter__(self) -> None: ...

        async def __aexit__(self, kind: object, *_: object) -> bool:
            return kind is not calloff.StopForced

    async def work(seen: Seen) -> None:
        async with Takes():
            await lib()
        await odd()

    assert await forced(work) == ["StopForced"]


@pytest.mark.parametrize("place", ["finally", "__aexit__"])
async def test_a_cancel_of_somebody_else_in_a_clean_up_is_not_what_a_clause_there_has_heard(place: str) -> None:
    work = f"""
class Worker:
    def __init__(self, seen): self.seen, self.task = seen, asyncio.create_task(asyncio.sleep(1000))
    async def __aenter__(self): pass
    async def __aexit__(self, *_):
        self.task.cancel()
        try: await self.task
        except CancelledError: await flush(self.seen)

async def flush(seen):
    await asyncio.sleep(0.6)
    seen.append("whole")

async def f(seen):
    if {place == "finally"}:
        worker = Worker(seen)
        try: await lib()
        finally: await worker.__aexit__()
    else:
        async with Worker(seen): await lib()
"""
    assert await forced(function(work)) == ["whole", "ForcedOut"]


async def test_who_keeps_what_it_has_caught_beside_such_a_clause_has_its_time() -> None:
    work = f"""
async def f(seen):
    caught = None
    try: await lib()
    except BaseException as error: caught = error
    await asyncio.sleep(0.6)
    seen.append("whole")
    if caught is None:
        try: {PAUSE}
        except CancelledError: raise
    raise caught
"""
    assert await forced(function(work)) == ["whole", "ForcedOut"]


async def test_a_clause_that_begins_behind_a_clean_up_has_its_moment() -> None:
    work = f"""
async def f(seen):
    try:
        try: {PAUSE}
        finally: await asyncio.sleep(0.5)
    except CancelledError:
        await asyncio.sleep(0.2)
        seen.append("repaired")
        raise
"""
    assert await forced(function(work)) == ["repaired", "ForcedOut"]


async def test_few_looks_are_taken_at_what_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be thousands at once, and each look takes as long as their stacks are deep."""
    looks = 0

    def counts(coro: object, error: Any) -> Any:
        nonlocal looks
        looks += 1
        return standing(coro, error)

    for module in ("body", "climbing"):
        monkeypatch.setattr(f"calloff._places.task.{module}.standing", counts)
    pause = "\n        try: await lib()\n        finally: await asyncio.sleep(0.7)"
    assert await forced(tries("except CancelledError", body=pause)) == ["repaired", "ForcedOut"]
    assert 2 <= looks <= 3
