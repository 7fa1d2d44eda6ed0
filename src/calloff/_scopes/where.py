"""Where a block was when it was called off."""

from types import AsyncGeneratorType, CoroutineType, GeneratorType

from .._words.frame import RawStack, raised_at

__all__ = ["raised_at", "waiting_at"]


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
