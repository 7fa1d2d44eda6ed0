"""Waiting for an operation on behalf of a caller that may be called off itself: by a framework, and again and again."""

import sys
from asyncio import CancelledError
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TypeVar

from .._operation.callers import carry_failure
from .._operation.operation import Operation
from .._words.outcome import Outcome
from .._words.reason import Kind, Reason

__all__ = ["end_of", "seen_through"]

T = TypeVar("T")


async def end_of(operation: Operation[T], kind: Kind, text: str) -> Outcome[T]:
    """How it ends. A cancel of the caller stops it, for that reason, and goes on when that is done."""
    try:
        return await operation.outcome()
    except CancelledError as held:
        operation.cancel(Reason(kind, text))
        with suppress(CancelledError):  # once more, for the same: it is raised below
            await seen_through(operation)
        carry_failure(held, operation)
        raise


async def seen_through(operation: Operation[T]) -> None:
    """Wait until it has ended, whoever cancels the caller meanwhile: the cancel is raised then, and stops nothing."""
    held: CancelledError | None = None
    with _quiet():
        while not operation.done():
            try:
                await operation.completion()
            except CancelledError as error:
                held = error
    if held is not None:
        raise held


def _quiet() -> AbstractContextManager[object]:
    """Where anyio cancels the caller, it would do so at every turn of the loop until the stop is done."""
    anyio = sys.modules.get("anyio")
    return nullcontext() if anyio is None else anyio.CancelScope(shield=True)
