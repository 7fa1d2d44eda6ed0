"""The end of an event loop is the end of its operations.

`calloff.run` ends what it leaves behind by itself. Under everything else (`asyncio.run`, `asyncio.Runner`, unittest's
`IsolatedAsyncioTestCase`, pytest-asyncio, a loop made by hand) a loop ends in two steps, and both are recognised:

- The runners of asyncio cancel all tasks, and wait for them without limit. An operation whose task is cancelled then climbs
  its ladder from there on, with reason `shutdown`; what refuses force, too, is let go of with its task. (`is_closing` finds
  that out by the stack: nothing else tells this cancel from any other.)
- `loop.close` is wrapped on the instance, once per loop, when its first operation starts. Before the loop closes, it runs
  once more until the operations that are left have ended, processes and commands among them, each by its ladder. No grace
  is longer than the usual one here.

Where even that can't be (a loop that takes no wrapper, or one that is closed while another loop runs in the same thread),
the operations of a closed loop are ended at the next look: force is used where that needs no loop, and they are abandoned.
"""

import asyncio
import asyncio.runners
import contextlib
import logging
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine
from functools import partial
from types import FrameType
from typing import Any, Protocol

from .._scopes.timers import Timers, timers_of
from .._words.place import Body
from .._words.policy import DEFAULT
from .._words.reason import Kind

__all__ = ["CLOSING", "adopt", "closing", "forget", "forget_closed", "greeters", "hosts", "is_closing", "timers_for"]

_logger = logging.getLogger("calloff")
CLOSING = "its event loop is being closed"
#: how long after the end of its ladder an operation is waited for, should its place be broken
_GUARD = 1.0
#: turns of the loop in which a task that was let go of ends
_TURNS = 3


class Hosted(Protocol):
    """An operation, as its loop ends."""

    body: Body | None
    _grace: float

    def done(self) -> bool:
        """Whether it has ended."""
        ...

    def get_loop(self) -> AbstractEventLoop:
        """Its event loop."""
        ...

    def request(self, kind: Kind, text: str, by: str | None, grace: float, /) -> None:
        """Begin the stop, or hasten the one on its way."""

    def completion(self) -> "asyncio.Future[None]":
        """A future that is done when it is."""
        ...

    def lose_loop(self) -> None:
        """End it without a loop."""


#: the loops on which operations were started, and their timers
hosts: dict[AbstractEventLoop, Timers] = {}
#: called with each loop, not one of `calloff.run`, on which a first operation starts; what they return, at its end
greeters: list[Callable[[AbstractEventLoop], Callable[[], object] | None]] = []
#: the loops that run once more, for the end of their operations, before they are closed
closing: set[AbstractEventLoop] = set()
_partings: dict[AbstractEventLoop, list[Callable[[], object]]] = {}


def timers_for(loop: AbstractEventLoop, live: dict[Any, None]) -> Timers:
    """Return the timers of a loop on which an operation starts; the first one has the end of the loop watched."""
    forget_closed(live)
    timers = adopt(loop)
    former = vars(loop).get("close") if hasattr(loop, "__dict__") else None
    with contextlib.suppress(AttributeError, TypeError):  # a loop without attributes of its own: see `forget_closed`
        loop.close = partial(_close, loop, live, loop.close, former)  # type: ignore[method-assign]  # on this instance
    for greet in greeters:
        if (parting := greet(loop)) is not None:
            _partings.setdefault(loop, []).append(parting)
    return timers


def adopt(loop: AbstractEventLoop) -> Timers:
    """Return the timers of a loop whose end the caller takes care of."""
    return hosts.setdefault(loop, timers_of(loop))


def is_closing() -> bool:
    """Return whether the calling code runs in the last turns of a loop, on behalf of whoever closes it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code in _CLOSERS:
            return True
        frame = frame.f_back
    return False


def forget(loop: AbstractEventLoop, live: dict[Any, None]) -> None:
    """End the operations of a loop that is closed: they never go on."""
    hosts.pop(loop, None)
    for operation in [known for known in tuple(live) if known.get_loop() is loop][::-1]:  # children first
        live.pop(operation, None)
        try:
            if not operation.done():
                operation.lose_loop()
        except Exception:  # whoever comes by here starts something else, which must not fail for it
            _logger.exception("an operation of a closed event loop could not be ended")
    for part in _partings.pop(loop, ()):
        try:
            part()
        except Exception:
            _logger.exception("what goes with a closed event loop could not be ended")


def forget_closed(live: dict[Any, None]) -> None:
    """End the operations of all loops that were closed without our knowledge."""
    for loop in tuple(hosts):
        if loop.is_closed():
            forget(loop, live)


def _close(loop: AbstractEventLoop, live: dict[Any, None], close: Callable[[], None], former: Any) -> None:
    """Stands for ``loop.close()``: run the loop once more, until its operations have ended."""
    if loop.is_running() or sys.is_finalizing():
        close()  # which refuses; or nothing can run any more
        return
    with contextlib.suppress(AttributeError):
        if former is None:
            del loop.close
        else:
            loop.close = former  # type: ignore[method-assign]  # on this instance
    try:
        if not loop.is_closed() and asyncio._get_running_loop() is None and _of(loop, live):
            closing.add(loop)
            _run(loop, _end(loop, live))
    finally:
        closing.discard(loop)
        close()
        forget(loop, live)


def _run(loop: AbstractEventLoop, last: Coroutine[Any, Any, None]) -> None:
    """Run it to its end, however often the loop is stopped: by a `stop` from before, or by what clean-up code calls."""
    task = loop.create_task(last)
    while not task.done():
        try:
            loop.run_until_complete(task)
        except RuntimeError:
            if task.done() or loop.is_closed():
                raise


def _of(loop: AbstractEventLoop, live: dict[Any, None]) -> list[Hosted]:
    return [operation for operation in tuple(live) if operation.get_loop() is loop]


async def _end(loop: AbstractEventLoop, live: dict[Any, None]) -> None:
    until = loop.time() + max((min(operation._grace, DEFAULT.grace) for operation in _of(loop, live)), default=0.0)
    asked: set[Hosted] = set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(until + DEFAULT.last + _GUARD):
            while running := [operation for operation in _of(loop, live) if not operation.done()]:
                for operation in running:  # the second time, what clean-up code has started in the meantime
                    if operation not in asked:
                        asked.add(operation)
                        grace = min(operation._grace, max(0.0, until - loop.time()))
                        operation.request(Kind.SHUTDOWN, CLOSING, None, grace)
                for operation in running:
                    if not operation.done():
                        await operation.completion()
    for operation in _of(loop, live):  # abandoned ones: let go of them with their tasks
        task = None if operation.body is None else operation.body.task
        if task is not None:
            task.cancel()
    for _ in range(_TURNS):
        await asyncio.sleep(0)


_CLOSERS = frozenset(
    function.__code__
    for function in (_close, getattr(asyncio.runners, "_cancel_all_tasks", None))
    if function is not None
)
