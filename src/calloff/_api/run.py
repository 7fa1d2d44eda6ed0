"""`run`: `asyncio.run` whose end is bounded, and which hears SIGINT and SIGTERM.

The main coroutine becomes an operation like any other, so that its limits, its children and its stop are those of every
operation. Around it (`Program`): a loop with a default executor that can't hold up the exit, the interrupter for what
blocks the loop, the signals (`SignalWatch`), and the `Ending` of whatever is still there afterwards.
"""

import asyncio
import os
import signal
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from .._operation.loops import forget
from .._operation.operation import Operation
from .._operation.registry import live
from .._places.left import keep_for_good
from .._scopes.pool import pools
from .._scopes.timers import known_timers
from .._words.duration import delay, limit
from .._words.outcome import Abandoned, Cancelled, Failed, Outcome
from .._words.policy import DEFAULT
from .._words.reason import Kind
from .ending import log_threads
from .exposing import exposer
from .notify import Notify, notifier
from .program import Program
from .shown import shorten
from .signals import Conductor
from .start import AsyncWork, give_back, start

__all__ = ["run", "run_outcome"]

T = TypeVar("T")


def run(
    main: AsyncWork[T],
    *,
    timeout: float | None = None,
    grace: float = 5.0,
    expose: bool = False,
    interrupt: bool = True,
    loop_factory: Callable[[], AbstractEventLoop] | None = None,
    notify: Notify = None,
) -> T:
    """Run a program on a new event loop, to its end, and end everything that it leaves behind.

    Args:
        main: a coroutine, or an async function that needs no arguments.
        timeout: seconds until it is stopped; ``None`` for no limit.
        grace: seconds between asking to stop and force, for `main` and for all that still runs when it ends: other
            operations, tasks, asynchronous generators, jobs of the default executor. What can't be stopped is logged by
            name and line (logger ``calloff``) and left: `run` returns within grace + 2 s of the end of `main`, or of the
            moment it was asked to stop. `atexit` functions run, and no thread of the default executor holds up the exit.
            Threads and executors that the program has made itself do, as ever, unless they are daemons; those, too, are
            logged.
        expose: let ``calloff ps`` and the other verbs see this program, and call off what it does; the same user's, and
            root's, only. ``CALLOFF_EXPOSE`` set to 1 or 0 in the environment has the last word. Where no socket can be
            made, that is logged, and the program runs all the same.
        interrupt: interrupt an operation that blocks the loop past its stop, exactly where it is. Works in the main
            thread, with SIGALRM; a program that uses SIGALRM itself keeps it and goes without.
        loop_factory: makes the loop, for example ``uvloop.new_event_loop``; by default `asyncio.new_event_loop`.
        notify: ``"auto"``: tell the service manager that has started the program (``NOTIFY_SOCKET``, as systemd's) that it
            is ready as soon as `main` has begun, when it stops, and, where that asks for it (``WATCHDOG_USEC``), that the
            event loop turns; ``"later"``: the same, ready when `calloff.service.ready` is called.

    Returns:
        The value of `main`.

    Raises:
        TimedOut: it did not end within `timeout`. Any other error is that of `main`, as ``await`` would raise it.
        KeyboardInterrupt: it was stopped by SIGINT.
        SystemExit: it was stopped by SIGTERM; the status is 143.
        RuntimeError: called inside a running event loop. The caller's fault; nothing was started.

    SIGINT and SIGTERM ask `main` to stop, with kind `shutdown`; the second of them uses force. If `main` completes all
    the same, its value is returned. A program that has set a handler before `run` keeps that signal for itself. Where a
    library takes a signal while `main` runs, as web servers do, its handler has three quarters of the grace to end the
    program; then `main` is asked to stop, and the bound is the same.

    In a thread of an operation, a stop of that one is a stop of `main`, with kind `parent` and the grace that is left.

    A third signal, more than a second after the second, ends the process as if there were no handler: for what nothing
    else has ended by then. The handlers of `run` are taken away at the end.

        calloff.run(main(), timeout=60)
    """
    outcome, signum = run_outcome(
        main,
        timeout=timeout,
        grace=grace,
        expose=expose,
        interrupt=interrupt,
        loop_factory=loop_factory,
        notify=notify,
    )
    if signum is not None and isinstance(outcome, (Cancelled, Abandoned)) and outcome.reason.kind is Kind.SHUTDOWN:
        try:
            outcome.unwrap()
        except BaseException as error:
            if signum == signal.SIGINT:
                raise KeyboardInterrupt from error
            raise SystemExit(128 + signum) from error
    if isinstance(outcome, Failed):
        shorten(outcome.error)
    return outcome.unwrap()


def run_outcome(
    main: AsyncWork[T],
    *,
    timeout: float | None = None,
    stall: float | None = None,
    grace: float = 5.0,
    name: str | None = None,
    expose: bool | None = False,
    interrupt: bool = True,
    loop_factory: Callable[[], AbstractEventLoop] | None = None,
    on_start: Callable[[Operation[T]], object] | None = None,
    conductor: Conductor | None = None,
    notify: Notify = None,
) -> tuple[Outcome[T], int | None]:
    """Like `run`, but returns the ending of `main` as a value, and the first signal that came, if any.

    Args:
        stall: the longest silence between two reports of progress, in seconds.
        name: how the operation is called.
        expose: ``None``: if that is possible, and without a word when it is not.
        on_start: called on the loop as soon as there is a handle; with eager tasks the first step has run by then.
        conductor: cares for the signals in place of a stop of `main`, which is to end by itself.
    """
    try:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "calloff.run() can't be called while an event loop runs in this thread: use `await calloff.call(...)` there"
            )
        timeout = limit(timeout, "timeout")
        stall = limit(stall, "stall")
        grace = min(delay(grace, "grace"), DEFAULT.longest_grace)
        if loop_factory is not None and not callable(loop_factory):
            raise TypeError(f"loop_factory must be a function that makes an event loop, or None, not {loop_factory!r}")
        exposed = exposer(expose)
        made = notifier(notify)
    except BaseException:
        give_back(main)
        raise
    begin = partial(start, main, name=name, timeout=timeout, stall=stall, grace=grace, detached=True)
    threads = threading.enumerate()
    try:
        with _new_loop(loop_factory) as loop:
            program: Program[T] = Program(loop, begin, on_start, grace, interrupt, conductor, made(loop))
            with exposed(loop), program.watch.installed():
                return program.run()
    finally:
        give_back(main)
        if threading.current_thread() is threading.main_thread():
            log_threads(threads)


@contextmanager
def _new_loop(factory: Callable[[], AbstractEventLoop] | None) -> Generator[AbstractEventLoop]:
    """A new loop, closed at the end; made the current one of the thread where asyncio's runner would do so.

    Not closed in a child that was forked meanwhile: it shares the loop's epoll object with its parent, and would take out
    the parent's files.
    """
    process = os.getpid()
    if factory is None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
    else:
        loop = factory()
    try:
        yield loop
    finally:
        if factory is None:
            asyncio.set_event_loop(None)
        if os.getpid() == process:
            loop.close()
        else:
            keep_for_good(loop)
        known_timers.pop(loop, None)
        pools.pop(loop, None)
        if os.getpid() == process:
            forget(loop, live)
