"""A thread opens a connection for somebody who was called off meanwhile: nobody takes it, and nobody closes it."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Any


class Connection:
    """Opened in a thread of its own, as what blocks has to be."""

    def __init__(self, opened: Callable[["Connection"], None]) -> None:
        self.closed = False
        self.file: Any = None
        self.opened = opened
        self.at_exit = self.close  # a cycle, as such objects have: it goes when the garbage collector comes by
        threading.Thread(target=self.open).start()

    def open(self) -> None:
        time.sleep(0.005)
        self.file = open(os.devnull)  # noqa: SIM115
        self.opened(self)
        if self.closed:
            self.close()

    def close(self) -> None:
        self.closed = True
        file, self.file = self.file, None
        if file is not None:
            file.close()


def connect() -> tuple["asyncio.Future[Connection]", Connection]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Connection] = loop.create_future()

    def hand_over(connection: Connection) -> None:
        loop.call_soon_threadsafe(lambda: future.done() or future.set_result(connection))  # type: ignore[func-returns-value]

    return future, Connection(hand_over)


async def buggy() -> None:
    future, _ = connect()
    connection = await future  # unsafe: early, late: files
    connection.close()


async def mended() -> None:
    future, connection = connect()
    try:
        await future
    finally:
        connection.close()
