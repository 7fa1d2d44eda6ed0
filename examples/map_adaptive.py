"""As many calls at a time as the other side bears: one more after each good answer, half as many after "too many".

python examples/map_adaptive.py
"""

import asyncio

import calloff


class TooMany(Exception):
    """Status 429."""


class Server:
    """Bears eight calls at a time."""

    now = 0

    async def answer(self, number):
        self.now += 1
        try:
            await asyncio.sleep(0.002)
            if self.now > 8:
                raise TooMany
            return number
        finally:
            self.now -= 1


async def main():
    server = Server()

    def again(outcome, attempt):
        if isinstance(outcome, calloff.Failed) and isinstance(outcome.error, TooMany):
            results.jobs = max(1, results.jobs // 2)
            return 0.01 * attempt
        return None

    calls = calloff.map(server.answer, range(500), jobs=50, timeout=5, retry=again)
    most, good = 0, 0
    async with calls as results:
        async for _, outcome in results:
            good += isinstance(outcome, calloff.Completed)
            if good % results.jobs == 0:
                results.jobs += 1
            if good > 250:
                most = max(most, results.jobs)
    print(f"{good} answers; from the middle on never more than {'twenty' if most <= 20 else most} at a time")


if __name__ == "__main__":
    calloff.run(main())
