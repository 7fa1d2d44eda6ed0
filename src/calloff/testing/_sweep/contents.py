"""What a called-off call leaves in the lists, sets and dicts of what it was given: a listener, a place in a queue.

Nothing of Python's leaks then, only the list grows. So what is in those containers while the call waits is noted, and
looked for once the same has been done again: what a call that is not called off takes out by then may be left behind.
Futures that are done and timers that are cancelled are not counted: many queues drop these when they come by them. And
a pool may keep what it has, for the next call to use it. So the same call is called off once more, and only what grows
again is told.
"""

import asyncio
import sys
import weakref
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from .points import Point

__all__ = ["Contents", "Passing", "Watch"]

#: by container and kind of item: how many there were at an await, and how many of these stayed
Passing = dict[str, tuple[int, int]]


class Watch:
    """The items that are in the containers now.

    Args:
        roots: what a call was given.
    """

    def __init__(self, roots: Iterable[Any]) -> None:
        self._there: list[tuple[str, Any, Any, Any]] = []
        for name, container in _containers(roots):
            if len(container) <= _MOST_ITEMS:
                for key, item in _items(container):
                    self._there.append((f"{_called(item)} in {name}", container, key, _reference(item)))

    def there(self) -> "Counter[str]":
        """How many there were."""
        return Counter(name for name, *_ in self._there)

    def stayed(self) -> "Counter[str]":
        """How many of them still are."""
        return Counter(name for name, container, key, item in self._there if _has(container, key, item()))

    async def grows(self, name: str, make: Callable[[], Awaitable[Any]], limit: float) -> bool:
        """Whether a call that is called off when it has put in another such item leaves that one there, too."""
        containers = {id(container): container for called, container, *_ in self._there if called == name}
        kind = name.partition(" in ")[0]

        def items() -> list[tuple[Any, Any, Any]]:
            every = ((container, key, item) for container in containers.values() for key, item in _items(container))
            return [found for found in every if _called(found[2]) == kind]

        loop = asyncio.get_running_loop()
        before, end = [item for _, _, item in items()], loop.time() + limit
        task = asyncio.ensure_future(make())
        more: list[tuple[Any, Any, Any]] = []
        turns = 0
        while not task.done() and not more and loop.time() < end:
            await asyncio.sleep(0 if turns < _TURNS else _PAUSE)
            turns += 1
            more = [found for found in items() if not any(found[2] is item for item in before)]
        task.cancel()
        await asyncio.wait({task}, timeout=limit)
        if task.done() and not task.cancelled():
            task.exception()  # nobody complains that it was never retrieved
        return task.cancelled() and any(_has(*found) for found in more)


class Contents:
    """Notes, in a run without a cancel, what is there at each await and gone at the end.

    Args:
        roots: what the function was given; ``None`` where each call it makes is looked at.
    """

    def __init__(self, roots: "tuple[Any, ...] | None") -> None:
        self.roots = roots
        self._watches: dict[Point, Watch] = {}

    def note(self, point: Point, roots: Iterable[Any]) -> None:
        """The function waits here."""
        watch = Watch(roots)
        if watch.there():
            self._watches[point] = watch

    def passing(self) -> dict[Point, Passing]:
        """What passed, by the await at which it was there; it is held no longer."""
        found: dict[Point, Passing] = {}
        while self._watches:
            point, watch = self._watches.popitem()
            stayed = watch.stayed()
            if gone := {name: (n, stayed[name]) for name, n in watch.there().items() if stayed[name] < n}:
                found[point] = gone
        return found


def _containers(roots: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """The containers that hang on these objects, not those within Python's own, each with a name."""
    queue = deque((_called(root), root) for root in roots)
    seen: set[int] = set()
    while queue and len(seen) < _MOST_OBJECTS:
        name, found = queue.popleft()
        if id(found) in seen or isinstance(found, _ATOMS):
            continue
        seen.add(id(found))
        if isinstance(found, _CONTAINERS):
            yield name, found
            if len(found) <= _MOST_ITEMS:
                queue.extend((_called(item), item) for _, item in _items(found))
        elif _is_looked_into(found):
            queue.extend((f"{_called(found)}.{part}", value) for part, value in list(vars(found).items()))


def _is_looked_into(found: Any) -> bool:
    kind = type(found)
    package = kind.__module__.partition(".")[0]
    return type(getattr(found, "__dict__", None)) is dict and not isinstance(found, type) and package not in _PYTHONS


def _items(container: Any) -> Iterator[tuple[Any, Any]]:
    """Each item with its key; in a list only what is known by its identity."""
    if isinstance(container, dict):
        yield from list(container.items())
    elif isinstance(container, (set, frozenset)):
        yield from ((item, item) for item in list(container))
    else:
        yield from ((None, item) for item in list(container) if not isinstance(item, _ATOMS))


def _has(container: Any, key: Any, item: Any) -> bool:
    if item is None or _is_over(item):
        return False
    if isinstance(container, dict):
        return key in container and container[key] is item
    if isinstance(container, (set, frozenset)):
        return item in container
    return any(other is item for other in list(container))


def _is_over(item: Any) -> bool:
    """Whether who comes by it drops it."""
    if isinstance(item, tuple):
        return any(map(_is_over, item))
    if isinstance(item, (asyncio.Future, Future)):
        return item.done()
    return isinstance(item, asyncio.Handle) and item.cancelled()


def _reference(item: Any) -> Any:
    try:
        return weakref.ref(item)
    except TypeError:
        return lambda: item


def _called(item: Any) -> str:
    return type(item).__name__


_ATOMS: Any = (str, bytes, int, float, complex, type(None), type(Ellipsis))
_CONTAINERS: Any = (list, dict, set, deque)
_PYTHONS: Collection[str] = sys.stdlib_module_names
_MOST_OBJECTS, _MOST_ITEMS = 400, 200
_TURNS, _PAUSE = 50, 0.001
