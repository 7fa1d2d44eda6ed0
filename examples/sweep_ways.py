"""What calls code off beside a plain cancel: Ctrl-C, the end of the grace, an item of a map, another task in the same turn.

    python examples/sweep_ways.py
and from the command line, with the whole reports (exit status 1 each):
    calloff sweep examples/sweep_ways.py:export --how interrupt
    calloff sweep examples/sweep_ways.py:fetch --item a --item b
"""

import asyncio

import calloff.testing

PLACE = asyncio.Semaphore(1)


async def export():
    lock = asyncio.Lock()
    await lock.acquire()
    try:
        await asyncio.sleep(0.002)
    finally:
        await asyncio.sleep(0.001)  # says good-bye to a server; a second Ctrl-C comes here
        lock.release()


async def export_mended():
    async with asyncio.Lock():
        try:
            await asyncio.sleep(0.002)
        finally:
            await asyncio.sleep(0.001)


async def fetch(item):
    await PLACE.acquire()
    await asyncio.sleep(0.002)  # a cancel here keeps the place
    PLACE.release()
    return item


async def fetch_mended(item):
    async with PLACE:
        await asyncio.sleep(0.002)
    return item


async def main():
    for program in (export, export_mended):
        report = await calloff.testing.sweep(program, how="interrupt")
        print(program.__name__, report.verdict, [finding.phase for finding in report.findings])
    for function in (fetch, fetch_mended):

        async def first(function=function):
            return await function("a")

        async def others(function=function):
            await calloff.map(function, ["b", "c"])

        report = await calloff.testing.sweep(first, bystander=others, how="operation")
        print(function.__name__, report.verdict, [finding.phase for finding in report.findings])


if __name__ == "__main__":
    asyncio.run(main())
