"""In the worker of an engine: agents that were started there, by their numbers, each at the other end of a socket.

An agent is not a child of the worker, and in a process of its own: whatever else runs in the worker does not hold it up,
and when the worker dies the socket ends, and with it the agent and all its work.
"""

import asyncio
import select
import socket
import sys
import time
from contextlib import suppress
from math import inf

from ._local import start_agent

__all__ = ["close", "open", "read", "write"]

_CHUNK = 1 << 18
#: seconds after which nobody comes any more for what an agent that has ended has left
_LEFT = 30.0
_agents: dict[str, "_Agent"] = {}


class _Agent:
    def __init__(self, file: int) -> None:
        self.socket = socket.socket(fileno=file)
        self.socket.setblocking(False)
        #: when somebody read it last; far ahead while somebody does
        self.read_at = time.monotonic()

    def is_left(self) -> bool:
        """Whether it has ended, and its owner too: that one always reads."""
        if time.monotonic() - self.read_at < _LEFT:
            return False
        looking = select.poll()
        looking.register(self.socket, select.POLLRDHUP)
        return bool(looking.poll(0))


async def open(number: str) -> None:
    """Start an agent, which imports from where this worker does: an engine may have brought modules along."""
    for each in [name for name, agent in _agents.items() if agent.is_left()]:
        _agents.pop(each).socket.close()
    file = await asyncio.get_running_loop().run_in_executor(None, start_agent, [str(each) for each in sys.path])
    _agents[number] = _Agent(file)


async def write(number: str, data: bytes) -> None:
    """Send to it."""
    await asyncio.get_running_loop().sock_sendall(_agents[number].socket, data)


async def read(number: str) -> bytes:
    """Wait for something of it; empty at its end."""
    agent = _agents.get(number)
    if agent is None:
        return b""
    agent.read_at = inf
    try:
        return await asyncio.get_running_loop().sock_recv(agent.socket, _CHUNK)
    finally:
        agent.read_at = time.monotonic()


async def close(number: str) -> None:
    """Let go of it."""
    agent = _agents.pop(number, None)
    if agent is not None:
        with suppress(OSError):
            agent.socket.shutdown(socket.SHUT_RDWR)
        await asyncio.sleep(0.1)  # whoever reads has heard of the end
        agent.socket.close()
