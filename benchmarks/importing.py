"""What `import calloff` adds to the start of Python: whole processes, less one that does nothing.

calloff loads its names when they are used, so there are two figures: the bare import, and the import of all that a
program needs to run, start and limit work. The second is what a program pays.
"""

import subprocess
import sys
from time import perf_counter

from ._rows import AtMost, Figure, Row, compare

CONTENDERS = {
    "import calloff": "import calloff",
    "import calloff and use it": "import calloff; calloff.start, calloff.timeout, calloff.run",
    "import asyncio": "import asyncio",
    "nothing": "pass",
}


def run(quick: bool) -> list[Row]:
    samples: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    order = list(CONTENDERS)
    for code in CONTENDERS.values():  # the compiled files are there, and in the cache, from now on
        subprocess.run([sys.executable, "-c", code], check=True)
    for _ in range(15 if quick else 50):
        for name in order:
            began = perf_counter()
            subprocess.run([sys.executable, "-c", CONTENDERS[name]], check=True)
            samples[name].append((perf_counter() - began) * 1e3)
        order.append(order.pop(0))
    idle = samples.pop("nothing")
    added = {  # each against the empty process of its own round
        name: Figure(tuple(time - alone for time, alone in zip(times, idle, strict=True)))
        for name, times in samples.items()
    }
    theirs = "import asyncio"
    return [
        *compare("start of Python, added by", "ms", added, "import calloff", {theirs: AtMost(1.6)}),
        *compare("start of Python, added by", "ms", added, "import calloff and use it", {theirs: AtMost(1.6)}),
    ]
