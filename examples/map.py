"""Ten thousand calls, of which some hang: each has its own limit, and the others complete.

python examples/map.py
"""

import asyncio
import collections

import calloff


async def call_api(number):
    await asyncio.sleep(3600 if number % 1000 == 7 else 0.001)
    if number % 1000 == 8:
        raise ConnectionError("refused")
    return number * 2


async def main():
    ends = collections.Counter()
    async with calloff.map(call_api, range(10_000), jobs=100, timeout=3) as results:
        async for number, outcome in results:
            ends[type(outcome).__name__] += 1
            if number == 7:
                print(f"{number}: {outcome.reason}, at {outcome.report.where[0].source}")
    print(dict(sorted(ends.items())))

    outcomes = await calloff.map(call_api, [1, 2, 8], timeout=1)
    print("in order:", [outcome.value if isinstance(outcome, calloff.Completed) else "-" for outcome in outcomes])


if __name__ == "__main__":
    calloff.run(main())
