"""Running a program that ends by itself, from inside a program and from the shell; the command line's start-up."""

import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter

import calloff

from ._rounds import interleave, timed
from ._rows import AtMost, Figure, Row, compare


async def ours(times: int) -> None:
    for _ in range(times):
        await calloff.call(calloff.command("true"))


async def create_subprocess_exec(times: int) -> None:
    for _ in range(times):
        await (await asyncio.create_subprocess_exec("true", stdout=-1, stderr=-1)).communicate()


LINES = {
    "calloff timeout 5 true": [sys.executable, "-m", "calloff", "timeout", "5", "true"],
    "python -I -c pass": [sys.executable, "-I", "-c", "pass"],
    "timeout 5 true": [shutil.which("timeout") or "timeout", "5", "true"],
}


async def whole(line: list[str]) -> float:
    began = perf_counter()
    child = os.posix_spawn(line[0], line, {**os.environ, "PYTHONDONTWRITEBYTECODE": ""})
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"{line} failed")
    return (perf_counter() - began) * 1e3


async def measure_all(rounds: int) -> tuple[dict[str, Figure], dict[str, Figure]]:
    inside = {"calloff.command": ours, "create_subprocess_exec": create_subprocess_exec}
    lines = {name: (lambda _, line=line: whole(line)) for name, line in LINES.items()}

    async def once(contender: Callable[[int], Awaitable[float]]) -> float:
        return await contender(1)

    return await interleave(inside, timed(20, perf_counter), rounds), await interleave(lines, once, rounds)


def run(quick: bool) -> list[Row]:
    inside, lines = asyncio.run(measure_all(10 if quick else 40))
    ours, *peers = lines
    return [
        *compare("run `true`", "us", inside, "calloff.command", {"create_subprocess_exec": None}),
        *compare("from the shell", "ms", lines, ours, {peers[0]: AtMost(2.5), peers[1]: None}),
    ]
