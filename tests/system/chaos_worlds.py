"""What else a program of the chaos test may be built of: greenlets, loops of its own, hooks of other libraries.

The bodies here join those of `chaos_bodies`. A world is what a whole program lives in: each of them runs on asyncio's own
loop, with one thing changed by somebody else.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import chaos_bodies as bodies
from chaos_bodies import LONG, Record

import calloff

try:
    import greenlet
except ImportError:  # then there are none
    greenlet = None


# --- sync code in a greenlet that an async bridge drives, as SQLAlchemy's does


async def _bridge(function: Callable[[], Any]) -> Any:
    context = greenlet.greenlet(function)
    result = context.switch()
    while not context.dead:
        try:
            value = await result
        except BaseException:
            result = context.throw(*sys.exc_info())
        else:
            result = context.switch(value)
    return result


def _wait(awaitable: Any) -> Any:
    return greenlet.getcurrent().parent.switch(awaitable)


async def _greenlet_cleans_up(record: Record) -> None:
    """Only force may disturb its clean-up: another asking there leaves a part behind, for good, which is judged."""

    def query() -> None:
        try:
            _wait(asyncio.sleep(LONG))
        except asyncio.CancelledError:
            record.part(1)
            try:
                _wait(asyncio.sleep(0.02))  # ROLLBACK
            except calloff.StopForced:
                record.part(-1)
                raise
            record.part(-1)
            raise

    await _bridge(query)


async def _greenlet_swallows(record: Record) -> None:
    def query() -> None:
        while not record.release.is_set():
            try:
                _wait(asyncio.sleep(LONG))
            except asyncio.CancelledError:
                pass

    await _bridge(query)


# --- a loop of its own, in a thread, that closes while operations run


def _closes_a_loop(record: Record) -> str:
    async def obeys() -> None:
        await asyncio.sleep(LONG)

    async def refuses() -> None:
        while True:
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                pass

    left: list[Any] = []

    async def main() -> None:
        for work in (obeys, refuses):
            left.append(calloff.start(work(), grace=0.05, detached=True))
        await asyncio.sleep(record.wait)

    asyncio.run(main())
    running = [operation for operation in left if not operation.done()]
    if running:
        raise RuntimeError(f"the loop has closed, and these go on: {running}")
    return record.token


def join() -> None:
    """Have the bodies drawn with the others."""
    bodies.IN_THREAD["closes a loop"] = _closes_a_loop
    if greenlet is not None:
        bodies.IN_TASK["greenlet cleans up"] = _greenlet_cleans_up
        bodies.IN_TASK["greenlet swallows"] = _greenlet_swallows


# --- worlds


def _wrapped(loop: asyncio.AbstractEventLoop) -> None:
    """A task factory that wraps every coroutine, as tracers have."""

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        async def traced() -> Any:
            return await coro

        return asyncio.Task(traced(), loop=loop, **options)

    loop.set_task_factory(factory)


def _signals(loop: asyncio.AbstractEventLoop) -> None:
    """A library takes the signals and the wake-up file for itself once the program runs, as servers do."""

    def take() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(-1)
        loop.call_later(0.05, signal.raise_signal, signal.SIGUSR1)

    loop.call_soon(take)


def _late(loop: asyncio.AbstractEventLoop) -> None:
    """Something else holds up the loop for a moment, again and again."""

    def hold_up() -> None:
        time.sleep(0.01)
        loop.call_later(0.04, hold_up)

    loop.call_soon(hold_up)


WORLDS: dict[str, Callable[[asyncio.AbstractEventLoop], None]] = {
    "wrapped": _wrapped,
    "signals": _signals,
    "late": _late,
}
