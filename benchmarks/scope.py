"""Entering and leaving a time limit that is not reached, which is what nearly all of them are.

After each round the event loop gets one turn, which counts: it is there that asyncio sweeps up cancelled timers.
"""

import asyncio
import sys

import anyio
import async_timeout
import quattro

import calloff

from ._rounds import take_turns
from ._rows import AtMost, Below, Row, compare


class Empty:
    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


async def empty(times: int) -> None:
    for _ in range(times):
        with Empty():
            pass
    await asyncio.sleep(0)


async def ours(times: int) -> None:
    for _ in range(times):
        with calloff.timeout(10):
            pass
    await asyncio.sleep(0)


async def ours_async(times: int) -> None:
    for _ in range(times):
        async with calloff.timeout(10):
            pass
    await asyncio.sleep(0)


async def asyncio_timeout(times: int) -> None:
    for _ in range(times):
        async with asyncio.timeout(10):
            pass
    await asyncio.sleep(0)


async def async_timeout_timeout(times: int) -> None:
    for _ in range(times):
        async with async_timeout.timeout(10):
            pass
    await asyncio.sleep(0)


async def anyio_fail_after(times: int) -> None:
    for _ in range(times):
        with anyio.fail_after(10):
            pass
    await asyncio.sleep(0)


async def anyio_move_on_after(times: int) -> None:
    for _ in range(times):
        with anyio.move_on_after(10):
            pass
    await asyncio.sleep(0)


async def quattro_fail_after(times: int) -> None:
    for _ in range(times):
        with quattro.fail_after(10):
            pass
    await asyncio.sleep(0)


async def call_later_cancel(times: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(times):
        loop.call_later(10, print).cancel()
    await asyncio.sleep(0)


CONTENDERS = {
    "with calloff.timeout": ours,
    "async with calloff.timeout": ours_async,
    "asyncio.timeout": asyncio_timeout,
    "call_later + cancel": call_later_cancel,
    "async_timeout.timeout": async_timeout_timeout,
    "anyio.fail_after": anyio_fail_after,
    "anyio.move_on_after": anyio_move_on_after,
    "quattro.fail_after": quattro_fail_after,
    "an empty with": empty,
}


def run(quick: bool) -> list[Row]:
    figures = take_turns(CONTENDERS, 500, 60 if quick else 200)
    promised = Below() if sys.version_info >= (3, 13) else None  # for 3.13 alone
    peers = {
        "asyncio.timeout": AtMost(0.4),
        "call_later + cancel": promised,
        **dict.fromkeys(list(CONTENDERS)[4:]),
    }
    return [
        *compare("limit not reached", "us", figures, "with calloff.timeout", peers),
        *compare("limit not reached", "us", figures, "async with calloff.timeout", dict(list(peers.items())[:2])),
    ]
