"""Which of asyncio's locks, semaphores and queues the function took from, and whether it gave back.

The methods of these classes are wrapped while a sweep is on; the wrappers count, for code of the swept function only,
what was acquired and not released, and what was taken from a queue and never marked done.
"""

import asyncio
import itertools
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from .course import Course, current_course
from .points import Stack, running_stack, shown
from .words import at_line

__all__ = ["Ledger", "watched_locks"]


class _Account:
    """What the function holds of one lock, semaphore or queue."""

    __slots__ = ("by", "done", "given_at", "held", "number", "taken", "taken_at", "thing")

    def __init__(self, thing: Any, number: int) -> None:
        self.thing = thing
        self.number = number
        self.held = 0
        self.taken = 0
        self.done = 0
        self.taken_at: Stack = ()
        self.given_at: Stack = ()
        self.by: weakref.ref[asyncio.Task[Any]] | None = None

    def note_taker(self) -> None:
        """The running task takes it now."""
        self.taken_at = running_stack()
        task = asyncio.current_task()
        self.by = None if task is None else weakref.ref(task)

    @property
    def is_in_use(self) -> bool:
        """Whether the task that took it still runs: that it was left is told of by itself."""
        task = None if self.by is None else self.by()
        return task is not None and not task.done()


class Ledger:
    """The accounts of one run."""

    def __init__(self) -> None:
        self._accounts: dict[int, _Account] = {}
        self._numbers = itertools.count(1)

    def account(self, thing: Any) -> _Account:
        """The account of one thing."""
        found = self._accounts.get(id(thing))
        if found is None:
            found = self._accounts[id(thing)] = _Account(thing, next(self._numbers))
        return found

    def balances(self) -> dict[str, int]:
        """What is held of each thing now; zero for what was given back."""
        return {f"{type(a.thing).__name__} {a.number}": _balance(a) for a in self._accounts.values()}

    def complaints(self, usual: dict[str, int] | None) -> list[tuple[str, Stack]]:
        """What is held although a run without a cancel gives it back (`usual`: the balances of that run)."""
        found: list[tuple[str, Stack]] = []
        for account in self._accounts.values():
            held = _balance(account)
            if held > 0 and account.is_in_use:
                continue
            name = type(account.thing).__name__
            before = (usual or {}).get(f"{name} {account.number}", 0)
            if isinstance(account.thing, asyncio.Queue):
                if held > 0 and _marks_done(usual, account):
                    text = f"{held} item(s) taken from the {name} were never marked done: join() would wait for ever"
                    found.append((text, account.taken_at))
            elif held > max(0, before):
                found.append((f"the {name} is still held{_at('acquired', account.taken_at)}", account.taken_at))
            elif held < min(0, before):
                text = f"the {name} was released more often than it was acquired"
                found.append((f"{text}{_at('released', account.given_at)}", account.given_at))
        return found


def _at(done: str, stack: Stack) -> str:
    return f", {done} at {at_line(shown(stack))}" if stack else ""


def _balance(account: _Account) -> int:
    if isinstance(account.thing, asyncio.Queue):
        return account.taken - account.done
    if isinstance(account.thing, asyncio.Lock) and not account.thing.locked():
        return 0
    return account.held


def _marks_done(usual: dict[str, int] | None, account: _Account) -> bool:
    name = f"{type(account.thing).__name__} {account.number}"
    return usual is not None and usual.get(name, 1) == 0


def _account_of(thing: Any) -> _Account | None:
    course: Course | None = current_course.get()
    ledger = None if course is None or course.over else course.ledger
    return None if ledger is None else ledger.account(thing)


@contextmanager
def watched_locks() -> Generator[None]:
    """Count what swept code does to locks, semaphores and queues while the block runs."""
    originals = [(cls, name, cls.__dict__[name]) for cls, name, _ in _WRAPPED]
    for cls, name, wrapper in _WRAPPED:
        setattr(cls, name, wrapper(cls.__dict__[name]))
    try:
        yield
    finally:
        for cls, name, original in originals:
            setattr(cls, name, original)


def _acquire(original: Any) -> Any:
    async def acquire(self: Any) -> Any:
        result = await original(self)
        account = _account_of(self)
        if account is not None:
            account.held += 1
            account.note_taker()
        return result

    return acquire


def _release(original: Any) -> Any:
    def release(self: Any) -> None:
        original(self)
        _note_release(self)

    return release


def _refused(original: Any) -> Any:
    """Of a bounded semaphore, which hands on to the method of `asyncio.Semaphore` what is not too much."""

    def release(self: Any) -> None:
        try:
            original(self)
        except ValueError:
            _note_release(self)
            raise

    return release


def _note_release(thing: Any) -> None:
    account = _account_of(thing)
    if account is not None:
        account.held -= 1
        account.given_at = running_stack() or account.given_at


def _get_nowait(original: Any) -> Any:
    def get_nowait(self: Any) -> Any:
        item = original(self)
        account = _account_of(self)
        if account is not None:
            account.taken += 1
            account.note_taker()
        return item

    return get_nowait


def _task_done(original: Any) -> Any:
    def task_done(self: Any) -> None:
        original(self)
        account = _account_of(self)
        if account is not None:
            account.done += 1

    return task_done


_WRAPPED: tuple[tuple[Any, str, Callable[[Any], Any]], ...] = (
    (asyncio.Lock, "acquire", _acquire),
    (asyncio.Lock, "release", _release),
    (asyncio.Semaphore, "acquire", _acquire),
    (asyncio.Semaphore, "release", _release),
    (asyncio.BoundedSemaphore, "release", _refused),
    (asyncio.Queue, "get_nowait", _get_nowait),
    (asyncio.Queue, "task_done", _task_done),
)
