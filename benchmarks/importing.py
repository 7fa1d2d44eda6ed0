"""What `import calloff` adds to the start of Python: whole processes, less one that does nothing, in processor time.

calloff loads its names when they are used, so there are two figures: the bare import, and the import of all that a
program needs to run, start and limit work. The second is what a program pays.
"""

import os
import sys
from collections.abc import Mapping
from tempfile import TemporaryDirectory

from ._rows import AtMost, Figure, Row, compare

CONTENDERS = {
    "import calloff": "import calloff",
    "import calloff, and use it": "import calloff; calloff.start, calloff.timeout, calloff.run",
    "import asyncio": "import asyncio",
    "nothing": "pass",
}


def start_of_python(code: str, environment: Mapping[str, str]) -> float:
    """Milliseconds of processor time that a new interpreter needs for `code`, from its start to its exit."""
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", code], environment)
    _, status, used = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"{code!r} failed")
    return (used.ru_utime + used.ru_stime) * 1e3


def run(quick: bool) -> list[Row]:
    with TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        samples: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        order = list(CONTENDERS)
        for code in CONTENDERS.values():  # the compiled files are there, and in memory, from now on
            start_of_python(code, environment)
        for _ in range(20 if quick else 60):
            for name in order:
                samples[name].append(start_of_python(CONTENDERS[name], environment))
            order.append(order.pop(0))
    idle = Figure(tuple(samples.pop("nothing"))).median
    added = {name: Figure(tuple(max(0.0, time - idle) for time in times)) for name, times in samples.items()}
    ours, all_of_ours, theirs = added
    name = "added to the start of Python"
    return [row for each in (ours, all_of_ours) for row in compare(name, "ms", added, each, {theirs: AtMost(1.6)})]
