"""The client's side: a server on `calloff.command`, and calls that are operations."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from typing import Any

from .._api.awaiting import end_of, seen_through
from .._api.start import start
from .._operation.operation import Operation
from .._places.command.place import command
from .._places.command.work import CommandWork
from .._words.duration import delay
from .._words.reason import Kind

__all__ = ["call_tool", "stdio"]

_logger = logging.getLogger("calloff")
#: seconds that messages which were accepted get to reach the server, before its input is closed
_FLUSH = 0.5


@asynccontextmanager
async def stdio(params: Any, *, errlog: Any = None, grace: float = 2.0) -> AsyncGenerator[tuple[Any, Any]]:
    """Run an MCP server as a command, and talk to it: in place of ``mcp.client.stdio.stdio_client(params)``.

    Args:
        params: `mcp.StdioServerParameters`.
        errlog: an open file for what the server writes to its standard error; by default that goes to ours.
        grace: seconds that the server gets to end when its input was closed, and again when it was asked by SIGTERM.

    Returns:
        A context manager with the two streams that a ``ClientSession`` of mcp 1 takes; a ``Client`` of mcp 2 takes the
        context manager itself. When it is left, in whatever way, or when the program dies, nothing is left of the server:
        neither itself nor any process that it has started, daemons included.

    Raises:
        FileNotFoundError, PermissionError: the server can't be run. The caller's fault.
        ImportError: mcp is not installed. The caller's fault.

    The server is an operation: ``calloff ps`` shows it, and a stop of it ends the session. With mcp 1, which does not,
    ``notifications/cancelled`` is sent when the task that waits for a request has ended.
    """
    grace = delay(grace, "grace")
    anyio: Any = import_module("anyio")
    defaults: Any = import_module("mcp.client.stdio")
    env = {**defaults.get_default_environment(), **(params.env or {})}
    work = command(
        params.command,
        *params.args,
        env=env,
        cwd=None if params.cwd is None else str(params.cwd),
        stdin="pipe",
        stdout="pipe",
        stderr="inherit" if errlog is None else errlog,
        check=False,
    )
    server = start(work, name=f"mcp {params.command}", grace=grace)
    wire = _Wire(work, params.encoding, params.encoding_error_handler)
    to_session, reading = anyio.create_memory_object_stream(0)
    writing, from_session = anyio.create_memory_object_stream(0)
    reader = asyncio.ensure_future(wire.read(to_session))
    writer = asyncio.ensure_future(wire.write(from_session))
    try:
        yield reading, (wire.noting(writing) if wire.old else writing)
    finally:
        with anyio.CancelScope(shield=True):
            reading.close()
            writing.close()
            await _end(server, work, reader, writer, grace)
            for stream in (to_session, from_session):
                stream.close()


async def _end(
    server: Operation[Any], work: CommandWork, reader: "asyncio.Task[None]", writer: "asyncio.Task[None]", grace: float
) -> None:
    """Close the input, wait, stop: as the protocol says; and see it through whoever is cancelled meanwhile."""

    async def ending() -> None:
        await asyncio.wait([writer], timeout=_FLUSH)
        writer.cancel()
        work.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await server.outcome()
        await server.stop("its session is over")
        await asyncio.wait([reader, writer], timeout=_FLUSH)
        reader.cancel()
        await asyncio.gather(reader, writer, return_exceptions=True)

    await seen_through(start(ending(), name="end of an MCP server", detached=True))


class _Wire:
    """The server's standard streams, as messages."""

    def __init__(self, work: CommandWork, encoding: str, errors: str) -> None:
        self._work = work
        self._encoding = encoding
        self._errors = errors
        self._message: Any = import_module("mcp.shared.message").SessionMessage
        self.waiting: dict[Any, asyncio.Task[Any]] = {}
        try:
            types: Any = import_module("mcp_types")
        except ImportError:
            types = import_module("mcp.types")
            self.old = True
            self._parse: Any = types.JSONRPCMessage.model_validate_json
        else:
            self.old = False
            self._parse = types.jsonrpc_message_adapter.validate_json

    async def read(self, to_session: Any) -> None:
        """Until the server writes no more; then the session hears that the connection is closed."""
        try:
            async for line in self._work.stdout:
                message = self._read(line)
                if message is not None:
                    await to_session.send(message)
        except Exception:  # the session is gone: what the server still writes must not hold it up
            async for _ in self._work.stdout:
                pass
        finally:
            to_session.close()

    def _read(self, line: bytes) -> Any:
        text = line.decode(self._encoding, self._errors).strip()
        if not text:
            return None
        try:
            options = {} if self.old else {"by_name": False}
            message = self._parse(text, **options)
        except ValueError as error:
            _logger.warning("an MCP server wrote what is no message: %.200r", text)
            return error
        plain = message.root if self.old else message
        if hasattr(plain, "result") or hasattr(plain, "error"):
            self.waiting.pop(getattr(plain, "id", None), None)
        return self._message(message)

    async def write(self, from_session: Any) -> None:
        """Until the session sends no more, or the server reads no more."""
        options = {"exclude_none": True} if self.old else {"exclude_unset": True}
        try:
            async for message in from_session:
                text = message.message.model_dump_json(by_alias=True, **options)
                await self._work.stdin.write(f"{text}\n".encode(self._encoding, self._errors))
        except OSError:  # it has ended, which the reader tells
            pass
        finally:
            from_session.close()

    def noting(self, stream: Any) -> Any:
        """The stream, in a form that knows which task waits for which request."""
        kept: set[asyncio.Task[Any]] = set()

        async def send(item: Any) -> None:
            request = item.message.root
            task = asyncio.current_task()
            number = getattr(request, "id", None)
            if number is not None and hasattr(request, "method") and request.method != "initialize" and task:
                self.waiting[number] = task
                task.add_done_callback(lambda _: left(number))
            await stream.send(item)

        def left(number: Any) -> None:
            if self.waiting.pop(number, None) is not None and not stream._closed:
                note = asyncio.ensure_future(tell(number))
                kept.add(note)
                note.add_done_callback(kept.discard)

        async def tell(number: Any) -> None:
            types: Any = import_module("mcp.types")
            params = {"requestId": number, "reason": "nobody waits for it any more"}
            note = types.JSONRPCNotification(jsonrpc="2.0", method="notifications/cancelled", params=params)
            with suppress(Exception):  # the session is over
                await stream.send(self._message(types.JSONRPCMessage(note)))

        return _Noting(stream, send)


