"""Where the runs take place: on the running loop, or each in a process of its own."""

import asyncio
import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol

from .case import Case, Result
from .isolate import Server
from .opened import record_opening
from .plan import Plan
from .run import run_case
from .touched import watched_locks

__all__ = ["Here", "Place", "loop_like", "make_place", "young_garbage_only"]


class Place(Protocol):
    """Carries out one plan at a time."""

    async def ask(self, order: tuple[Plan | None, Result | None], /) -> Result: ...

    def close(self) -> None: ...


class Here:
    """The running loop."""

    def __init__(self, case: Case) -> None:
        self._case = case

    async def ask(self, order: tuple[Plan | None, Result | None], /) -> Result:
        return await run_case(self._case, *order)

    def close(self) -> None: ...


@contextmanager
def young_garbage_only() -> Generator[None]:
    """Keep what exists now out of the garbage collections after each run."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def make_place(case: Case, make_loop: Callable[[], asyncio.AbstractEventLoop], *, quiet: bool = True) -> Place:
    """A server that runs the case in processes of their own."""

    def carry_out(order: tuple[Plan | None, Result | None]) -> Result:
        loop = make_loop()
        record_opening()
        with watched_locks():
            return loop.run_until_complete(run_case(case, *order))

    return Server(carry_out, 4 * case.timeout + 2, quiet=quiet)


def loop_like(loop: asyncio.AbstractEventLoop) -> Callable[[], asyncio.AbstractEventLoop]:
    """How to make another loop of the same kind."""
    kind = type(loop)
    eager = loop.get_task_factory() is getattr(asyncio, "eager_task_factory", ())

    def make() -> asyncio.AbstractEventLoop:
        new = kind()
        asyncio.set_event_loop(new)
        if eager:
            new.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        return new

    return make
