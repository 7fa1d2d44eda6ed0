"""What `calloff.map` returns: entered with ``async with`` and iterated, awaited as a whole, or used by plain blocking code.

The items belong to one operation, the *driver*, which is named after the map, tells by its progress how far the map is,
and whose stop, from wherever it is asked, calls off what is in flight. Leaving the block is nothing but that stop, so the
next line runs when everything has ended. An ``async for`` without the block could not promise this: Python leaves the
closing of what is iterated to the garbage collector, and the items went on meanwhile. So the iteration is refused there.
"""

import asyncio
import logging
from asyncio import CancelledError
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator, Sized
from contextvars import copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._operation.current import progress
from .._operation.operation import Operation, current_operation
from .._operation.waiting import settled
from .._words.bears import bears
from .._words.duration import count
from .._words.errors import StopForced
from .._words.outcome import Outcome
from .._words.reason import Kind, Reason
from .aside import QUICK, Aside
from .bar import Bar, Progress
from .blocking import Blocking
from .flight import Counts, Flight
from .plan import Plan
from .pump import pump as pump_items
from .window import Lane, Window

if TYPE_CHECKING:
    from .journal import Journal

__all__ = ["Map"]

_logger = logging.getLogger("calloff")
Item = TypeVar("Item")
T = TypeVar("T")
_SHOW = (
    "write `async with calloff.map(...) as results:` and in it `async for item, outcome in results:`; "
    "only a block can have stopped what is in flight when the next line runs"
)
#: seconds between two reports of how far it is
_EVERY = 0.1
#: and between two that the program gets
_SHOWN = 0.25
#: what the items have after their grace, and a little more
_LAST = 2.5


