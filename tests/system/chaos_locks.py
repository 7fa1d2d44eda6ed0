"""Work that takes and gives back locks is stopped at random moments, thousands of times: how many locks are left locked?

Coroutines that block the loop are interrupted, processes asked, threads forced; each with every kind of work that
`tests/places/moments_bodies.py` knows. The exit status is 1 when a lock was left, or a stop did not do it in that way.
Started by ``scripts/chaos locks``, which does so on each Python that has an environment.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from places import moments_bodies as bodies

import calloff

KINDS = sorted(bodies.KINDS)
#: processes that work side by side: their rounds are waits more than work
AT_ONCE = 8
Round = Callable[[str, random.Random], Awaitable[bool | None]]

_folder = Path()  # where workers tell what they saw
_numbers = count()


async def coroutine(kind: str, chance: random.Random) -> bool | None:
    body, thing = bodies.make(kind)

    async def blocks() -> None:
        body(thing, int)

    op = calloff.start(blocks(), timeout=0.001 + chance.random() * 0.003)
    outcome = await op.outcome()
    assert outcome.report is not None
    if not outcome.report.started:
        return None
    assert outcome.report.rung is calloff.Rung.INTERRUPTED, outcome
    return bodies.is_left(thing)


async def thread(kind: str, chance: random.Random) -> bool:
    body, thing = bodies.make(kind)
    inside = threading.Event()
    op = calloff.start(calloff.thread(body, thing, lambda: inside.is_set() or inside.set()))  # type: ignore[func-returns-value]
    while not inside.is_set():
        await asyncio.sleep(0.0001)
    await asyncio.sleep(chance.random() * 0.003)
    outcome = await op.stop(grace=0)
    while op in calloff.operations():  # on a machine that is busy with others a second may not do: it is forced on
        op.body.call.force()  # the body of a thread
        await asyncio.sleep(0.01)
    assert isinstance(outcome, calloff.Cancelled | calloff.Abandoned), outcome
    return bodies.is_left(thing)


async def process(kind: str, chance: random.Random) -> bool | None:
    """The worker looks by itself, since its next work may be given to another one."""
    told = _folder / str(next(_numbers))
    op = calloff.start(calloff.process(bodies.run_in_worker_and_look, kind, str(told)))
    while str(op.state) == "pending":
        await asyncio.sleep(0.0001)
    await asyncio.sleep(chance.random() * 0.004)
    outcome = await op.stop(grace=30)
    assert outcome.report is not None
    if not told.exists():  # it was stopped before the work had begun
        return None
    assert outcome.report.rung is calloff.Rung.ASKED, outcome
    found = told.read_text()
    told.unlink()
    return found == "left"


async def rounds(place: Round, number_of_rounds: int, seed: int) -> Counter[str]:
    left: Counter[str] = Counter()
    numbers = iter(range(number_of_rounds))
    async with asyncio.TaskGroup() as group:
        for part in range(AT_ONCE if place is process else 1):
            group.create_task(_some_of(place, numbers, random.Random(f"{seed} {part}"), left))
    return +left


async def _some_of(place: Round, numbers: Iterator[int], chance: random.Random, left: Counter[str]) -> None:
    for number in numbers:
        kind = KINDS[number % len(KINDS)]
        try:
            found = None
            while found is None:  # nothing was seen: it had not begun when it was stopped, for example
                found = await place(kind, chance)
            left[kind] += found
        except AssertionError as error:
            left[f"{kind}: {error}"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos locks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000, help="for each place")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--place", action="append", choices=["coroutine", "thread", "process"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        global _folder
        _folder = Path(folder)
        return run(options)


def run(options: argparse.Namespace) -> int:
    calloff.process.configure(size=AT_ONCE)
    # A loop counts as blocked after a millisecond, and threads take turns sooner: thousands of rounds are to be seen.
    calloff.Operation.policy = calloff.Operation.policy._replace(slack=0.001)
    sys.setswitchinterval(0.0002)
    version = ".".join(map(str, sys.version_info[:3]))
    status = 0
    for place in (coroutine, thread, process):
        if options.place and place.__name__ not in options.place:
            continue
        began = time.monotonic()
        left: Any = calloff.run(rounds(place, options.rounds, options.seed))
        took = time.monotonic() - began
        status |= bool(left)
        wrong = f": {dict(left)}" if left else ""
        print(
            f"{version} {place.__name__:<10} {sum(left.values())} of {options.rounds} left a lock, "
            f"seed {options.seed}, {took:.0f} s{wrong}",
            flush=True,
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
