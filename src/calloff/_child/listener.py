"""A thread of a worker that hears of an asking while the main thread can't, since it is inside C.

The guard rings the bell of the page whenever it asks. Here a thread waits for that, from the first block of a job that
wants to know (`on_stop`) to the end of the job.
"""

import select
import signal
from collections.abc import Callable
from threading import Thread

from .page import Page
from .wire import ASK, DUMP, LOOK

__all__ = ["Listener"]


class Listener:
    """Calls `tell` in a thread when job `number` is asked, once."""

    __slots__ = ("_closed", "_number", "_page", "_tell", "_thread")

    def __init__(self, page: Page, number: int, tell: Callable[[], object]) -> None:
        self._page = page
        self._number = number
        self._tell = tell
        self._closed = False
        self._thread = Thread(target=self._listen, name="calloff-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The job is over."""
        self._closed = True
        self._page.ring()
        self._thread.join()

    def _listen(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {ASK, LOOK, DUMP})  # they are for the main thread
        bell = select.poll()
        bell.register(self._page.bell, select.POLLIN)
        while not self._closed:
            if self._page.asked == self._number:
                self._tell()
                return
            bell.poll()
            self._page.hush()
