"""A block is left at the very moment of the stop: the next statement on the same connection of a pool is never hit.

The statement of the block takes about as long as it is until the stop; what asks (a second connection, which tells the
server to call off whatever the first one does just then) is on its way while the block ends by itself. So the block has
to wait for that, or the next statement is called off in place of its own.

Some hundred in every run; ``CALLOFF_LEAVES=10000 scripts/test borders`` or ``... pytest tests/borders/test_leaving.py -s``
is the whole, in each place.
"""

import asyncio
import contextlib
import os
import random
from functools import cache, partial
from typing import Any

import pytest

import calloff
from calloff import integrations

psycopg = pytest.importorskip("psycopg", reason="runs in the environment of the group borders")
psycopg_pool = pytest.importorskip("psycopg_pool")

LEAVES = int(os.environ.get("CALLOFF_LEAVES", "300"))
AT_ONCE = 4
AUTO = {"autocommit": True}
FIRST = "select pg_sleep(%s)"
NEXT = "select %s::int from pg_sleep(0.001)"


@cache
def pool_of(dsn, which):
    """A pool of one connection, which stays in this process."""
    return psycopg_pool.ConnectionPool(dsn, min_size=1, max_size=1, kwargs=AUTO, open=True)


def in_the_pool(dsn, which, seconds, number):
    """Leave a block, by its end or by the stop; then comes the next who takes the connection."""
    pool = pool_of(dsn, which)
    try:
        with pool.connection() as connection, integrations.psycopg(connection):
            calloff.progress("sent")
            connection.execute(FIRST, (seconds,))
    finally:
        with pool.connection() as connection:
            assert connection.execute(NEXT, (number,)).fetchone() == (number,)


kept: dict[Any, Any] = {}


def in_a_process(dsn, which, seconds, number):
    """The same with a connection that stays in a worker, whose main thread a stop interrupts wherever it is.

    So the driver may be in the midst of something, which no pool gives out again either.
    """
    connection = kept.pop(which, None) or psycopg.connect(dsn, autocommit=True)
    whole = False
    try:
        try:
            with integrations.psycopg(connection):
                calloff.progress("sent")
                connection.execute(FIRST, (seconds,))
        finally:
            if connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE:
                assert connection.execute(NEXT, (number,)).fetchone() == (number,)
                whole = True
    finally:
        if whole:
            kept[which] = connection
        else:
            connection.close()


async def in_a_task(pool, seconds, number):
    """The same in a coroutine, where the driver calls its statement off by itself, too."""

    async def following():
        async with pool.connection() as connection:
            assert await (await connection.execute(NEXT, (number,))).fetchone() == (number,)

    try:
        async with pool.connection() as connection, calloff.on_stop(connection.cancel_safe):
            calloff.progress("sent")
            await connection.execute(FIRST, (seconds,))
    finally:
        await calloff.shield(following())


def in_a_thread(*args):
    return calloff.thread(in_the_pool, *args)


def in_a_worker(*args):
    return calloff.process(in_a_process, *args)


async def leave(which, make, told):
    rng = random.Random(which)
    for number in range(LEAVES // AT_ONCE):
        seconds = rng.random() * 0.004
        op = calloff.start(make(seconds, number), grace=60)
        while op.progress != "sent" and not op.done():
            await asyncio.sleep(0.0005)
        await asyncio.sleep(max(0.0, seconds + (rng.random() - 0.5) * 0.004))
        outcome = await op.stop()
        assert not isinstance(outcome, (calloff.Failed, calloff.Abandoned)), outcome
        told.append(bool(outcome.report and outcome.report.helped))


@pytest.mark.parametrize("place", ["thread", "task", "process"])
def test_the_next_statement_survives(postgres, place):
    dsn = f"host=127.0.0.1 port={postgres.port} user=calloff dbname=postgres"
    told: list[Any] = []

    async def main():
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for which in range(AT_ONCE):
                if place == "task":
                    pool = psycopg_pool.AsyncConnectionPool(dsn, min_size=1, max_size=1, kwargs=AUTO, open=False)
                    mine = await stack.enter_async_context(pool)
                    group.create_task(leave(which, partial(in_a_task, mine), told))
                elif place == "thread":
                    group.create_task(leave(which, partial(in_a_thread, dsn, which), told))
                else:
                    group.create_task(leave(which, partial(in_a_worker, dsn, which), told))

    try:
        asyncio.run(main())
    finally:
        if place == "thread":
            for which in range(AT_ONCE):
                pool_of(dsn, which).close()
            pool_of.cache_clear()
    print(f"{place}: {len(told)} blocks were left, {sum(told)} of them while they were asked")
    assert len(told) == LEAVES // AT_ONCE * AT_ONCE
    assert any(told)
