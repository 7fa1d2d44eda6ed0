"""The operation that reads a source which may wait, or block, and offers its items to the window as there is room."""

import asyncio
import logging
from asyncio import CancelledError
from time import monotonic
from typing import Any

from .._operation.operation import Operation
from .._words.errors import CalloffError, StopForced
from .._words.reason import Kind, Reason
from .window import Window

__all__ = ["pump"]

_logger = logging.getLogger("calloff")
#: seconds for which a source is drawn from in one go
_TURN = 0.002


async def pump(window: Window, source: Any, name: str) -> None:
    """Draw from a source that may wait, or block, while there is room."""
    room: asyncio.Future[None] | None = None

    def on_room() -> None:
        if room is not None and not room.done():
            room.set_result(None)

    window.on_room = on_room
    assert window.context is not None
    is_async = hasattr(source, "__aiter__")
    try:
        source = aiter(source) if is_async else source
        try:
            while not window.closed and window.more:
                if not window.wants():
                    room = window.loop.create_future()
                    await room
                    room = None
                elif is_async:
                    try:
                        item = await anext(source)
                    except StopAsyncIteration:
                        break
                    window.offer(item)
                    window.context.run(window.fill)
                else:  # here, where it can be called off even while it blocks; never from within a callback
                    began = monotonic()
                    for item in source:
                        window.offer(item)
                        if not window.wants() or monotonic() - began > _TURN:
                            break
                    else:
                        window.more = False
                    window.context.run(window.fill)
                    if monotonic() - began > _TURN:
                        await asyncio.sleep(0)  # those in flight get their turn, however slow the source is
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()
    except (CancelledError, StopForced) as error:
        if window.closed:
            raise
        driver = window.lane.owner
        above = None if driver is None else _stopped_above(driver)
        if driver is not None and above is not None:  # while it blocked, somebody had no more time for the whole map
            driver.cancel(Reason(Kind.PARENT, above.text or str(above.kind), above.by))
        else:  # it was not us who called it off: these are not all items
            gone = CalloffError(f"the items of {name} came to no end: their source was called off")
            gone.__cause__ = error
            window.fail(gone)
        raise
    except BaseException as error:
        if window.closed:
            _logger.warning("the items of %s raised when they were closed", name, exc_info=error)
        window.fail(error)
    finally:
        window.more = False
        window.context.run(window.fill)


def _stopped_above(operation: Operation[Any]) -> Reason | None:
    """Why the nearest operation above it that is being stopped is stopped; ``None`` when none is."""
    above = operation.parent
    while above is not None and above.reason is None:
        above = above.parent
    return None if above is None else above.reason
