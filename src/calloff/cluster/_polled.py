"""Streams through engines that carry calls: what is written goes out in calls one after the other, and one call waits
for what comes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from ._stream import Part

__all__ = ["Polled", "released"]

#: seconds that what is left to be sent may take, and letting go
_LAST = 1.0


class Polled:
    """A stream made of two kinds of calls; in the thread of `_io`.

    Args:
        send: carries bytes to the agent; called again only when that has been done.
        receive: waits for bytes of the agent, and returns them; empty at its end.
        release: lets go of the agent.
        heard: called with what has come.
        ended: called once, in words, when nothing more will come.
    """

    def __init__(
        self,
        send: Callable[[bytes], Awaitable[object]],
        receive: Callable[[], Awaitable[bytes]],
        release: Callable[[], Awaitable[object]],
        heard: Callable[[bytes], None],
        ended: Callable[[str], None],
    ) -> None:
        self._send, self._receive, self._release = send, receive, release
        self._heard, self._ended = heard, ended
        self._parts: list[Part] = []
        self._closed = False
        loop = asyncio.get_running_loop()
        self._sending: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._receiving = loop.create_task(self._receives())

    def write(self, parts: Sequence[Part]) -> None:
        """Send this after everything that was sent before."""
        if self._closed:
            return
        self._parts += parts
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._sends())

    async def _sends(self) -> None:
        try:
            while self._parts:
                parts, self._parts = self._parts, []
                await self._send(b"".join(parts))
        except Exception as error:
            self._end(error)
        finally:
            self._sending = None

    async def _receives(self) -> None:
        try:
            while data := await self._receive():
                self._heard(data)
        except Exception as error:
            self._end(error)
        else:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self._closed:
            self._closed = True
            self._ended("the stream ended" if error is None else f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Send what is left, and let go."""
        self._closed = True
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._closes())

    async def released(self) -> None:
        """Wait until what was closed is let go of."""
        if self._closing is not None:
            await asyncio.wait((self._closing,))

    async def _closes(self) -> None:
        try:
            if self._sending is not None:
                await asyncio.wait((self._sending,), timeout=_LAST)
            async with asyncio.timeout(_LAST):
                await self._release()
        except Exception:  # the engine has lost it: the agent sees the end of its stream, or its lease ends
            pass
        self._receiving.cancel()


async def released(wires: Iterable[Polled]) -> None:
    """Wait for those: an engine is left only when its agents have heard of it."""
    await asyncio.gather(*(wire.released() for wire in wires))
