"""The chaos of a database: SQLAlchemy's asyncio sessions, which drive sync code in a greenlet, on PostgreSQL.

The bodies here join those of `chaos_bodies` in a program that is told the port of a server. An independent connection
says what the server still does of an operation after its verdict: a query that runs on, a transaction that is open, a
row that was never committed, and in the end whether the pool has all of its connections back.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chaos_bodies as bodies
from chaos_bodies import Record
from chaos_judge import PLACES

import calloff

__all__ = ["BODIES", "PORT", "Watch", "join", "leads_to_server", "server"]

#: the variable of the environment that says where the server listens
PORT = "CALLOFF_CHAOS_DATABASE"
#: how long a query runs when nobody stops it: what is forced out of its clean-up leaves one behind, as it has to
_LONG = 8
#: seconds within which a query is gone that was told to be: drivers ask for that by a connection of its own
_SOON = 2.0
_POOL = 5
_engines: dict[Any, Any] = {}


@contextlib.contextmanager
def server() -> Iterator[int]:
    """A server of its own, with the table that the bodies write to."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "borders"))
    import psycopg
    import servers  # type: ignore[import-not-found]  # that of tests/borders

    with servers.postgres() as started:
        with psycopg.connect(f"host=127.0.0.1 port={started.port} user=calloff dbname=postgres") as connection:
            connection.execute("create table written (token text)")
        yield started.port


def _engine() -> Any:
    """The engine of this loop: a pool that is smaller than what runs at once."""
    from sqlalchemy.ext.asyncio import create_async_engine

    loop = asyncio.get_running_loop()
    if loop not in _engines:
        address = f"postgresql+asyncpg://calloff@127.0.0.1:{os.environ[PORT]}/postgres"
        _engines[loop] = create_async_engine(address, pool_size=_POOL, max_overflow=0, pool_timeout=60)
    return _engines[loop]


def _text(record: Record, sql: str) -> Any:
    from sqlalchemy import text

    return text(f"{sql} /* {record.token} */")


async def _query(record: Record) -> None:
    async with _engine().connect() as connection:
        await connection.execute(_text(record, f"select pg_sleep({_LONG})"))


async def _transaction(record: Record) -> None:
    from sqlalchemy.ext.asyncio import AsyncSession

    async with AsyncSession(_engine()) as session, session.begin():
        await session.execute(_text(record, f"insert into written values ('{record.token}')"))
        await session.execute(_text(record, f"select pg_sleep({_LONG})"))


async def _children(record: Record) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_query(record))
        group.create_task(_transaction(record))


async def _returns(record: Record) -> str:
    async with _engine().begin() as connection:
        found = await connection.execute(_text(record, f"select '{record.token}', pg_sleep({record.wait})"))
        return str(found.scalar())


async def _swallows(record: Record) -> None:
    while not record.release.is_set():
        try:
            await _query(record)
        except asyncio.CancelledError:
            pass


BODIES = {
    "database query": _query,
    "database transaction": _transaction,
    "database children": _children,
    "database returns": _returns,
    "database swallows": _swallows,
}


def join() -> bool:
    """Have the bodies drawn with the others, if there is a server; whether there is."""
    if not os.environ.get(PORT):
        return False
    import asyncpg  # noqa: F401  # here, since an import holds up the loop
    import sqlalchemy.dialects.postgresql.asyncpg
    import sqlalchemy.ext.asyncio  # noqa: F401

    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # it complains of the force that it was ended by
    bodies.IN_TASK.update(BODIES)
    PLACES.extend(["task", "task"])
    return True


def leads_to_server(number: int) -> bool:
    """Whether a file is a connection to the server: who is forced while his driver connects leaves one behind."""
    try:
        with socket.socket(fileno=os.dup(number)) as copy:
            return bool(copy.getpeername()[1:2] == (int(os.environ[PORT]),))
    except OSError:  # it is no socket, or leads nowhere
        return False


class Watch:
    """What the server does, seen by a connection that nothing else uses."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._connection: Any = None

    async def _fetch(self, sql: str, *values: object) -> Any:
        import asyncpg

        async with self._lock:
            if self._connection is None:
                address = f"postgresql://calloff@127.0.0.1:{os.environ[PORT]}/postgres"
                self._connection = await asyncpg.connect(address)
            return await self._connection.fetchval(sql, *values)

    async def judge(self, token: str, outcome: Any) -> list[str]:
        """Compare what is told of an operation with what the server does; `token` ends in a dot, as no other does."""
        wrong = []
        if await self._fetch("select count(*) from written where token = $1", token):
            wrong.append("its transaction was committed, which never came to its end")
        if outcome.report is not None and outcome.report.rung in (calloff.Rung.FORCED, calloff.Rung.ABANDONED):
            return wrong  # its clean-up was broken off, and that is said
        sql = (
            "select min(state || ': ' || query) from pg_stat_activity"
            " where state <> 'idle' and position($1 in query) > 0 and pid <> pg_backend_pid()"
        )
        until = time.monotonic() + _SOON
        while (left := await self._fetch(sql, token)) is not None and time.monotonic() < until:
            await asyncio.sleep(0.02)
        if left is not None:
            wrong.append(f"{_SOON} s after its end, in the server: {left}")
        return wrong

    async def close(self) -> list[str]:
        """All have ended: what the pool has not got back."""
        wrong = []
        for engine in _engines.values():
            until = time.monotonic() + 10
            while engine.pool.checkedout() and time.monotonic() < until:
                await asyncio.sleep(0.05)
            if engine.pool.checkedout():
                wrong.append(f"the pool of the database has {engine.pool.status()} in the end")
            await engine.dispose()
        _engines.clear()
        if self._connection is not None:
            await self._connection.close()
        return wrong
