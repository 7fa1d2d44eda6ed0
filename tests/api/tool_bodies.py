"""Tools that are importable in a worker, each of which hangs in its own way; and what a schema is made from."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from typing import Annotated, Any

import calloff

State = dict[str, int]
seen: list[Any] = []


@calloff.tool(timeout=30)
def add(a: int, b: Annotated[int, "the second"] = 2) -> int:
    """Add two numbers."""
    return a + b


@calloff.tool
async def describe(state: State) -> str:
    """Describe it."""
    return f"{sorted(state)}"


@calloff.tool(timeout=30)
def pid() -> int:
    seen.append(1)  # in the worker
    return os.getpid()


@calloff.tool(timeout=30)
def fail() -> str:
    raise LookupError("not there")


async def polite() -> str:
    """waits, and obeys"""
    await asyncio.sleep(60)
    return "late"


async def swallow() -> str:
    """swallows every cancel"""
    for _ in range(120):
        try:
            await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            pass
    return "late"


async def cleanup() -> str:
    """needs a moment to clean up"""
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.1)
        seen.append("cleaned up")
    return "late"


async def block() -> str:
    """blocks the event loop"""
    time.sleep(60)
    return "late"


def sync() -> str:
    """a blocking function"""
    time.sleep(60)
    return "late"


async def child() -> str:
    """waits for a program"""
    program = await asyncio.create_subprocess_exec("sleep", "61.25", stdin=subprocess.DEVNULL)
    await program.wait()
    return "late"


async def daemon() -> str:
    """starts a program in a session of its own, and waits"""
    subprocess.Popen(["sleep", "61.25"], start_new_session=True, stdin=subprocess.DEVNULL)
    await asyncio.sleep(60)
    return "late"


STUBBORN = [polite, swallow, cleanup, block, sync, child, daemon]
