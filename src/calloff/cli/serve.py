"""``calloff serve``: the page on which everything that runs can be seen and called off.

The link with the token goes to stdout, every other word to stderr.
"""

import argparse
import asyncio
import errno
import secrets
import socket
import sys
from functools import partial
from urllib.parse import urlsplit

from ._options import parser
from ._refusal import Refused

__all__ = ["main"]

PORT = 8642

USAGE = "calloff serve [--host HOST] [--port N]"
EPILOG = """\
Open the link that is printed: the token in it lets in who has it, and nobody else. Ctrl-C ends the server; what it
showed goes on running.

The page shows the operations of every process of yours that answers: those started by calloff run, by
calloff.run(expose=True), or with CALLOFF_EXPOSE=1 in the environment.

Exit status:
    2  the command line was wrong
  125  the page can't be served: the port is taken, the host is not this machine's, a package is missing
  130  ended by SIGINT
  143  ended by SIGTERM"""


def main(argv: list[str]) -> int:
    """The verb: serves until a signal comes and returns the exit status."""
    options = _read(argv)
    return _serve(options.host, options.port)


def _read(argv: list[str]) -> argparse.Namespace:
    reader = parser("serve", USAGE, "Serve a page on which everything that runs can be seen and called off.", EPILOG)
    reader.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1: only this machine)")
    reader.add_argument("--port", type=_port, help=f"0 for any free one (default: {PORT}, or any where it is taken)")
    return reader.parse_args(argv)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535, not {text!r}")
    return int(text)


def _serve(host: str, port: int | None) -> int:
    try:
        from ..web import _guard, _server
    except ModuleNotFoundError as error:
        text = f"the page needs the package {error.name!r}: pip install 'calloff[serve]'"
        raise Refused(text, 125) from None
    from ..control import Client

    bound = _bind(host, port)
    if not _guard.is_loopback(bound.getsockname()[0]):
        _say(f"listening on {host}, so whoever can reach this machine and has the link can call your work off;")
        _say("the connection is not encrypted: prefer the default and a tunnel (ssh -L)")
    token = secrets.token_urlsafe(24)
    link = _server.link(bound, token)
    hosts = (host, urlsplit(link).hostname or host)
    server = _server.make_server(Client, token=token, hosts=hosts, started=partial(print, link, flush=True))
    try:
        asyncio.run(server.serve([bound]))
    except KeyboardInterrupt:
        return 130
    return 0


def _bind(host: str, port: int | None) -> socket.socket:
    from ..web._server import bind

    try:
        try:
            return bind(host, PORT if port is None else port)
        except OSError as error:
            if port is not None or error.errno != errno.EADDRINUSE:
                raise
            return bind(host, 0)
    except OSError as error:
        raise Refused(f"can't listen on {host}, port {PORT if port is None else port}: {error.strerror}", 125) from None


def _say(text: str) -> None:
    print(f"calloff serve: {text}", file=sys.stderr, flush=True)
