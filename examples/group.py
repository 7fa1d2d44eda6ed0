"""Several calls under one limit: when one fails, the others are called off, and none is left behind.

python examples/group.py
"""

import asyncio

import calloff


async def fetch(name, delay, *, fails=False):
    try:
        await asyncio.sleep(delay)
        if fails:
            raise ValueError(f"{name} is broken")
        print(f"{name} is here")
        return name
    except asyncio.CancelledError:
        print(f"{name} was called off")
        raise


async def main():
    print("All go well:")
    async with calloff.group(timeout=10) as g:
        first = g.start(fetch("first", 0.1))
        second = g.start(fetch("second", 0.2))
    print(first.result(), "and", second.result())

    print("One fails:")
    try:
        async with calloff.group(timeout=10) as g:
            g.start(fetch("slow", 60))
            g.start(fetch("third", 0.1, fails=True))
    except* ValueError as errors:
        print("The group failed:", *errors.exceptions)

    print("They take too long:")
    try:
        async with calloff.group(timeout=0.5, grace=1) as g:
            g.start(fetch("very slow", 60))
    except TimeoutError as error:
        print("Timed out." if isinstance(error, calloff.TimedOut) else error)


if __name__ == "__main__":
    calloff.run(main())
