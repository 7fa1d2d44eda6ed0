"""MCP, versions 1 and 2: tools answer in time, stops and progress cross, and no server or child of one survives."""

import asyncio
import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import api.tool_bodies as bodies
import borders.marked as marked
import pytest

import calloff
import calloff.mcp

if importlib.util.find_spec("mcp") is None:
    pytest.skip("runs in the environments of the groups borders and borders-mcp2", allow_module_level=True)

import mcp

SERVER = str(Path(__file__).with_name("mcp_server.py"))
NEW = hasattr(mcp, "Client")


@contextlib.asynccontextmanager
async def session(*args):
    params = mcp.StdioServerParameters(command=sys.executable, args=[SERVER, *args], env={**os.environ})
    if NEW:
        async with mcp.Client(calloff.mcp.stdio(params, grace=0.5)) as client:
            yield client
    else:
        streams = calloff.mcp.stdio(params, grace=0.5)
        async with streams as (reading, writing), mcp.ClientSession(reading, writing) as client:
            await client.initialize()
            yield client


def text(result):
    return result.content[0].text


def left():
    """Programs of the tools, and servers, that still run."""
    return marked.running(os.environ[marked.NAME], b"sleep\x0061.25\x00", SERVER.encode())


@pytest.fixture(autouse=True)
def nothing_is_left():
    with marked.mark():
        yield
        assert left() == []


def test_the_stubborn_tools_answer_in_time():
    async def main():
        async with session() as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            schema = getattr(tools["add"], "input_schema", None) or tools["add"].inputSchema
            assert set(schema["properties"]) == {"a", "b"}
            assert tools["add"].description == "Add two numbers."
            assert text(await client.call_tool("add", {"a": 1})) == "3"
            for tool in bodies.STUBBORN:
                began = time.monotonic()
                told = text(await client.call_tool(tool.__name__, {}))
                assert told.startswith(f"{tool.__name__} was called off: it did not end within 0.5 s. It was ")
                assert time.monotonic() - began < 20  # of 60
                assert text(await client.call_tool("add", {"a": 1})) == "3"
                assert b"sleep\x0061.25\x00" not in left()

    calloff.run(main())


def test_a_tool_whose_answer_has_a_schema_tells_its_stop_as_an_error():
    async def main():
        async with session() as client:
            assert text(await client.call_tool("numbers", {"seconds": 0})) == "3"
            result = await client.call_tool("numbers", {"seconds": 60})
            assert result.is_error if NEW else result.isError
            assert "numbers was called off: it did not end within 2 s. It was " in text(result)
            assert "validation" not in text(result)

    calloff.run(main())


@pytest.mark.parametrize("how", ["limit", "cancel", "scope"])
def test_a_stop_crosses_to_the_server(tmp_path, how):
    file = tmp_path / "told"

    async def is_told(words):
        async with asyncio.timeout(30):
            while not file.exists() or file.read_text() != words:
                await asyncio.sleep(0.01)

    async def main():
        async with session() as client:
            call = asyncio.ensure_future(
                calloff.mcp.call_tool(client, "waits", {"file": str(file)}, timeout=10 if how == "limit" else None)
            )
            await is_told("waits")
            if how == "cancel":
                call.cancel()
            elif how == "scope":
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await call
            await asyncio.wait([call])
            if how == "limit":
                assert isinstance(call.exception(), calloff.TimedOut)
            else:
                assert call.cancelled()
            await is_told("stopped, cleaned up")
            assert text(await client.call_tool("add", {"a": 1})) == "3"

    calloff.run(main())


def test_progress_crosses_out_of_a_process():
    async def main():
        seen = []
        async with session() as client:
            call = asyncio.ensure_future(calloff.mcp.call_tool(client, "counts", {"to": 20}, timeout=60))
            while not call.done():
                seen += [op.progress for op in calloff.operations() if op.name == "mcp counts" and op.progress]
                await asyncio.sleep(0.01)
            assert text(await call) == "counted"
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            schema = getattr(tools["counts"], "input_schema", None) or tools["counts"].inputSchema
            assert set(schema["properties"]) == {"to"}
        assert set(seen) <= {(n, 20) for n in range(1, 21)}
        assert len(set(seen)) >= 2

    calloff.run(main())


@pytest.mark.parametrize("args", [(), ("deaf",)], ids=["ends by itself", "is deaf"])
def test_no_server_and_no_child_of_one_survives_the_session(args):
    async def main():
        async with session(*args) as client:
            assert text(await client.call_tool("leaves_a_daemon", {})) == "left"
            async with asyncio.timeout(30):
                while b"sleep\x0061.25\x00" not in left():  # the system may show a new program's words a moment later
                    await asyncio.sleep(0.01)
        assert left() == []

    calloff.run(main())


def test_nor_a_session_that_fails_or_is_called_off():
    class Mine(Exception):
        pass

    async def fails():
        async with session() as client:
            await client.call_tool("leaves_a_daemon", {})
            raise Mine

    async def waits(ready):
        async with session() as client:
            await client.call_tool("leaves_a_daemon", {})
            ready.set()
            await asyncio.sleep(60)

    async def main():
        with pytest.raises((Mine, ExceptionGroup)):
            await fails()
        assert left() == []
        ready = asyncio.Event()
        op = calloff.start(waits(ready), grace=20)
        await asyncio.wait_for(ready.wait(), 60)
        assert isinstance(await op.stop(), calloff.Cancelled)
        assert left() == []

    calloff.run(main())


def test_a_server_that_is_not_there():
    async def main():
        params = mcp.StdioServerParameters(command="no-such-server")
        with pytest.raises(FileNotFoundError):
            async with calloff.mcp.stdio(params):
                pass

    calloff.run(main())


def test_a_server_that_dies_ends_the_session():
    async def main():
        async with session() as client:
            pid = int(text(await client.call_tool("pid", {})))
            call = asyncio.ensure_future(calloff.mcp.call_tool(client, "waits", {"file": os.devnull}))
            await asyncio.sleep(0.2)
            os.kill(pid, 9)
            await asyncio.wait_for(asyncio.wait([call]), 30)
            assert call.exception() is not None

    calloff.run(main())


def test_the_example_prints_what_its_page_says():
    example = Path(__file__).parents[2] / "examples" / "mcp_session.py"
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert done.stdout in (Path(__file__).parents[2] / "docs" / "how-to" / "agents.md").read_text()
    assert len(done.stdout.splitlines()) == 2
