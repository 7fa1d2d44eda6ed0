"""aiosqlite 0.22.1: a connect that is called off leaves the connection open.

calloff sweep examples/sweep/aiosqlite_connect.py:one
"""

import aiosqlite


async def one() -> int:
    async with aiosqlite.connect(":memory:") as database:
        async with database.execute("select 1") as cursor:
            (number,) = await cursor.fetchone()
            return number
