"""``calloff asgi MODULE:APP``: serve an application with an end that is bounded.

A verb of its own, and not an option of ``run``: there is no result to print, no limit of the whole, and five durations that
mean something only to a server.
"""

import argparse

from .._words.errors import CalloffError
from ._options import duration, parser
from ._refusal import Refused

__all__ = ["main"]

USAGE = "calloff asgi [OPTION...] MODULE:APP"
EPILOG = """\
Durations are written 3, 3s, 500ms, 1m30s or 2h.

The first SIGTERM or SIGINT begins the end, and each request is an operation: leave (new requests are still served), drain
(requests in flight go on), stop (what is left is called off and answered 503), closing (the application's lifespan
shutdown). The second signal ends the present phase. It takes at most leave + drain + grace + closing + 4 s.

The server is listed by calloff ps with its requests, which calloff cancel calls off one by one.

Exit status:
    2  the command line was wrong
  125  it can't be served: the port is taken, the application does not start, a package is missing
  126  the application can't be imported
  127  there is no such module or application
  130  ended by SIGINT
  143  ended by SIGTERM"""


def main(argv: list[str]) -> int:
    """The verb: serves until a signal comes and returns the exit status."""
    options = _read(argv)
    app = _load(options.app)
    try:
        from ..asgi import _serve
    except ModuleNotFoundError as error:
        raise Refused(f"it needs the package {error.name!r}: pip install 'calloff[serve]'", 125) from None
    try:
        _serve.serve(
            app,
            host=options.host,
            port=options.port,
            timeout=None if options.timeout is None else duration("timeout", options.timeout),
            ready=options.ready or None,
            leave=duration("leave", options.leave),
            drain=duration("drain", options.drain),
            grace=duration("grace", options.grace),
            closing=duration("closing", options.closing),
            expose=None,
            factory=options.factory,
            log_level=options.log_level,
        )
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:
        if isinstance(end.code, int) and end.code > 128:
            return end.code
        raise
    except (OSError, CalloffError) as error:
        raise Refused(str(getattr(error, "strerror", None) or error), 125) from None
    except ValueError as error:
        raise Refused(str(error)) from None
    return 0


def _read(argv: list[str]) -> argparse.Namespace:
    reader = parser("asgi", USAGE, "Serve an ASGI application with uvicorn, and end within a bound.", EPILOG)
    reader.add_argument(
        "app", metavar="MODULE:APP", help="the application, in a module or a file: main:app, src/main.py:app"
    )
    reader.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1: only this machine)")
    reader.add_argument("--port", type=_port, default=8000, help="0 for any free one (default: 8000)")
    reader.add_argument("--factory", action="store_true", help="APP is a function that makes the application")
    reader.add_argument("--timeout", metavar="D", help="what each request has (default: no limit)")
    reader.add_argument("--ready", metavar="PATH", default="/readyz", help="answers 503 from the signal on (/readyz)")
    reader.add_argument("--leave", metavar="D", default="0", help="new requests are still served that long (0)")
    reader.add_argument("--drain", metavar="D", default="10", help="requests in flight may end that long (10)")
    reader.add_argument("--grace", metavar="D", default="5", help="from asking a request to stop to force (5)")
    reader.add_argument("--closing", metavar="D", default="5", help="its lifespan shutdown may take that long (5)")
    reader.add_argument("--log-level", metavar="WORD", default="info", help="of uvicorn: critical to debug (info)")
    return reader.parse_args(argv)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535, not {text!r}")
    return int(text)


def _load(target: str) -> object:
    """The application: something that can be called, as every target."""
    from ._target import load

    return load(target if ":" in target else f"{target}:app")
