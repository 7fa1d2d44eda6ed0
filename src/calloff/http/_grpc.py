"""For gRPC's asyncio: a call has no more time than its caller, and a handler is an operation that ends with its client."""

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from importlib import import_module
from typing import Any

from .._api.awaiting import end_of
from .._api.start import start
from .._operation.operation import Operation, current_operation
from .._words.duration import delay
from .._words.outcome import Abandoned, Cancelled
from .._words.reason import LIMITS, Kind
from ._headers import incoming, left

__all__ = ["grpc_client", "grpc_server"]

Go = Callable[[Any, Any], Awaitable[Any]]
#: of a call without a deadline gRPC says that it has some centuries
_NEVER = 1e8
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def grpc_client() -> list[Any]:
    """Make the interceptors for a channel: ``grpc.aio.insecure_channel(target, interceptors=calloff.http.grpc_client())``.

    Returns:
        One for each kind of call. They give a call the time that is left as its timeout, unless its own is shorter; gRPC
        sends that as ``grpc-timeout``. And a call ends with its operation: by itself gRPC tells a server only most of the
        times that the task which reads a stream was cancelled.

    Raises:
        ImportError: grpcio is not installed. The caller's fault.
    """
    aio: Any = import_module("grpc.aio")
    found = []
    for kind in _KINDS:
        base = getattr(aio, f"{kind.title().replace('_', '')}ClientInterceptor")
        found.append(type(base.__name__, (base,), {f"intercept_{kind}": _intercept})())
    return found


async def _intercept(self: object, go: Go, details: Any, request: Any) -> Any:
    seconds = left()
    if seconds is not None:
        given = details.timeout
        details = details._replace(timeout=seconds if given is None else min(given, seconds))
    call = await go(details, request)
    operation = current_operation.get()
    if isinstance(operation, Operation):  # in a process nothing outlives it

        def cancel(_: object) -> None:
            call.cancel()

        operation.add_done_callback(cancel)
        call.add_done_callback(lambda _: operation.remove_done_callback(cancel))
    return call


def grpc_server(grace: float = 5.0) -> Any:
    """Make the interceptor for a server: ``grpc.aio.server(interceptors=[calloff.http.grpc_server()])``.

    Args:
        grace: seconds between asking a handler to stop and force.

    Returns:
        A `grpc.aio.ServerInterceptor`. Each call of an async handler is an operation, named by its method, with the
        deadline of its client. It is stopped with kind `disconnected` when the client calls it off, and answered with
        ``DEADLINE_EXCEEDED`` at its deadline and with ``UNAVAILABLE`` when anything else stops it. Blocking handlers are
        left as they are.

    Raises:
        ImportError: grpcio is not installed. The caller's fault.
        ValueError: a negative or NaN duration. The caller's fault.
    """
    grace = delay(grace, "grace")
    grpc: Any = import_module("grpc")
    aio: Any = import_module("grpc.aio")

    async def intercept(self: object, go: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        handler = await go(details)
        if handler is None:
            return None
        streams = (handler.request_streaming, handler.response_streaming)
        kind = "_".join("stream" if is_stream else "unary" for is_stream in streams)
        serve = getattr(handler, kind)
        if not inspect.iscoroutinefunction(serve) and not inspect.isasyncgenfunction(serve):
            return handler

        async def run(request: Any, context: Any) -> Any:
            return await _bounded(grpc, _body(serve, request, context), details.method, context, grace)

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(run, handler.request_deserializer, handler.response_serializer)

    return type("ServerInterceptor", (aio.ServerInterceptor,), {"intercept_service": intercept})()


async def _body(serve: Any, request: Any, context: Any) -> Any:
    found = serve(request, context)
    if not inspect.isasyncgen(found):
        return await found
    async for message in found:
        await context.write(message)
    return None


async def _bounded(grpc: Any, body: Coroutine[Any, Any, Any], name: str, context: Any, grace: float) -> Any:
    told = [context.time_remaining(), incoming(context.invocation_metadata() or ())]
    limits = [seconds for seconds in told if seconds is not None and seconds < _NEVER]
    operation = start(body, name=name, timeout=max(0.0, min(limits)) if limits else None, grace=grace)
    outcome = await end_of(operation, Kind.DISCONNECTED, "the client called it off")
    if isinstance(outcome, Cancelled | Abandoned):
        late = outcome.reason.kind in LIMITS
        code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.UNAVAILABLE
        await context.abort(code, "did not end in time" if late else "was called off")
    return outcome.unwrap()
