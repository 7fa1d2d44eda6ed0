"""Who may speak to the page: every request passes here before anything else sees it.

A page of another site can make the browser send requests to us; it can't choose their ``Host`` and ``Origin``. So

- ``Host`` has to be a name of ours: a foreign name that was made to point at our address (DNS rebinding) is refused;
- ``Origin``, where there is one, has to be that same host: a foreign page that posts to us is refused;
- everything below ``/api/`` needs the token in the ``Authorization`` header, which no browser adds by itself: there is
  no cookie that a foreign page could ride on, and no other user of this machine knows the token.

The answers carry a policy under which the page can load nothing from elsewhere, run no script but our files and be
shown in no frame.
"""

import hmac
from collections.abc import Iterable
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard", "is_loopback", "plain_name"]

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """The middleware.

    Args:
        app: what is guarded.
        token: the secret of the link.
        hosts: the names under which we listen, beside those of the loopback interface. One that is not a loopback
            address also admits any address written as a number, which no name server can turn against us.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = {plain_name(host) for host in hosts}
        self._any_address = not all(map(is_loopback, self._hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what may not pass with one sentence, and passes on the rest."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a web socket: closed without an answer

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return PlainTextResponse("This host name is not one that calloff serve listens under.", 403)
        for origin in headers.getlist("origin"):
            if origin.lower() not in (f"http://{hosts[0].lower()}", f"https://{hosts[0].lower()}"):
                return PlainTextResponse("Requests from pages of other origins are refused.", 403)
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not _is_link(scope, headers):
            return PlainTextResponse("Requests from pages of other sites are refused.", 403)
        if scope["path"].startswith("/api/") and not self._knows(headers.get("authorization", "")):
            text = "The token is missing or wrong: open the link that calloff serve printed."
            return PlainTextResponse(text, 401, {"WWW-Authenticate": "Bearer"})
        return None

    def _is_ours(self, host: str) -> bool:
        name = plain_name(host)
        if name == "localhost" or name in self._hosts or is_loopback(name):
            return True
        return self._any_address and _is_address(name)

    def _knows(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._token)


def plain_name(host: str) -> str:
    """A ``Host`` header without port and brackets, in lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and ":" not in name else host


def is_loopback(name: str) -> bool:
    """Whether only this machine can reach that name or address."""
    return name == "localhost" or (_is_address(name) and ip_address(name).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_link(scope: Scope, headers: Headers) -> bool:
    """The link itself, followed from a mail or a chat: it opens the page and reads nothing."""
    return scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
