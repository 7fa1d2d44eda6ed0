"""The first answer wins; the others are called off before `race` returns.

    python examples/race.py
    calloff run examples/race.py:main

Each contender gets a head start of 0.2 s before the next one begins, so that a quick first one is alone.
"""

import asyncio

import calloff


async def ask(server, delay):
    print(f"asking {server}")
    try:
        await asyncio.sleep(delay)
    except asyncio.CancelledError:
        print(f"{server} was too slow")
        raise
    return f"answer of {server}"


async def main():
    answer = await calloff.race(ask("oak", 60), ask("elm", 0.3), ask("ash", 60), stagger=0.2)
    print(answer)


if __name__ == "__main__":
    calloff.run(main())
