"""`calloff.on_stop` for the drivers that many programs wait in: databases, Redis, sockets.

Each function makes a context manager for the block that waits, in a thread, a process or a coroutine::

    with calloff.integrations.psycopg(connection):
        connection.execute("select pg_sleep(60)")

None of them imports a driver: what they are given is used as it is. A driver that is asked before it has sent its statement
notices nothing, so these ask again until the block is left.
"""

from __future__ import annotations

import socket as sockets
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from ._operation.checkpoint import checkpoint
from ._operation.on_stop import on_stop, until_left

__all__ = ["mysql", "psycopg", "psycopg2", "redis", "socket", "sqlite3"]

T = TypeVar("T")
#: seconds that a server may take to hear of it
_PATIENCE = 5.0


@contextmanager
def psycopg(connection: T, /) -> Generator[T]:
    """Have the statements in this block called off in PostgreSQL when the operation is stopped.

    Args:
        connection: a `psycopg.Connection`. (Its `AsyncConnection` calls statements off by itself.)

    The connection is whole afterwards: its transaction is rolled back as after any error.
    """
    handle: Any = connection
    with until_left(lambda: handle.cancel_safe(timeout=_PATIENCE), "psycopg.Connection.cancel_safe"):
        yield connection


@contextmanager
def psycopg2(connection: T, /) -> Generator[T]:
    """Have the statements in this block called off in PostgreSQL when the operation is stopped.

    Args:
        connection: a connection of psycopg2. It is whole afterwards, after a rollback.
    """
    handle: Any = connection
    with until_left(handle.cancel, "psycopg2.connection.cancel"):
        yield connection


@contextmanager
def mysql(connection: T, connect: Callable[[], Any], /) -> Generator[T]:
    """Have the statements in this block called off in MySQL or MariaDB when the operation is stopped.

    Args:
        connection: one of pymysql, mysqlclient or mysql-connector.
        connect: makes a second connection, for ``KILL QUERY``: the server takes it on no other way.

    Raises:
        asyncio.CancelledError: at the end of a block that was asked: a statement may have come back with half a result
            in place of an error (``sleep`` returns 1).
    """
    handle: Any = connection
    number = handle.connection_id if hasattr(handle, "connection_id") else handle.thread_id()
    asked = False

    def kill() -> None:
        nonlocal asked
        asked = True
        second = connect()
        try:
            second.cursor().execute(f"KILL QUERY {int(number)}")
        finally:
            second.close()

    with until_left(kill, "KILL QUERY"):
        yield connection
    if asked:
        checkpoint()


@contextmanager
def sqlite3(connection: T, /) -> Generator[T]:
    """Have the statements in this block called off when the operation is stopped.

    Args:
        connection: a `sqlite3.Connection`.
    """
    handle: Any = connection
    with until_left(handle.interrupt, "sqlite3.Connection.interrupt"):
        yield connection


@contextmanager
def redis(client: T, /) -> Generator[T]:
    """Have the commands in this block called off when the operation is stopped: ``with redis(client) as mine:``.

    Args:
        client: a `redis.Redis`.

    Returns:
        The client to use in the block. It has one connection of the pool for itself, which is cut at a stop; redis-py
        connects anew when the connection is used the next time.
    """
    handle: Any = client
    mine: Any = handle.client()
    retry = getattr(mine.connection, "retry", None)
    retries = getattr(retry, "_retries", 0)

    def cut() -> None:
        if retry is not None:  # else it connects anew, after a pause, and waits there
            retry.update_retries(0)
        file = getattr(mine.connection, "_sock", None)
        if file is not None:
            _shut(file)

    try:
        with until_left(cut, "redis.Connection.shutdown"):
            yield mine
    finally:
        if retry is not None:
            retry.update_retries(retries)
        mine.close()


@contextmanager
def socket(file: sockets.socket, /) -> Generator[sockets.socket]:
    """Shut a socket down when the operation is stopped: what waits there gets an error, or the end of the stream.

    Args:
        file: connected; it is of no more use after a stop, and is still to be closed.

    Raises:
        asyncio.CancelledError: at the end of a block that was asked, since the end of a stream is no error.
    """
    asked = False

    def shut() -> None:
        nonlocal asked
        asked = True
        _shut(file)

    with on_stop(shut):
        yield file
    if asked:
        checkpoint()


def _shut(file: sockets.socket) -> None:
    try:
        file.shutdown(sockets.SHUT_RDWR)
    except OSError:  # it is closed, or not connected any more
        pass