class Map(Generic[Item, T]):
    """Many items on their way; made by `calloff.map`, which tells all about it."""

    def __init__(
        self,
        plan: Plan,
        items: Iterable[Item] | AsyncIterable[Item],
        start: Callable[..., Operation[Any]],
        lane: Callable[[Window, Callable[..., Operation[Any]]], Lane],
        journal: "Journal | None",
    ) -> None:
        self._plan = plan
        self._items: Any = items
        self._jobs = plan.jobs
        self._start = start
        self._lane = lane
        self._journal = journal
        self._window: Window | None = None
        self._driver: Operation[None] | None = None
        self._blocking: Blocking | None = None
        self._streams = True
        self._total: int | None = None
        self._began = 0.0
        #: whether the results are to have all that is known of their items
        self.in_full = False
        show = plan.progress
        self._show = Bar(f"map {plan.name}") if show is True else show or None

    # --- as a block

    async def __aenter__(self) -> "Map[Item, T]":
        if self._window is not None:
            raise RuntimeError("a map can be used only once: its items are drawn as it runs")
        loop = asyncio.get_running_loop()
        if self._journal is not None:
            await self._journal.open()
        try:
            if self._journal is not None:
                await self._read(self._journal)
            window = self._window = Window(self._plan, self._jobs, loop, self._journal, self._start)
            if not hasattr(self._items, "__aiter__"):
                items: Iterator[Any] = iter(self._items)
                window.total = len(self._items) if isinstance(self._items, Sized) else None
                is_quick = type(items) in QUICK
                if is_quick and self._journal is None:
                    window.source = items
                else:
                    self._items = items if is_quick or self._blocking is None else Aside(items)
            window.streams = self._streams
            window.in_full = self.in_full
            window._ordered = window._ordered or not self._streams
            window.lane = self._lane(window, self._start)
            self._began = loop.time()
            grace = self._plan.grace + _LAST
            self._driver = self._start(self._drive(window), name=self.name, grace=grace)
            self._driver.add_done_callback(self._driven)
        except BaseException:
            if self._journal is not None:
                self._journal.close()
            raise
        return self

    async def _read(self, journal: "Journal") -> None:
        if journal.is_large:
            from .._places.thread.place import thread

            await self._start(thread(journal.read), name=f"read the output of {self._plan.name}", grace=0.0)
        else:
            journal.read()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._driver is not None
        try:
            await self._driver.stop("the block of the map was left")
        finally:
            if self._journal is not None:
                self._journal.close()

    async def _drive(self, window: Window) -> None:
        """The body of the operation that the items belong to."""
        window.context = copy_context()
        window.lane.owner = current_operation.get()
        ticking = self._tick(window)
        pump: Operation[None] | None = None
        try:
            if window.source is None:
                drawing = pump_items(window, self._items, self._plan.name)
                pump = self._start(drawing, name=f"items of {self._plan.name}", grace=self._plan.grace)
            window.context.run(window.fill)
            await asyncio.shield(window.over)
        finally:
            ticking.cancel()
            held = await self._stop(window, pump)
            window.lane.close()
            progress(str(window.counts))
            self._tell_program(last=True)
            if held is not None:
                raise held

    async def _stop(self, window: Window, pump: Operation[None] | None) -> BaseException | None:
        """Call off what is in flight, and the source, and wait for their ends; returned is what came here meanwhile."""
        text = self._driver_reason()
        held: BaseException | None = None
        self._close(window, pump, text, None)
        while True:
            try:
                await asyncio.shield(window.over)
                if pump is not None and not pump.done():
                    await pump.completion()
            except CancelledError as error:
                held = error
            except StopForced as error:  # whoever has called it off had less patience: neither have we
                held = error
                self._close(window, pump, text, 0.0)
            else:
                return held

    def _close(self, window: Window, pump: Operation[None] | None, text: str, grace: float | None) -> None:
        window.close(text, grace)
        if pump is not None:
            pump.cancel(Reason(Kind.PARENT, text), grace=grace)
        assert window.context is not None
        window.context.run(window.fill)

    def _driver_reason(self) -> str:
        driver = self._driver or current_operation.get()
        reason = None if driver is None else driver.reason
        return "the map was called off" if reason is None else reason.text or str(reason.kind)

    def _tick(self, window: Window) -> "asyncio.Task[None] | Operation[None]":
        """Begin to report how far it is; what calls a function of the program is an operation, which may be interrupted."""
        if self._show is None or isinstance(self._show, Bar):
            return window.loop.create_task(self._tell(window))
        return self._start(self._tell(window), name=f"progress of {self._plan.name}", grace=self._plan.grace)

    async def _tell(self, window: Window) -> None:
        """Report how far it is, where somebody may look."""
        last = None
        due = window.loop.time() + _SHOWN
        while True:
            counts = window.counts
            if counts != last:
                last = counts
                progress(str(counts))
            if self._show is not None and window.loop.time() >= due:
                self._tell_program()
                due = window.loop.time() + _SHOWN
            await asyncio.sleep(_EVERY)

    @bears
    def _tell_program(self, **last: bool) -> None:
        """Call what the program gave as `progress`."""
        show = self._show
        try:
            if isinstance(show, Bar):
                show(self.progress, **last)
            elif show is not None:
                show(self.progress)
        except Exception:  # results do not depend on it
            self._show = None
            _logger.exception("progress of %s raised and is not called again", self._plan.name)

    def _driven(self, _: object) -> None:
        """The driver has ended: whoever waits for a result hears of it."""
        assert self._window is not None
        self._window._wake()

    # --- the results

    def __aiter__(self) -> "AsyncIterator[tuple[Item, Outcome[T]]]":
        if self._window is None:
            raise RuntimeError(f"calloff.map was not entered: {_SHOW}")
        return self

    async def __anext__(self) -> tuple[Item, Outcome[T]]:
        window = self._window
        if window is None or not window.results:
            return await self._take()
        taken = window.results.popleft()  # most are there by the time they are asked for
        if window._launched < window.jobs:
            window.taken()
        return taken

    async def flights(self) -> "AsyncIterator[tuple[Flight, Outcome[T]]]":
        """The results with all that is known of their items, where `in_full` was set before the block was entered."""
        while True:
            try:
                taken: Any = await self._take()
            except StopAsyncIteration:
                return
            yield taken

    def left(self) -> "Iterator[tuple[Flight, Outcome[T]]]":
        """Give those of them that nobody took: for who was called off, once the block is left and all has ended."""
        window: Any = self._window
        while window is not None and window.results:
            yield window.results.popleft()

    async def _take(self) -> tuple[Item, Outcome[T]]:
        window, driver = self._window, self._driver
        if window is None or driver is None:
            raise RuntimeError(f"calloff.map was not entered: {_SHOW}")
        while not window.results:
            if window.over.done() or driver.done():
                await driver.outcome()
                if window.error is not None and (isinstance(window.error, Exception) or driver.reason is None):
                    raise window.error
                driver.result()  # called off from outside, or broken
                raise StopAsyncIteration
            await window.wait()
        taken = window.results.popleft()
        window.taken()
        return taken

    @property
    def name(self) -> str:
        """What an operation that waits for it is called: ``map fetch``."""
        return f"map {self._plan.name}"

    @property
    def counts(self) -> Counts:
        """How far it is, as numbers."""
        return Counts() if self._window is None else self._window.counts

    @property
    def progress(self) -> Progress:
        """How far it is: counts, rate, time left, the slowest item."""
        window = self._window
        if window is None:
            return Progress(Counts(), None, 0.0, None)
        total = window.total if self._total is None else self._total
        slowest = max(self.running(), key=lambda operation: operation.elapsed, default=None)
        return Progress(window.counts, total, window.loop.time() - self._began, slowest)

    @property
    def jobs(self) -> int:
        """How many items may be in flight; can be set while the map runs."""
        return self._jobs

    @jobs.setter
    def jobs(self, jobs: int) -> None:
        self._jobs = count(jobs, "jobs")
        window = self._window
        if window is not None:
            window.jobs = self._jobs
            window.loop.call_soon_threadsafe(window.taken)

    def running(self) -> tuple[Operation[Any], ...]:
        """The operations of what is in flight."""
        return () if self._window is None else self._window.lane.running()

    # --- as a whole

    def __await__(self) -> Generator[Any, None, list[Outcome[T]]]:
        return self._all().__await__()

    async def _all(self) -> list[Outcome[T]]:
        self._streams = False
        async with self:
            window, driver = self._window, self._driver
            assert window is not None
            assert driver is not None
            held = await settled(lambda: (driver,), self._called_off)
            if held is not None:  # it is the caller who was called off, which must not look like the map
                raise held
            if window.error is not None:
                raise window.error
            driver.result()
            return [outcome for _, outcome in window.results]

    def _called_off(self, error: CancelledError) -> None:
        assert self._driver is not None
        self._driver.cancel(str(error) or "the code that awaits the map was cancelled")

    # --- for code that is not asynchronous

    def __enter__(self) -> "Map[Item, T]":
        self._blocking = Blocking(self)
        self._blocking.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._blocking is not None
        self._blocking.leave()

    def __iter__(self) -> Iterator[tuple[Item, Outcome[T]]]:
        if self._blocking is None:
            raise RuntimeError(f"calloff.map was not entered: {_SHOW.replace('async ', '')}")
        return self._blocking.pairs()
