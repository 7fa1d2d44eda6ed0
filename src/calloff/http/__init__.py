"""The time that is left crosses to other programs: as a header out, and back in; with what a blocking client waits for.

    client = httpx.AsyncClient(event_hooks={"request": [calloff.http.httpx_hook]})

Nothing of it happens unasked: each client is told by itself. Names are loaded when they are first used, and the libraries
that they are for not before one is called.
"""

from .._door import lazy

TYPE_CHECKING = bool()  # noqa: UP018  # Jedi would skip what stands behind a plain False
if TYPE_CHECKING:
    from ._asynchronous import aiohttp_middleware as aiohttp_middleware
    from ._asynchronous import httpx_hook as httpx_hook
    from ._grpc import grpc_client as grpc_client
    from ._grpc import grpc_server as grpc_server
    from ._headers import headers as headers
    from ._headers import incoming as incoming
    from ._httpx import httpx_transport as httpx_transport
    from ._requests import requests_adapter as requests_adapter

_HOMES = {
    "_asynchronous": ("aiohttp_middleware", "httpx_hook"),
    "_grpc": ("grpc_client", "grpc_server"),
    "_headers": ("headers", "incoming"),
    "_httpx": ("httpx_transport",),
    "_requests": ("requests_adapter",),
}

if not TYPE_CHECKING:  # type checkers are to know the names above, and no others
    __all__, __getattr__, __dir__ = lazy(__name__, _HOMES)
