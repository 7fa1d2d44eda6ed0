"""For `httpx.Client`, which blocks: the header, shorter timeouts, and a socket that a stop shuts."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from ._headers import cut, left, write
from ._wire import Wire, wire

__all__ = ["httpx_transport"]

_TIMEOUTS = ("connect", "read", "write", "pool")


def httpx_transport(inner: Any = None) -> Any:
    """Make a transport for blocking clients: ``httpx.Client(transport=calloff.http.httpx_transport())``.

    Args:
        inner: the transport that does the work; by default an `httpx.HTTPTransport`.

    Returns:
        An `httpx.BaseTransport`. It sends the time that is left, cuts the timeouts of the request to that and 50 ms
        more, and shuts the socket of the request when the operation is stopped.

    Raises:
        ImportError: httpx is not installed. The caller's fault.
    """
    httpx: Any = import_module("httpx")
    httpcore: Any = import_module("httpcore")
    inner = httpx.HTTPTransport() if inner is None else inner
    pool: Any = getattr(inner, "_pool", None)
    if hasattr(pool, "_network_backend"):
        pool._network_backend = _backend(httpcore, pool._network_backend)

    class Stream(httpx.SyncByteStream):  # type: ignore[misc]  # no types are at hand
        def __init__(self, chunks: Any, request: Wire) -> None:
            self._chunks = chunks
            self._request = request

        def __iter__(self) -> Iterator[bytes]:
            return self._request.stream(self._chunks)

        def close(self) -> None:
            self._chunks.close()

    class Transport(httpx.BaseTransport):  # type: ignore[misc]  # no types are at hand
        def handle_request(self, request: Any) -> Any:
            limit = left()
            write(request.headers)
            if limit is not None:
                given = request.extensions.get("timeout") or {}
                timeouts = {key: cut(given.get(key), limit) for key in _TIMEOUTS}
                request.extensions = {**request.extensions, "timeout": timeouts}
            waiting = Wire("httpx", (httpx.TimeoutException,))
            with waiting.waits():
                response = inner.handle_request(request)
                waiting.give_back = response.stream.close
            response.stream = Stream(response.stream, waiting)
            return response

        def close(self) -> None:
            inner.close()

    return Transport()


def _backend(httpcore: Any, inner: Any) -> Any:
    """A network backend whose streams tell the request that uses them where it waits."""

    class Backend(httpcore.NetworkBackend):  # type: ignore[misc]  # no types are at hand
        def connect_tcp(self, *args: Any, **kwargs: Any) -> Any:
            return _Stream(inner.connect_tcp(*args, **kwargs))

        def connect_unix_socket(self, *args: Any, **kwargs: Any) -> Any:
            return _Stream(inner.connect_unix_socket(*args, **kwargs))

        def sleep(self, seconds: float) -> None:
            inner.sleep(seconds)

    return Backend()


class _Stream:
    """A connection, as httpcore sees it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _is_used(self) -> None:
        request = wire.get()
        if request is not None:
            request.find = self._socket

    def _socket(self) -> Any:
        return self._inner.get_extra_info("socket")

    def read(self, *args: Any, **kwargs: Any) -> Any:
        self._is_used()
        return self._inner.read(*args, **kwargs)

    def write(self, *args: Any, **kwargs: Any) -> Any:
        self._is_used()
        return self._inner.write(*args, **kwargs)

    def start_tls(self, *args: Any, **kwargs: Any) -> Any:
        self._is_used()
        return _Stream(self._inner.start_tls(*args, **kwargs))
