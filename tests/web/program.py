"""What is called off by clicks: one operation of each kind that is hard to stop."""

import asyncio
import contextlib
import itertools
import os
import sys
import time

import calloff

#: how long the daemon sleeps, by which the test finds it
NAP = os.environ.get("NAP", "600")


async def swallow() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


def c_loop() -> int:
    return sum(itertools.repeat(1, 10**13))


async def main() -> None:
    """Runs three of them and prints how each ended."""
    operations = [
        calloff.start(swallow(), name="swallower", grace=0.6),
        calloff.start(calloff.process(c_loop), name="c-loop", grace=0.6),
        calloff.start(calloff.command("sh", "-c", f"setsid sleep {NAP} & sleep {NAP}"), name="daemon-maker", grace=20),
    ]
    for operation in operations:
        outcome = await operation.outcome()
        report = operation.report
        told = "" if report is None else f" {report.rung} {report.reason.text}"
        print(f"{operation.name}: {type(outcome).__name__}{told}", flush=True)
    sys.stdout.flush()


async def block() -> None:
    """Blocks its event loop for good."""
    await asyncio.sleep(0)
    time.sleep(600)
