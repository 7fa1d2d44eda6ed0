"""In the worker of an engine: agents that were started there, by their numbers, each at the other end of a socket.

An agent is not a child of the worker, and in a process of its own: whatever else runs in the worker does not hold it up,
and when the worker dies the socket ends, and with it the agent and all its work.
"""

import asyncio
import socket
import sys
from contextlib import suppress

from ._local import start_agent

__all__ = ["close", "open", "read", "write"]

_CHUNK = 1 << 18
_agents: dict[str, socket.socket] = {}


async def open(number: str) -> None:
    """Start an agent, which imports from where this worker does: an engine may have brought modules along."""
    file = await asyncio.get_running_loop().run_in_executor(None, start_agent, [str(each) for each in sys.path])
    agent = _agents[number] = socket.socket(fileno=file)
    agent.setblocking(False)


async def write(number: str, data: bytes) -> None:
    """Send to it."""
    await asyncio.get_running_loop().sock_sendall(_agents[number], data)


async def read(number: str) -> bytes:
    """Wait for something of it; empty at its end."""
    agent = _agents.get(number)
    return b"" if agent is None else await asyncio.get_running_loop().sock_recv(agent, _CHUNK)


async def close(number: str) -> None:
    """Let go of it."""
    agent = _agents.pop(number, None)
    if agent is not None:
        with suppress(OSError):
            agent.shutdown(socket.SHUT_RDWR)
        await asyncio.sleep(0.1)  # whoever reads has heard of the end
        agent.close()
