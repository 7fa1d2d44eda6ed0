"""`install`: the middleware at its right place in an application of Starlette or FastAPI."""

from typing import Any, Protocol

from ._middleware import Middleware

__all__ = ["install", "is_installed"]


class _Starlette(Protocol):
    user_middleware: list[Any]
    middleware_stack: Any


def install(app: _Starlette, /, **options: Any) -> None:
    """Put `Middleware` into an application of Starlette or FastAPI, innermost of its middlewares.

    Args:
        app: the application, before it has served anything.
        options: those of `Middleware`.

    There a stop reaches the handler directly. Around a `BaseHTTPMiddleware` the cancel would go through the task group
    which that makes, and a part of the work would go on. Middlewares that are added later are around it, too.

    Raises:
        TypeError: `app` is of another framework; use ``app = calloff.asgi.Middleware(app)`` there. The caller's fault.
        RuntimeError: the application has begun to serve, or has the middleware already. The caller's fault.
        ValueError: an option is wrong. The caller's fault.

    It is called so:

        app = FastAPI()
        calloff.asgi.install(app, timeout=30)
    """
    stack = getattr(app, "user_middleware", None)
    if not isinstance(stack, list):
        raise TypeError(
            f"install() is for applications of Starlette and FastAPI, not {type(app).__name__}: "
            "use app = calloff.asgi.Middleware(app)"
        )
    if getattr(app, "middleware_stack", None) is not None:
        raise RuntimeError("the application has begun to serve: call install() before")
    if is_installed(app):
        raise RuntimeError("calloff.asgi.Middleware is in this application already")
    Middleware(_nothing, **options)  # so that what is wrong is told here
    from starlette.middleware import Middleware as Entry

    stack.append(Entry(Middleware, **options))


def is_installed(app: object) -> bool:
    """Whether the middleware is somewhere in there."""
    for _ in range(50):
        if isinstance(app, Middleware) or any(
            getattr(entry, "cls", None) is Middleware for entry in getattr(app, "user_middleware", None) or ()
        ):
            return True
        app = getattr(app, "app", None)
    return False


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """Serve nothing."""
