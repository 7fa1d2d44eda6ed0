"""An MCP server over stdio with the stubborn tools, each bounded, and some more: for test_mcp."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import api.tool_bodies as bodies

import calloff
import calloff.mcp

try:
    from mcp.server.mcpserver import MCPServer
except ImportError:
    from mcp.server.fastmcp import FastMCP as MCPServer

server = MCPServer("stubborn")
for stubborn in bodies.STUBBORN:
    server.add_tool(calloff.tool(timeout=0.5, grace=0.5, place="process")(stubborn))
server.add_tool(bodies.add)


def counts(to: int) -> str:
    """Counts, in a process."""
    for number in range(to):
        calloff.progress((number + 1, to))
        time.sleep(0.15)
    return "counted"


server.add_tool(calloff.mcp.tool(timeout=30, place="process")(counts))


def numbers(seconds: float) -> int:
    """Sleeps, and returns a number, of which the server makes a schema."""
    time.sleep(seconds)
    return 3


server.add_tool(calloff.mcp.tool(timeout=2, grace=0.5, place="process")(numbers))


@server.tool()
@calloff.tool(timeout=60, grace=1)
async def waits(file: str) -> str:
    """Waits, and tells in a file how it ended."""
    Path(file).write_text("waits")
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.05)
        Path(file).write_text("stopped, cleaned up")
    return "late"


@server.tool()
async def pid() -> int:
    return os.getpid()


@server.tool()
async def leaves_a_daemon() -> str:
    subprocess.Popen(["sleep", "61.25"], start_new_session=True, stdin=subprocess.DEVNULL)
    return "left"


if __name__ == "__main__":
    if sys.argv[1:] == ["deaf"]:  # a server that does not end when its input does
        import signal
        import threading

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Thread(target=time.sleep, args=(60,)).start()
    server.run("stdio")
