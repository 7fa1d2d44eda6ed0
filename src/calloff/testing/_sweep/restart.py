"""Does it work again, in the same world? A slot that is gone without a trace shows only so."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from .points import Stack, Step, is_python, shown, stack_of, stack_of_error
from .words import at_line, comparable, named

__all__ = ["Second", "run_again", "waits_at", "while_it_goes_on"]


_PACKAGE = __file__.rpartition("testing")[0]
#: what is over, or was made for one use
_OVER = re.compile(
    r"clos(ed|ing)|disconnect|not connected|shut ?down|no longer"
    r"|(more|only) (than )?once|consumed|exhausted|already awaited|refused|cannot connect|connect call failed",
    re.IGNORECASE,
)


#: seconds within which a task that goes on makes a step, on a busy machine, too
_A_STEP = 0.25


class Second(NamedTuple):
    """What became of the second run.

    Attributes:
        ending: ``ok``, or what it did instead.
        stack: where it hangs or failed.
        value: what it returned, as text.
        took: seconds.
        excused: it failed because what it works with is closed, or by an assertion of its own: a test may count what the
            first run did.
    """

    ending: str
    stack: Stack
    value: str
    took: float
    excused: bool = False


async def run_again(
    make: Callable[[], Awaitable[Any]], limit: float, began: Callable[[], None], least: int = 2, longest: float = 0.0
) -> Second:
    """Run what `make` gives, for at most `limit` seconds; an error from fewer than `least` frames is excused.

    What goes on, step by step, does not hang: a busy machine may need so long. It has `longest` seconds.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    stack: Stack = ()
    value, excused = "", False
    before = asyncio.all_tasks()
    task: asyncio.Future[Any] = asyncio.ensure_future(make())
    began()
    await asyncio.wait({task}, timeout=limit)
    await while_it_goes_on(task, lambda: asyncio.all_tasks() - before, start + longest)
    took = loop.time() - start
    if not task.done():
        stack = waits_at(task, asyncio.all_tasks() - before - {task})
        ending = f"hangs at {at_line(shown(stack))}" if stack else "hangs"
        task.cancel()
        await asyncio.wait({task}, timeout=0.2)
    elif task.cancelled():
        ending = "was cancelled"
    elif (error := task.exception()) is not None:
        ending = f"raises {named(error)}"
        stack = stack_of_error(error)
        asserted = isinstance(error, AssertionError) or not isinstance(error, Exception)
        excused = asserted or len(_somebodys(stack)) < least or _OVER.search(ending) is not None
    else:
        ending, value = "ok", comparable(task.result())
    return Second(ending, stack, value, took, excused)


async def while_it_goes_on(
    task: "asyncio.Future[Any]", tasks: "Callable[[], set[asyncio.Task[Any]]]", until: float
) -> None:
    """Wait for a task on, until that point of the loop's clock, as long as one of its tasks makes a step now and then."""
    loop = asyncio.get_running_loop()
    while not task.done() and loop.time() < until:
        some = tasks()
        waiting = _awaited(some)
        await asyncio.wait({task}, timeout=_A_STEP)
        if _awaited(some) == waiting:
            break


def _awaited(tasks: "Iterable[asyncio.Task[Any]]") -> dict[object, object]:
    """What each task waits for, another thing after each of its steps."""
    return {task: getattr(task, "_fut_waiter", None) or object() for task in tasks if not task.done()}


def waits_at(task: "asyncio.Future[Any]", started: "Iterable[asyncio.Task[Any]]") -> Stack:
    """Where a task waits; for an operation of ours, among the tasks it has `started`: where the body of that does."""
    stack = stack_of(task.get_coro()) if isinstance(task, asyncio.Task) else ()
    if stack and stack[-1].file.startswith(_PACKAGE):
        bodies = [stack_of(other.get_coro()) for other in started]
        stack += max((body for body in bodies if _is_somebodys(shown(body))), key=len, default=())
    return stack


def _is_somebodys(step: Step) -> bool:
    return bool(step.line) and not is_python(step.file) and not step.file.startswith(_PACKAGE)


def _somebodys(stack: Stack) -> Stack:
    """Without Python's own frames: one that is left is the function itself."""
    return tuple(step for step in stack if not is_python(step.file))
