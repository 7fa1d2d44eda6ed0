"""What the client is told when its request was stopped: problem details (RFC 9457), and nothing of the inside.

The text of an error names files and lines of the server, and a reason the words of an operator: neither is a client's
business, so what is said is made here of the kind of the reason alone.
"""

import json
from contextlib import suppress

from .._words.reason import Kind, Reason
from ._channel import Send

__all__ = ["CLIENT_GONE", "answer", "status_of", "words"]

#: the status that proxies log for a client that did not wait; nobody ever sees it on the wire
CLIENT_GONE = 499
_TITLES = {CLIENT_GONE: "Client Closed Request", 503: "Service Unavailable", 504: "Gateway Timeout"}


def status_of(reason: Reason) -> int:
    """The status for a request that was stopped for that reason, and had not begun to answer."""
    if reason.kind is Kind.DISCONNECTED:
        return CLIENT_GONE
    return 504 if reason.kind in (Kind.DEADLINE, Kind.STALLED) else 503


def words(reason: Reason) -> str:
    """The sentence for the client."""
    match reason.kind:
        case Kind.DEADLINE:
            return f"The request did not end {reason.text}."
        case Kind.STALLED:
            return f"The request made no progress {reason.text}."
        case Kind.DISCONNECTED:
            return "The client went away."
        case Kind.SHUTDOWN:
            return "The server is shutting down."
        case _:
            return "The request was called off."


async def answer(send: Send, status: int, detail: str, retry_after: int) -> None:
    """Send the whole answer; 503 says when to come again."""
    problem = {"type": "about:blank", "title": _TITLES[status], "status": status, "detail": detail}
    body = json.dumps(problem).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    if status == 503:
        headers.append((b"retry-after", b"%d" % retry_after))
    try:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    except Exception:
        if status != CLIENT_GONE:
            raise


async def farewell(send: Send, shutdown: bool) -> None:
    """Close a websocket: 1012 when the server ends, 1011 when its handler was called off for another reason."""
    with suppress(Exception):  # it may be gone already
        await send({"type": "websocket.close", "code": 1012 if shutdown else 1011})
