"""The server's side: a tool whose progress goes to the client, also out of a process."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from .._api.tool import bounded, context_of, dressed
from .._operation.operation import Operation

__all__ = ["tool"]

#: the parameter by which the framework hands over its context
_PARAMETER = "calloff_context"
#: seconds between two reports to the client, at least
_EVERY = 0.1
_context: ContextVar[Any] = ContextVar("calloff.mcp.context", default=None)


def tool(fn: Callable[..., Any] | None = None, /, **limits: Any) -> Any:
    """Make a function a bounded tool of an MCP server, whose progress the client sees: ``@calloff.mcp.tool(timeout=10)``.

    Args:
        fn: a blocking or an async function.
        **limits: as for `calloff.tool`. With ``on_timeout="raise"`` the client gets the sentence as the text of an error.
            That is the default where the function returns something else than text: by its annotation the server makes
            a schema, which the sentence would not fit.

    Returns:
        What `calloff.tool` makes, with a further parameter that FastMCP and MCPServer fill in by themselves and leave
        out of the schema. What the function reports with `calloff.progress`, a number or a pair ``(done, total)``, goes to
        the client as ``notifications/progress``, if that has asked for it, wherever the function runs.

    Raises:
        ImportError: mcp is not installed. The caller's fault.
        TypeError, ValueError: as `calloff.tool`.
    """
    if fn is None:
        return partial(tool, **limits)
    limits = {"on_timeout": "tell" if _may_tell(fn) else "raise", **limits}
    limited: Any = bounded(fn, beside=_forwarded, as_error=_error_class(), **limits)
    own = context_of(inspect.unwrap(fn))

    parameter, contexts = _PARAMETER, _context  # the function below gets the globals of `fn`

    async def call(*args: Any, **kwargs: Any) -> Any:
        token = contexts.set(kwargs.get(own) if own is not None else kwargs.pop(parameter, None))
        try:
            return await limited(*args, **kwargs)
        finally:
            contexts.reset(token)

    made: Any = dressed(call, fn)
    if own is None:
        signature = inspect.signature(limited)
        kind = inspect.Parameter(_PARAMETER, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_context_class())
        parameters = [*signature.parameters.values()]
        end = bool(parameters) and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
        parameters.insert(len(parameters) - end, kind)
        made.__signature__ = signature.replace(parameters=parameters)
        made.__annotations__ = {**limited.__annotations__, _PARAMETER: kind.annotation}
    return made


def _may_tell(fn: Any) -> bool:
    """Return whether a text fits into what the function returns, by its annotation."""
    try:
        returns = get_type_hints(inspect.unwrap(fn)).get("return", Any)
    except Exception:  # a name that is not to be found now, or no function
        returns = getattr(fn, "__annotations__", {}).get("return", Any)
    is_union = get_origin(returns) in (Union, UnionType)
    return returns in (str, Any, object, "str", "Any") or (is_union and str in get_args(returns))


def _context_class() -> Any:
    try:
        return import_module("mcp.server.mcpserver").Context
    except ImportError:
        return import_module("mcp.server.fastmcp").Context


def _error_class() -> Any:
    """Return the error whose text a server passes on."""
    try:
        return import_module("mcp.server.mcpserver.exceptions").ToolError
    except ImportError:
        return import_module("mcp.server.fastmcp.exceptions").ToolError


@asynccontextmanager
async def _forwarded(operation: Operation[Any]) -> AsyncGenerator[None]:
    """Meanwhile, tell the client of the operation's progress."""
    context = _context.get()
    if context is None:
        yield
        return
    told: Any = None

    async def report() -> None:
        nonlocal told
        progress = operation.progress
        if progress == told:
            return
        told = progress
        done, total = progress if isinstance(progress, tuple) else (progress, None)
        if isinstance(done, int | float):
            await context.report_progress(done, total)

    async def watch() -> None:
        async for _ in operation.watch(every=_EVERY):
            await report()

    watching = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    await report()
