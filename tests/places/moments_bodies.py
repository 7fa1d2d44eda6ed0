"""Work that takes and gives back locks as fast as it can, in each way in which that is done."""

import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from calloff._child.wire import ASK

__all__ = ["KINDS", "adds_up", "is_left", "make"]


def with_lock(lock: Any, started: Callable[[], None]) -> None:
    while True:
        with lock:
            started()


def acquire_and_try(lock: Any, started: Callable[[], None]) -> None:
    while True:
        lock.acquire()
        try:
            started()
        finally:
            lock.release()


def with_condition(condition: threading.Condition, started: Callable[[], None]) -> None:
    while True:
        with condition:
            started()
            condition.notify_all()


def with_semaphore(semaphore: threading.Semaphore, started: Callable[[], None]) -> None:
    while True:
        with semaphore:
            started()


def use_queue(items: "queue.Queue[int]", started: Callable[[], None]) -> None:
    while True:
        items.put_nowait(1)
        items.get_nowait()
        started()


def _later() -> Any:
    yield


def after_calls_that_look_for_nothing(lock: Any, started: Callable[[], None]) -> None:
    """The interpreter carries these out itself, so force that is sent before arrives behind them."""
    items: list[int] = []
    while True:
        items.append(len(items))
        if isinstance(type(items), type) and _later():
            del items[:]
        lock.acquire()
        try:
            started()
        finally:
            lock.release()


def adds_up(lock: Any, started: Callable[[], None]) -> None:
    """It is nearly always found at one call, busy, and what comes next is no place for an exception."""
    many = range(100_000)
    while True:
        sum(many)
        lock.acquire()
        try:
            started()
        finally:
            lock.release()


@contextmanager
def _taken(lock: Any) -> Any:
    with lock:
        yield


def with_context_manager(lock: Any, started: Callable[[], None]) -> None:
    while True:
        with _taken(lock):
            started()


#: the body, and what makes the thing that it uses
KINDS: dict[str, tuple[Callable[..., None], Callable[[], Any]]] = {
    "with": (with_lock, threading.Lock),
    "try": (acquire_and_try, threading.Lock),
    "condition": (with_condition, lambda: threading.Condition(threading.Lock())),
    "semaphore": (with_semaphore, lambda: threading.Semaphore(1)),
    "queue": (use_queue, queue.Queue),
    "calls": (after_calls_that_look_for_nothing, threading.Lock),
    "contextmanager": (with_context_manager, threading.Lock),
}


def make(kind: str) -> tuple[Callable[..., None], Any]:
    body, thing = KINDS[kind]
    return body, thing()


def is_left(thing: Any) -> bool:
    """Whether nobody can take it any more."""
    lock = thing.mutex if isinstance(thing, queue.Queue) else thing
    inner = getattr(
        lock, "_cond", None
    )  # of a semaphore: whoever tries that one waits for its mutex, whatever is asked
    if inner is not None and is_left(inner):
        return True
    if not lock.acquire(blocking=False):
        return True
    lock.release()
    return False


#: in a worker process: the thing that the last job used
last: list[Any] = []


def run_in_worker(kind: str, mark: str) -> None:
    body, thing = make(kind)
    last[:] = [thing]
    told: list[int] = []

    def started() -> None:
        if not told:
            told.append(1)
            open(mark, "w").close()

    body(thing, started)


def run_in_worker_and_look(kind: str, told: str) -> None:
    """Writes into the file `told` what it saw after it was stopped, if it had begun."""
    body, thing = make(kind)
    begun: list[int] = []
    try:
        body(thing, lambda: begun or begun.append(1))  # type: ignore[func-returns-value]
    finally:
        if begun:
            Path(told).write_text("left" if is_left(thing) else "free")


def gives_back_most_of_the_time(mark: str, twice: bool) -> None:
    """Nothing may be raised in what gives back; it is outside of that for a moment now and then."""
    inside: list[int] = []
    handler: Any = signal.getsignal(ASK)

    def second(frame: FrameType, event: str, arg: object) -> None:
        if frame.f_code is handler.__func__.__code__:  # the handler begins
            sys.settrace(None)
            signal.raise_signal(ASK)
            sys.settrace(second)

    def release() -> None:
        inside.append(1)
        for _ in range(9000):
            pass
        inside.pop()

    try:
        open(mark, "w").close()
        if twice:
            sys.settrace(second)
        while True:
            release()
            for _ in range(1000):
                pass
    finally:
        sys.settrace(None)
        Path(mark).write_text("inside" if inside else "outside")


class _Slow:
    """Takes its time to be destroyed."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __del__(self) -> None:
        Path(self._path).touch()
        time.sleep(100)


def asked_again_as_what_is_lost_is_noted(mark: str) -> None:
    """Its destructor swallows the asking; the next one comes in the very moment in which that is found out."""
    begins = sys.unraisablehook.__func__.__code__  # type: ignore[attr-defined]

    def second(frame: FrameType, event: str, arg: object) -> None:
        if frame.f_code is begins:
            sys.settrace(None)
            signal.raise_signal(ASK)

    sys.settrace(second)
    try:
        _Slow(mark)
    finally:
        sys.settrace(None)
    time.sleep(100)


def seen_before_in_worker() -> object:
    """What the worker knows of where a function stood when it was looked at: of an earlier one, nothing."""
    worker: Any = signal.getsignal(ASK)
    still = worker.__self__._still
    return None if still is None else still._at


def is_left_in_worker() -> bool:
    """``False``, too, in a worker that has taken the place of one in which a lock may have been left."""
    return bool(last) and is_left(last[0])
