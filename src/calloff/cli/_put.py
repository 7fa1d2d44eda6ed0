"""Writing to standard output without holding up the event loop: nobody need read, and Ctrl-C is heard all the same."""

import asyncio
import os
import select
import stat
from contextvars import Context
from typing import BinaryIO

from .._words.errors import StopForced

__all__ = ["put"]


async def put(file: BinaryIO, data: bytes) -> None:
    """Write all of it; a cancel that comes meanwhile is raised when that is done, and only force leaves it cut off.

    Raises:
        OSError: it can't be written.
    """
    left = memoryview(data)
    if not _may_fill(file):
        while left:  # with python -u a signal that comes meanwhile ends the writing early
            left = left[file.write(left) :]
        file.flush()
        return
    file.flush()
    held: asyncio.CancelledError | None = None
    number = file.fileno()
    while left:
        try:
            await _room(number)
        except StopForced:
            raise
        except asyncio.CancelledError as error:
            held = error
            continue
        left = left[os.write(number, left[: select.PIPE_BUF]) :]
    if held is not None:
        raise held


def _may_fill(file: BinaryIO) -> bool:
    """Whether it is a pipe or a socket."""
    try:
        mode = os.fstat(file.fileno()).st_mode
    except OSError:  # it is none of the system
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


async def _room(number: int) -> None:
    """Wait until `select.PIPE_BUF` bytes can be written without waiting."""
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    if poll.poll(0):
        return
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    Context().run(loop.add_writer, number, _tell, waiter)
    try:
        await waiter
    finally:
        loop.remove_writer(number)


def _tell(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
