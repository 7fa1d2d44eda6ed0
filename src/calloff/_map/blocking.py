"""A map for code that is not asynchronous: ``with calloff.map(...) as results: for item, outcome in results: ...``.

The same object, as `calloff.timeout` is the same with ``with`` and ``async with``: a second name would say nothing new.
The event loop runs in a thread of its own, so that limits hold while the loop's owner works on a result, and Ctrl-C
interrupts the code that iterates, never the loop; leaving the block then stops what is in flight.
"""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .results import Map

__all__ = ["Blocking"]


class Blocking:
    """The thread that runs a map, and the questions that its owner asks there."""

    def __init__(self, results: "Map[Any, Any]") -> None:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("an event loop runs in this thread: use `async with calloff.map(...)` there")
        self._map = results
        self._entered: Future[asyncio.AbstractEventLoop] = Future()
        self._left: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="calloff map", daemon=True)
        self._error: BaseException | None = None
        self._asked: Future[list[tuple[Any, Any]]] | None = None

    def enter(self) -> None:
        """Begin; errors of the arguments are raised here."""
        self._thread.start()
        self._loop = self._entered.result()

    def leave(self) -> None:
        """Stop what is in flight, and come back when all of it has ended."""
        if self._left is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._left.set)
        try:
            self._thread.join()
        except KeyboardInterrupt:  # a second one: no grace any more
            if self._map._driver is not None:
                self._map._driver.cancel("interrupted", grace=0)
            self._thread.join()
            raise
        if self._error is not None:
            raise self._error

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """The results, as many at a time as there are."""
        while self._thread.is_alive():
            self._asked = asked = Future[list[tuple[Any, Any]]]()
            try:
                self._loop.call_soon_threadsafe(self._ask, asked)
            except RuntimeError:  # the loop is closed
                return
            some = asked.result()
            if not some:
                return
            yield from some

    def _ask(self, asked: Future[list[tuple[Any, Any]]]) -> None:
        """Begin to answer, on the loop: a question that Ctrl-C has broken off on its way leaves no coroutine behind."""
        asyncio.ensure_future(self._some()).add_done_callback(partial(_answer, asked))

    async def _some(self) -> list[tuple[Any, Any]]:
        """All that has come by now, at least one; none at the end."""
        window = self._map._window
        assert window is not None
        try:
            found = [await self._map.__anext__()]
        except StopAsyncIteration:
            return []
        while window.results:
            found.append(await self._map.__anext__())
        return found

    def _run(self) -> None:
        from asyncio import Runner

        with Runner() as runner:
            try:
                runner.run(self._serve())
            except BaseException as error:
                if self._entered.done():
                    self._error = error
                else:
                    self._entered.set_exception(error)
        if self._asked is not None and not self._asked.done():  # nobody else answers it any more
            self._asked.set_result([])

    async def _serve(self) -> None:
        self._left = asyncio.Event()
        async with self._map:
            self._entered.set_result(asyncio.get_running_loop())
            await self._left.wait()


def _answer(asked: Future[list[tuple[Any, Any]]], task: "asyncio.Task[list[tuple[Any, Any]]]") -> None:
    """Hand over what has come, or the error; nothing when the map ends."""
    if task.cancelled():
        asked.set_result([])
    elif (error := task.exception()) is not None:
        asked.set_exception(error)
    else:
        asked.set_result(task.result())
