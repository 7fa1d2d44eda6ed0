"""An MCP server and its client: a stop and progress cross between them, and nothing of the server survives the session.

python examples/mcp_session.py                    (needs the package mcp, version 1 or 2)
"""

import asyncio
import sys
import time

import mcp

import calloff
import calloff.mcp


def serve():
    try:
        from mcp.server.mcpserver import MCPServer
    except ImportError:
        from mcp.server.fastmcp import FastMCP as MCPServer

    server = MCPServer("example", log_level="WARNING")
    server.add_tool(calloff.mcp.tool(timeout=3, place="process")(count))
    server.run("stdio")


def count(to: int) -> str:
    """Count, slowly."""
    for number in range(to):
        calloff.progress((number + 1, to))
        time.sleep(0.25)
    return "done"


async def talk(session):
    for to in (3, 1000):
        call = asyncio.ensure_future(calloff.mcp.call_tool(session, "count", {"to": to}, timeout=30))
        seen = set()
        while not call.done():
            await asyncio.sleep(0.05)
            seen |= {op.progress for op in calloff.operations() if op.name == "mcp count" and op.progress}
        print((await call).content[0].text, "- progress was seen" if seen else "- no progress was seen")


async def main():
    params = mcp.StdioServerParameters(command=sys.executable, args=[__file__, "serve"])
    if hasattr(mcp, "Client"):  # version 2
        async with mcp.Client(calloff.mcp.stdio(params)) as client:
            await talk(client)
    else:
        async with calloff.mcp.stdio(params) as streams, mcp.ClientSession(*streams) as session:
            await session.initialize()
            await talk(session)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        calloff.run(main())
