"""A fresh interpreter for each round of each contender, in turns: for what leaves its mark on a process.

Run as ``python -m benchmarks._alone MODULE CONTENDER COUNT`` it measures one round: the module's coroutine ``measure``
does the work and returns named figures, and the process is gone with all that still runs in it.
"""

import asyncio
import importlib
import json
import os
import subprocess
import sys

from ._rows import Figure

__all__ = ["take_turns_alone"]


def take_turns_alone(module: str, contenders: dict[str, int], rounds: int) -> dict[str, dict[str, Figure]]:
    """What ``module.measure(contender, count)`` returns, figure by figure, for each contender."""
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in contenders}
    order = list(contenders)
    for _ in range(rounds):
        for name in order:
            command = [sys.executable, "-m", "benchmarks._alone", module, name, str(contenders[name])]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            for figure, value in json.loads(answer.splitlines()[-1]).items():
                taken[name].setdefault(figure, []).append(value)
        order.append(order.pop(0))
    return {
        name: {figure: Figure(tuple(values)) for figure, values in figures.items()} for name, figures in taken.items()
    }


async def _measure(module: str, contender: str, count: str) -> None:
    figures = await importlib.import_module(module).measure(contender, int(count))
    print(json.dumps(figures), flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(_measure(*sys.argv[1:]))
