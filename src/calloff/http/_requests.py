"""For requests, which blocks: the header, shorter timeouts, and a socket that a stop shuts."""

from importlib import import_module
from typing import Any

from ._headers import cut, left, write
from ._wire import Wire, wire

__all__ = ["requests_adapter"]


def requests_adapter(**options: Any) -> Any:
    """Make an adapter for a session: ``session.mount("https://", calloff.http.requests_adapter())``.

    Args:
        **options: those of `requests.adapters.HTTPAdapter`: the size of its pools, its retries.

    Returns:
        An `HTTPAdapter`. It sends the time that is left, cuts the timeouts of the request to that and 50 ms more, and
        shuts the socket of the request when the operation is stopped.

    Raises:
        ImportError: requests is not installed. The caller's fault.
    """
    requests: Any = import_module("requests")
    adapters: Any = import_module("requests.adapters")
    timeouts = (requests.Timeout, requests.ConnectionError)  # a read of a body that takes too long is the latter

    class Adapter(adapters.HTTPAdapter):  # type: ignore[misc]  # no types are at hand
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            _tell(self.poolmanager)

        def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
            manager = super().proxy_manager_for(*args, **kwargs)
            _tell(manager)
            return manager

        def send(self, request: Any, stream: bool = False, timeout: Any = None, *args: Any, **kwargs: Any) -> Any:
            limit = left()
            write(request.headers)
            waiting = Wire("requests", timeouts)
            with waiting.waits():
                response = super().send(request, stream, _cut(timeout, limit), *args, **kwargs)
                waiting.give_back = response.close
            _wait_in(response.raw, waiting)
            return response

    return Adapter(**options)


def _cut(timeout: Any, limit: float | None) -> Any:
    """A timeout as requests takes it: a number, a pair, an object of urllib3."""
    if limit is None:
        return timeout
    if isinstance(timeout, tuple):
        return tuple(cut(part, limit) for part in timeout)
    if hasattr(timeout, "connect_timeout"):
        return type(timeout)(total=cut(timeout.total, limit), connect=timeout._connect, read=timeout._read)
    return cut(timeout, limit), cut(timeout, limit)


def _tell(manager: Any) -> None:
    """Have the connections of a pool tell the request that uses them where it waits."""
    manager.pool_classes_by_scheme = {
        scheme: kind if hasattr(kind, "calloff") else _pool(kind)
        for scheme, kind in manager.pool_classes_by_scheme.items()
    }


def _pool(kind: Any) -> Any:
    class Connection(kind.ConnectionCls):  # type: ignore[misc]  # no types are at hand
        def connect(self) -> None:
            super().connect()
            self._is_used()

        def request(self, *args: Any, **kwargs: Any) -> Any:
            self._is_used()
            return super().request(*args, **kwargs)

        def getresponse(self, *args: Any, **kwargs: Any) -> Any:
            self._is_used()
            return super().getresponse(*args, **kwargs)

        def _is_used(self) -> None:
            request, file = wire.get(), getattr(self, "sock", None)
            if request is not None and file is not None:
                request.find = lambda: file  # a connection that is not kept forgets it before the body is read

    return type(kind.__name__, (kind,), {"ConnectionCls": Connection, "calloff": True})


def _wait_in(raw: Any, waiting: Wire) -> None:
    """The body is read later, by whoever wants it."""
    stream, read = raw.stream, raw.read

    def streamed(*args: Any, **kwargs: Any) -> Any:
        return waiting.stream(stream(*args, **kwargs))

    def read_in(*args: Any, **kwargs: Any) -> Any:
        with waiting.waits():
            return read(*args, **kwargs)

    raw.stream, raw.read = streamed, read_in
