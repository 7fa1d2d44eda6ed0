"""Where a block was when it was called off."""

from types import AsyncGeneratorType, CoroutineType, GeneratorType

from .._words.frame import RawStack

__all__ = ["raised_at", "waiting_at"]


def raised_at(error: BaseException) -> RawStack:
    """The frames that an exception has come through, outermost first: all that is noted of a block that ran out of time."""
    found: list[object] = []
    trace = error.__traceback__
    while trace is not None:
        found += (trace.tb_frame.f_code, trace.tb_lasti)
        trace = trace.tb_next
    return tuple(found)  # type: ignore[arg-type]


def waiting_at(coro: object) -> RawStack:
    """The frames of a suspended coroutine as far as it can tell itself, outermost first."""
    found: list[object] = []
    while True:
        if isinstance(coro, CoroutineType):
            frame, awaited = coro.cr_frame, coro.cr_await
        elif isinstance(coro, GeneratorType):
            frame, awaited = coro.gi_frame, coro.gi_yieldfrom
        elif isinstance(coro, AsyncGeneratorType):
            frame, awaited = coro.ag_frame, coro.ag_await
        else:
            break
        if frame is None:
            break
        found += (frame.f_code, frame.f_lasti)
        coro = awaited
    return tuple(found)  # type: ignore[arg-type]
