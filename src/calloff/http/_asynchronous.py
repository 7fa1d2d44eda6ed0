"""For asynchronous clients: only the header. Their waiting is called off by the operation's own limit, to the moment."""

from collections.abc import Awaitable, Callable
from typing import Any

from ._headers import write

__all__ = ["aiohttp_middleware", "httpx_hook"]


async def httpx_hook(request: Any) -> None:
    """Send the time that is left: ``httpx.AsyncClient(event_hooks={"request": [calloff.http.httpx_hook]})``.

    Args:
        request: the `httpx.Request`; of a redirect, too, which gets the time that is left by then.

    Raises:
        asyncio.CancelledError: the deadline has passed.
    """
    write(request.headers)


def aiohttp_middleware(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Awaitable[Any]:
    """Send the time that is left: ``aiohttp.ClientSession(middlewares=[calloff.http.aiohttp_middleware])``.

    Args:
        request: the `aiohttp.ClientRequest` (aiohttp 3.12 or later); of a redirect, too.
        handler: sends it.

    Returns:
        What `handler` returned, to be awaited: a coroutine of our own around it would cost as much as the header.

    Raises:
        asyncio.CancelledError: the deadline has passed.
    """
    write(request.headers)
    return handler(request)
