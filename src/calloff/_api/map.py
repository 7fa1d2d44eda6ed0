"""`map`: one function over many items, each of which ends."""

import inspect
import os
import sys
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack, overload

from .._map.plan import SIGNATURE, Options, Plan
from .._map.results import Map
from .._map.singly import Singly
from .._map.window import Lane, Window
from .._operation.operation import Operation
from .._words.given import need_function
from .._words.place import Work
from .start import start

if TYPE_CHECKING:
    from .._places.command.plan import Finished
    from .._places.process.place import Processes
    from .._places.thread.place import Threads

__all__ = ["map"]

#: where the words are made
_PLACES = f"{__name__.rpartition('._api.')[0]}._places"

Item = TypeVar("Item")
T = TypeVar("T")


class Elsewhere(Protocol):
    """A place with more than one word, such as the nodes of a cluster."""

    def process(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Work[Any]:
        """Work that calls a function in a process there."""
        ...


@overload
def map(
    fn: str | Sequence[str],
    items: Iterable[Item] | AsyncIterable[Item],
    *,
    place: "Callable[..., Work[Finished]]",
    **options: Unpack[Options],
) -> "Map[Item, Finished]": ...
@overload
def map(
    fn: Callable[[Item], Coroutine[Any, Any, T]] | Callable[[Item], Work[T]],
    items: Iterable[Item] | AsyncIterable[Item],
    *,
    place: "Processes | Elsewhere | None" = None,
    **options: Unpack[Options],
) -> Map[Item, T]: ...
@overload
def map(
    fn: Callable[[Item], T],
    items: Iterable[Item] | AsyncIterable[Item],
    *,
    place: "Threads | Processes | Elsewhere",
    **options: Unpack[Options],
) -> Map[Item, T]: ...
def map(
    fn: Callable[[Any], Any] | str | Sequence[str],
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    place: Any = None,
    **options: Any,
) -> Map[Any, Any]:
    """Call `fn` with each item, at most `jobs` at a time; each ends, and its ending is a value.

        async with calloff.map(fetch, urls, jobs=100, timeout=3) as results:
            async for url, outcome in results: ...
        outcomes = await calloff.map(fetch, urls, jobs=100, timeout=3)      # all, in order of the items
        outcomes = calloff.run(calloff.map(fetch, urls, timeout=3))         # in a program that is not asynchronous
        with calloff.map(parse, files, place=calloff.process) as results:   # the same block, in such a program
            for file, outcome in results: ...

    Args:
        fn: an async function; with `place`, a blocking function or the template of a command.
        items: any iterable, asynchronous or endless ones too; drawn as there is room, never ahead.
        jobs: how many items are in flight at most; can be set on the results while the map runs.
        place: `calloff.thread`, `calloff.process`, `calloff.command`, or a cluster; ``None`` for an async function. For
            a command, `fn` is a line like ``"convert {} {.}.png"``, split as a shell would do it and run without one, or
            its words.
        timeout: seconds for each item, from the start of its body; waiting for a turn does not count.
        stall: the longest silence of an item between two reports of `progress`, in seconds.
        grace: seconds between asking an item to stop and force.
        ordered: give the results in order of the items, at the price of waiting for a slow one.
        batch: how many items a process, thread or node is given at a time, by default as many as take about 100 ms, or
            250 where it is known how many there are. Each keeps its own limit, one that has to be killed takes nobody with
            it, and those behind a slow one go elsewhere.
        within: ``within(item)`` gives an async context manager that is held from before the start of the item, with
            each attempt anew, to its confirmed end: a rate limiter, a semaphore for each host, a transaction. It hears what
            the item raised. Letting go may take `grace` + 1 s; where it fails, so does an item that had completed.
        retry: ``retry(outcome, attempt)`` is asked about each ending that is not `Completed` and gives the seconds until
            the next attempt, or ``None``. Attempts are counted from 1. Meanwhile the item takes nobody's turn.
        max_failures: how many items may end otherwise than `Completed`, or, below 1.0, which share of those that ended
            (from twenty on). Beyond it what is in flight is stopped and `CalloffError` raised.
        patience: seconds that an item which was drawn may wait for its turn: for a free worker or thread, for what
            `within` holds. Beyond it the item is `Cancelled`, and never ran. ``None``, as usual, for no limit.
        memory: bytes that an item in a process may take, beyond what its worker has at that time; an allocation beyond
            it raises `MemoryError` in the function. Code in C that can't bear that may crash, which is `WorkerDied`.
        progress: ``True`` shows how far it is on stderr: a bar on a terminal or in a notebook, else a line every 10 s. A
            function is called four times a second, and at the end, with the same as an object: `counts`, `total`,
            `rate`, `left`, `slowest`; its errors are logged.
        output: a file to which every ending is appended as one line of JSON, by one write, so that it survives SIGKILL.
        resume: go on with that file: run the items that are missing in it; ``"failed"`` also runs those that did not
            complete. Items that were done before are not given again. A line that was cut off is removed.
        key: ``key(item)`` gives the text by which an item is known in `output`, by default the name of `fn` with its
            module, the item's JSON and its number.

    Leaving the block stops what is in flight before the next line runs. An item's failure, crash or refusal is its
    outcome and touches no other one. The results have `counts`, `progress` and `jobs`.

    Raises:
        TypeError: `fn` doesn't fit the place, or an argument has the wrong type. The caller's fault; nothing was started.
        ValueError: a wrong number or word. The caller's fault; nothing was started.
        FileNotFoundError, PermissionError: the program of a command is not there, or is none; nothing was started.
        FileExistsError: `output` is there and `resume` was not asked for. CalloffError: another map writes it.
        CalloffError: from the iteration or the ``await``, when more failed than `max_failures` allows.

    An error of `items` is raised when what was in flight has ended and was given.
    """
    for name in options.keys() - Options.__annotations__.keys():
        raise TypeError(f"map() got an unexpected keyword argument {name!r}")
    plan = Plan(*_work(fn, place), **options, where=place)
    if not hasattr(items, "__aiter__") and not hasattr(items, "__iter__"):
        raise TypeError(f"items must be an iterable or an async iterable, not {items!r:.100}")
    journal = None
    if plan.output is not None:
        from .._map.journal import Journal  # msgspec is loaded by those who write only

        journal = Journal(plan.output, plan.resume, plan.key, plan.target)
    return Map(plan, items, start, _lane, journal)


map.__signature__ = SIGNATURE  # type: ignore[attr-defined]  # what `help` shows


def _lane(window: Window, start: Callable[..., Operation[Any]]) -> Lane:
    """One by one, or for a blocking function, unless its ends are waited for singly, in batches."""
    plan = window.plan
    sent = None
    singly = plan.batch == 1 or plan.stall is not None or plan.within is not None
    if plan.place == "process":
        from .._map.in_processes import InProcesses
        from .._map.sent import Sent

        sent = Sent(plan.function, plan.name, plan.memory)
        if not singly and not is_async(plan.function):
            return InProcesses(window, start, sent, plan.batch)
    elif plan.place == "thread" and not singly:
        from .._map.in_threads import InThreads

        return InThreads(window, start, plan.batch)
    elif plan.place == "elsewhere" and not singly and not is_async(plan.function):
        lane = getattr(plan.where, "_lane", None)
        if lane is not None:
            made: Lane = lane(window, start)
            return made
    return Singly(window, start, sent)


def _work(fn: Any, place: Any) -> tuple[Any, ...]:
    """The word for the place, how an item becomes work, what it is called, what it is in any run, and the function."""
    if place is None:
        return _in_a_task(fn)
    word = _word_of(place)
    if isinstance(fn, (str, list, tuple)):
        if word != "command":
            raise TypeError(f"a template runs with place=calloff.command, not with place={place!r}")
        return _of_a_template(fn)
    if word == "command":
        raise TypeError(f"place=calloff.command needs a line like 'gzip {{}}' or a list of words, not {fn!r}")
    inner, name, target = _names(fn)
    if word == "process":
        return "process", partial(place, fn), name, target, fn
    if word == "thread":
        if inspect.iscoroutinefunction(inner):
            raise TypeError(f"{name} is an async function, which runs in a task: leave place out")
        return "thread", partial(place, fn), name, target, fn
    elsewhere = getattr(place, "process", None)
    if callable(elsewhere):
        return "elsewhere", partial(elsewhere, fn), name, target, fn
    raise TypeError(f"place must be calloff.thread, calloff.process, calloff.command, a cluster or None, not {place!r}")


def _word_of(place: Any) -> str:
    """The word for a place, if it is one of ours; the others are not loaded for it."""
    for word in ("process", "thread", "command"):
        home = sys.modules.get(f"{_PLACES}.{word}.place")
        if home is not None and place is getattr(home, word):
            return word
    return ""


def _in_a_task(fn: Any) -> tuple[Any, ...]:
    if isinstance(fn, (str, list, tuple)):
        raise TypeError("a template runs with place=calloff.command, not with place=None")
    inner, name, target = _names(fn)
    if not is_async(inner) and getattr(inner, "__name__", "") != "<lambda>":  # it is believed until it is called
        raise TypeError(
            f"{name} is a blocking function: say where it is to run, with place=calloff.thread or "
            "place=calloff.process; a template of a command goes with place=calloff.command"
        )
    return "task", fn, name, target, fn


def _of_a_template(line: str | Sequence[str]) -> tuple[Any, ...]:
    from .._map.template import Template
    from .._places.command.place import command
    from .._places.command.work import find

    template = Template(line)
    if template.program is not None:
        find(template.program, os.environ, "")
    make = lambda item, number: command(*template.words(item, number))  # noqa: E731
    return "command", make, template.name, f"command {template}", make


def _names(fn: Any) -> tuple[Any, str, str]:
    """The function without what is bound to it, what it is called, and what it is in any run."""
    need_function(fn, "fn must be a function")
    inner = fn
    while isinstance(inner, partial):
        inner = inner.func
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    target = f"{getattr(inner, '__module__', None) or type(inner).__module__}:{name}"
    return inner, name.rpartition("<locals>.")[2], target


def is_async(fn: Any) -> bool:
    """Whether it gives something to await, as far as that can be told."""
    if inspect.iscoroutinefunction(inspect.unwrap(fn)):
        return True
    return inspect.iscoroutinefunction(type(fn).__call__)
