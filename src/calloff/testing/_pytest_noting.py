"""Notes by which awaits a test comes while it runs as ever: one that has nothing left to try needs no further run.

Most tests of a suite come by awaits that others have been called off at. To run each of them once more, in a process of
its own, only to see that, was most of what a sweep of a large suite cost.
"""

import asyncio
import functools
import inspect
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest

from ._pytest_probe import foreign_loop, put_in
from ._sweep.course import Course, current_course
from ._sweep.driver import Driver
from ._sweep.factory import factory_like
from ._sweep.plan import Seen

__all__ = ["Noting", "noted"]


class Noting:
    """Drives a test's function, and the tasks that it starts, without calling anything off."""

    def __init__(self) -> None:
        self._course: Course | None = None

    @property
    def seen(self) -> list[Seen] | None:
        """What it came by; ``None`` where that could not be noted."""
        return None if self._course is None else self._course.seen

    def wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function that is run in place of the test's."""

        @functools.wraps(function)
        async def driven(*args: Any, **kwargs: Any) -> Any:
            if self._course is not None or foreign_loop():
                return await function(*args, **kwargs)
            self._course = course = Course(None, _nothing, calls=True)
            token = current_course.set(course)
            try:
                with _driving(asyncio.get_running_loop(), course):
                    course.main = Driver(function(*args, **kwargs), course)
                    return await course.main
            finally:
                course.over = True
                current_course.reset(token)

        return driven


@contextmanager
def noted(item: pytest.Function, wanted: bool) -> Generator[Noting]:
    """Note what the test comes by while the block runs, where that is `wanted` and a plugin runs its function."""
    noting = Noting()
    if not wanted or not inspect.iscoroutinefunction(item.obj):
        yield noting
        return
    with put_in(item, noting):
        yield noting


@contextmanager
def _driving(loop: asyncio.AbstractEventLoop, course: Course) -> Generator[None]:
    """Drive the tasks that are started of the course."""
    previous = loop.get_task_factory()

    def made(make: Callable[[Any], Any], coro: Any) -> Any:
        ours = current_course.get() is course and not course.over and not isinstance(coro, Driver)
        driven = course.adopt(coro) if ours else coro
        task = make(driven)
        if isinstance(driven, Driver):
            driven.task = weakref.ref(task)
        return task

    loop.set_task_factory(factory_like(previous, made))
    try:
        yield
    finally:
        loop.set_task_factory(previous)


def _nothing(_course: Course) -> None:
    """Nobody is called off."""
