"""Each request of an ASGI application as an operation. Needs nothing but the application and a server.

    app = FastAPI()
    calloff.asgi.install(app, timeout=30)

Names are loaded when they are first used: an application that only has the middleware does not pay for the server.
"""

from .._door import lazy

TYPE_CHECKING = bool()  # noqa: UP018  # Jedi would skip what stands behind a plain False
if TYPE_CHECKING:
    from ._channel import RequestOver as RequestOver
    from ._channel import keep as keep
    from ._healthz import healthz as healthz
    from ._install import install as install
    from ._middleware import BrokenOff as BrokenOff
    from ._middleware import Middleware as Middleware
    from ._serve import Server as Server
    from ._serve import serve as serve
    from ._serve import serving as serving

_HOMES = {
    "_channel": ("RequestOver", "keep"),
    "_healthz": ("healthz",),
    "_install": ("install",),
    "_middleware": ("BrokenOff", "Middleware"),
    "_serve": ("Server", "serve", "serving"),
}

if not TYPE_CHECKING:  # type checkers are to know the names above, and no others
    __all__, __getattr__, __dir__ = lazy(__name__, _HOMES)
