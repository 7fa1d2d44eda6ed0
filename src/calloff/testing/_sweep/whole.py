"""The door: `sweep`."""

import asyncio
import inspect
import os
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from ..._words.duration import period
from .case import ORACLES, Case, Function
from .clock import own_time_afterwards
from .journal import Journal
from .places import Here, loop_like, make_place, young_garbage_only
from .plan import PHASES
from .report import SweepReport
from .sweeping import Sweeping, known_words
from .touched import watched_locks

__all__ = ["HOWS", "is_async", "make_case", "sweep"]

HOWS = ("cancel", "deadline", "operation", "interrupt")


async def sweep(
    fn: Function,
    *,
    setup: Function | None = None,
    check: Function | None = None,
    teardown: Function | None = None,
    bystander: Function | None = None,
    phases: Sequence[str] = PHASES,
    children: bool = True,
    isolate: bool = True,
    timeout: float = 5.0,
    max_runs: int | None = None,
    how: str = "cancel",
    without: Collection[str] = (),
    known: Mapping[str, str] | None = None,
    jobs: int = 1,
    replay: str | None = None,
    resume: "str | os.PathLike[str] | None" = None,
) -> SweepReport:
    """Run `fn` again and again, call it off at every await in every phase, and tell what breaks.

    First it is run twice without a cancel; what such a run leaves behind, too, is no finding. Then each await gets its
    own runs: called off while it waits (``early``), when the wait has its result and the function has not gone on
    (``late``), and a second time in the clean-up that follows (``double``); and one before its first step (``before``).
    With a `bystander`, it is also called off in the same turn of the loop as some of that one's steps (``amid``).

    Args:
        fn: the async function. It takes what `setup` returned, or nothing when there is no `setup`.
        setup: makes what one run needs.
        check: raises or returns ``False`` where the world is not as it should be after `fn` was called off.
        teardown: ends what `setup` made. What it ends is not counted as left behind.
        bystander: runs beside `fn` and must come to its end whatever happens to `fn`.
        phases: which of ``before``, ``early``, ``late``, ``double``, ``amid`` to try.
        children: also call it off at the awaits of the tasks that it starts.
        isolate: run each time in a process of its own, which can be killed. Without it, everything runs on the running
            loop, and a run that blocks it blocks the sweep.
        timeout: seconds that `fn` may take, and its clean-up after a cancel, and each of the other functions.
        max_runs: at most so many cancels; every line is tried before a line is tried again. ``None`` for all.
        how: ``cancel`` (`asyncio.Task.cancel`), ``deadline`` (an `asyncio.timeout` around it), ``operation`` (it runs as
            a calloff operation, which is cancelled; a second cancel in its clean-up is force, as when the grace is
            over) or ``interrupt`` (a SIGINT, as a program under `calloff.run` gets it, and a second one).
        without: oracles to switch off.
        known: findings to live with: their ids, with the reason for each. They are listed, and don't count.
        jobs: how many runs to have at once; more than one only when isolated.
        replay: the id of a finding: only that cancel is tried.
        resume: a file that keeps the result of each cancel. The next sweep with the same file tries only what is
            missing, so a sweep that was interrupted, or that has a budget, goes on. It begins anew when Python, a
            package on the way, an option or a source file of yours that is loaded has changed.

    Returns:
        The report; ``report.assert_safe()`` makes a test of it.

    Raises:
        TypeError: something is not an async function. The caller's fault.
        ValueError: an unknown phase, oracle or way; a wrong number; a file to resume from that is none. The caller's
            fault.
        OSError: the file to resume from can't be written.

    When it is cancelled, the run on its way is killed (or, without `isolate`, called off) and the cancel goes on.

    Example:
        ::

            async def test_fetch_can_be_called_off():
                report = await calloff.testing.sweep(fetch, setup=open_pool, teardown=close_pool)
                report.assert_safe()
    """
    case = make_case(fn, setup, check, teardown, bystander, timeout, children, how, without)
    sweeping = Sweeping(
        case,
        phases=phases,
        max_runs=max_runs,
        known=known,
        replay=replay,
        journal=None if resume is None else Journal(resume),
        target=getattr(fn, "__qualname__", repr(fn)),
    )
    loop = asyncio.get_running_loop()
    if not isolate:
        if how == "interrupt":
            raise ValueError("how: interrupt is for runs in processes of their own")
        with watched_locks(), young_garbage_only(), own_time_afterwards(loop):
            return await sweeping.run([Here(case)])
    places = [make_place(case, loop_like(loop)) for _ in range(max(1, jobs))]
    try:
        return await sweeping.run(places)
    finally:
        for place in places:
            place.close()


def make_case(
    fn: Function,
    setup: Function | None,
    check: Function | None,
    teardown: Function | None,
    bystander: Function | None,
    timeout: float,
    children: bool,
    how: str,
    without: Collection[str],
    calls: bool = False,
    patience: float = 0.0,
) -> Case:
    """Check what was given and put it together."""
    functions = {"fn": fn, "setup": setup, "check": check, "teardown": teardown, "bystander": bystander}
    for name, function in functions.items():
        if not is_async(function) and (function is not None or name == "fn"):
            raise TypeError(f"{name} must be an async function, not {function!r}")
    without = {without} if isinstance(without, str) else set(without)
    known_words("without", without, ORACLES)
    known_words("how", [how], HOWS)
    return Case(
        fn,
        setup,
        check,
        teardown,
        bystander,
        timeout=period(timeout, "timeout"),
        children=children,
        oracles=frozenset(ORACLES) - without,
        how=how,
        calls=calls,
        patience=patience,
    )


def is_async(function: Any) -> bool:
    """Whether calling it makes a coroutine."""
    target = function.func if isinstance(function, partial) else function
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(type(target).__call__)
