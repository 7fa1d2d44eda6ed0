"""How the program is, for those who ask by HTTP: the same as `calloff.service.health`, as JSON."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from .._api.health import Work, health
from .._words.duration import delay
from ._channel import Receive, Scope, Send
from ._count import counts, requests

__all__ = ["healthz"]


def healthz(
    *, late: float = 1.0, abandoned: int = 10, detail: bool = False
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Make an ASGI application that answers how the program is: 200 when it is well, else 503.

    Args:
        late: it is not well when the event loop was later than that many seconds in the last minute,
        abandoned: or when more operations than that could not be stopped and still run.
        detail: tell also the lines of code at which work is: not for everybody.

    Returns:
        The application. Its JSON has the fields of `calloff.service.Health`, the number of open `requests`, and how many
        headers with a deadline could not be read (`malformed_deadlines`).

    Raises:
        ValueError: `late` is negative or NaN. The caller's fault.

    It is called so:

        app.mount("/healthz", calloff.asgi.healthz())
    """
    late = delay(late, "late")

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        told = health(late=late, abandoned=abandoned)
        facts = {
            "ok": told.ok,
            "late": round(told.late, 4),
            "operations": told.operations,
            "stopping": told.stopping,
            "oldest": None if told.oldest is None else _facts(told.oldest, detail),
            "abandoned": [_facts(work, detail) for work in told.abandoned],
            "requests": len(requests),
            "malformed_deadlines": counts.malformed,
        }
        body = json.dumps(facts).encode()
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": 200 if told.ok else 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


def _facts(work: Work, detail: bool) -> dict[str, Any]:
    facts = {"id": work.id, "name": work.name, "elapsed": round(work.elapsed, 3)}
    return {**facts, "where": work.where} if detail else facts