class _Noting:
    """A stream of anyio whose `send` is another one."""

    def __init__(self, stream: Any, send: Any) -> None:
        self._stream = stream
        self.send = send

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def __aenter__(self) -> "_Noting":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stream.aclose()


async def call_tool(
    session: Any,
    name: str,
    arguments: dict[str, Any] | None = None,
    *,
    timeout: float | None = None,
    grace: float = 2.0,
    **options: Any,
) -> Any:
    """Call a tool of a server as an operation: ``await calloff.mcp.call_tool(session, "search", {"query": "tea"})``.

    Args:
        session: a ``ClientSession``, or a ``Client`` of mcp 2.
        name: of the tool.
        arguments: for it.
        timeout: seconds until the call is stopped; ``None`` for no limit.
        grace: seconds between asking the call to stop and force.
        **options: further ones of the session's ``call_tool``.

    Returns:
        What the session's ``call_tool`` returns. Progress that the server reports is that of the operation, as with
        `calloff.progress`: ``(done, total)``.

    Raises:
        TimedOut: the limit has passed. The server hears of it by ``notifications/cancelled``.
    """

    async def report(progress: float, total: float | None, message: str | None) -> None:
        operation.progressed(progress if total is None else (progress, total))

    options.setdefault("progress_callback", report)
    work = session.call_tool(name, arguments or {}, **options)
    operation: Operation[Any] = start(work, name=f"mcp {name}", timeout=timeout, grace=grace)
    return (await end_of(operation, Kind.PARENT, "the call was cancelled")).unwrap()
