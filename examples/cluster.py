"""Functions on nodes, which are agents of this machine here; `calloff.cluster.ssh([...])` reaches others just so.

python examples/cluster.py
"""

import asyncio
import time

import calloff
import calloff.cluster


def square(number: int) -> int:
    return number * number


def stubborn() -> None:
    while True:
        try:
            calloff.progress("refuses")
            time.sleep(60)
        except BaseException:
            pass


async def main() -> None:
    async with calloff.cluster.local(2, slots=2) as cluster:
        print([outcome.value for outcome in await calloff.map(square, range(5), place=cluster)])
        op = calloff.start(cluster.on("local-1").process(stubborn), grace=0.2)
        while op.progress is None:  # until it runs there
            await asyncio.sleep(0.01)
        outcome = await op.stop("not needed any more")
        print(f"stubborn on local-1: {outcome.report.rung}")


if __name__ == "__main__":
    asyncio.run(main())
