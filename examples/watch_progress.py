"""Work that says how far it is, watched from outside, and stopped when it gets stuck.

    python examples/watch_progress.py
    calloff run --every 0.5s --stall 1s examples/watch_progress.py:copy     (exit status 124)

`stall` limits the silence between two reports, not the whole time: a copy may take hours as long as it gets on.
"""

import asyncio

import calloff


async def copy(total=10, hangs_at=6):
    for done in range(total):
        calloff.progress((done, total))
        if done == hangs_at:
            await asyncio.Event().wait()
        await asyncio.sleep(0.2)


async def main():
    op = calloff.start(copy(), stall=1)
    async for tick in op.watch(every=0.5):
        done, total = tick.progress
        print(f"{done} of {total} done after {tick.elapsed:.1f} s, now at: {tick.where[0].source}")
    try:
        await op
    except calloff.TimedOut as error:
        print(error)


if __name__ == "__main__":
    calloff.run(main())
