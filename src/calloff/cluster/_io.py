"""A thread with an event loop of its own for the streams to the agents.

So beats go out while the program holds up its own event loop, and `Operation.where` can wait for an answer in that.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["Io"]

T = TypeVar("T")


class Io:
    """The thread, from its start to `stop`."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="calloff-cluster", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
        finally:
            self.loop.close()

    def post(self, act: Callable[..., object], *args: Any) -> None:
        """Have it called there; from any thread."""
        with suppress(RuntimeError):  # it has ended: the agents see the end of what they read
            self.loop.call_soon_threadsafe(act, *args)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Have a coroutine run there, and wait for it."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Have a coroutine run there."""
        asyncio.run_coroutine_threadsafe(work, self.loop)

    def stop(self) -> None:
        """End it, and wait for that unless this is the thread itself."""
        self.post(self.loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(1.0)
