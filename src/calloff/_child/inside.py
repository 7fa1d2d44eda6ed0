"""The operation as the code inside a worker sees it: what `calloff.current()` returns there.

`calloff` finds it when it is imported in a worker (it is the default of its context variable), so that `progress`,
`current`, `current_deadline` and `checkpoint` work there without the worker having to import calloff.
"""

import contextlib
import os
import pickle
import sys
import time
from _socket import MSG_DONTWAIT
from _socket import socket as Socket
from collections.abc import Callable
from functools import partial
from math import inf
from struct import Struct
from threading import get_ident, main_thread
from types import CodeType, FrameType
from typing import Any, NoReturn

from .listener import Listener
from .page import Page

__all__ = ["InsideOperation", "operation"]

_NUMBER = Struct("<Q")
#: longer than anybody waits
_FOR_GOOD = 1e6


class InsideOperation:
    """Stands in the worker for the operation that it works for.

    It has all that an operation has. What only the program can do that has started it is refused in one sentence.

    Attributes:
        id: the operation's id in the owner.
        name: its name.
        began_at: when the worker began with it.
        listener: hears in a thread that it is asked, where somebody wants that.
        winds_up: whether the request has broken off a `calloff.run` of it, which ends what is left with no frame that is
            busy with the exception.
    """

    place = "process"
    parent = None
    body = None
    timer_at = -1.0
    _stop = None
    _grace = 5.0

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.number = 0
        self.asked: tuple[Any, ...] | None = None
        self.news: Socket | None = None
        self.page: Page | None = None
        self.told = 0
        self.listener: Listener | None = None
        self.winds_up = False
        self._children: dict[Any, None] | None = None
        self.began_at = 0.0
        self._progress: Any = None
        self._deadline: float | None = None

    def ready(self) -> None:
        """Tell the owner that work may come, and where: a guard that is killed may not have come to tell that."""
        if self.news is not None:
            with contextlib.suppress(OSError):  # nobody is there any more
                self.news.send(b"R" + _NUMBER.pack(os.getpid()), MSG_DONTWAIT)

    def begin(self, number: int, id: str, name: str, deadline: float | None) -> None:
        """A new job."""
        self.number, self.id, self.name = number, id, name
        self.asked = None
        self.told = 0
        self._children = None
        self._progress = None
        self.began_at = time.monotonic()
        self._deadline = deadline

    def end(self) -> None:
        """The job is over."""
        self.number = 0
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    # --- what calloff's functions and the work's own code call

    def progressed(self, value: Any, /) -> None:
        """Tell the owner; a report that finds no room because the owner is busy is left out."""
        self._progress = value
        self._send(b"P", value)

    def cancel(self, reason: object = None, *, grace: float | None = None, msg: object = None) -> bool:
        """Ask the owner to call the operation off."""
        text = reason if reason is not None else msg
        return self._send(b"C", ("" if text is None else str(text), grace))

    def _send(self, kind: bytes, value: Any) -> bool:
        if not self.number or self.news is None:
            return False
        try:
            self.news.send(kind + _NUMBER.pack(self.number) + pickle.dumps(value, 5), MSG_DONTWAIT)
        except OSError:  # no room, or too long for one message
            return False
        self.told += 1
        return True

    def done(self) -> bool:
        """Whether its job is over."""
        return not self.number

    def cancelled(self) -> bool:
        """Never, as long as somebody is there to ask."""
        return False

    def result(self) -> NoReturn:
        """Never there yet: as of any operation that has not ended."""
        self._not_done()

    def exception(self) -> NoReturn:
        """Never there yet: as of any operation that has not ended."""
        self._not_done()

    def _not_done(self) -> NoReturn:
        from asyncio import InvalidStateError

        raise InvalidStateError(f"{self.name!r} has not ended")

    def where(self) -> tuple[Any, ...]:
        """Where the calling code is, outermost first."""
        from calloff._words.frame import develop

        step: FrameType | None = sys._getframe(1)
        found: list[tuple[CodeType, int]] = []
        while step is not None and step.f_globals.get("__name__") != f"{__package__}.worker":
            found.append((step.f_code, step.f_lineno))
            step = step.f_back
        frames: tuple[Any, ...] = develop(tuple((code.co_filename, line, code.co_name) for code, line in found[::-1]))
        return frames

    def __await__(self) -> NoReturn:
        raise RuntimeError(f"{self.name!r} can't wait for its own end")

    async def outcome(self) -> NoReturn:
        """Not from the work itself, which can't wait for its own end."""
        self.__await__()

    async def stop(self, reason: object = None, *, grace: float | None = None) -> NoReturn:
        """Not from the work itself, which can't wait for its own end; `cancel` asks for the stop."""
        self.__await__()

    def reschedule(self, timeout: float | None) -> NoReturn:
        """Not from here."""
        self._elsewhere("reschedule")

    def watch(self, every: float = 1.0) -> NoReturn:
        """Not from here."""
        self._elsewhere("watch")

    def add_done_callback(self, fn: object, *, context: object = None) -> NoReturn:
        """Not from here."""
        self._elsewhere("add_done_callback")

    def remove_done_callback(self, fn: object) -> NoReturn:
        """Not from here."""
        self._elsewhere("remove_done_callback")

    def set_result(self, result: object) -> NoReturn:
        """Not for operations: only the body ends them."""
        raise RuntimeError("an operation is ended by its body: set_result() is not supported")

    def set_exception(self, exception: object) -> NoReturn:
        """Not for operations: only the body ends them."""
        raise RuntimeError("an operation is ended by its body: set_exception() is not supported")

    def _elsewhere(self, what: str) -> NoReturn:
        raise RuntimeError(
            f"{what}() works in the program that has started {self.name!r}, and this is its worker process: here there are "
            "cancel(), name, deadline, remaining, reason, where() and calloff.progress()"
        )

    @property
    def ref(self) -> Any:
        """Id and name as plain data."""
        from calloff._words.ref import Ref

        return Ref(self.id, self.name)

    @property
    def reason(self) -> Any:
        """Why it was asked to stop, or ``None``."""
        if self.asked is None:
            return None
        from calloff._words.reason import Kind, Reason

        kind, text, by, at = self.asked
        return Reason(Kind(kind), text, by, at)

    @property
    def report(self) -> None:
        """Known to the owner only."""
        return None

    @property
    def state(self) -> Any:
        """Running or stopping."""
        from calloff._words.state import State

        return State.RUNNING if self.asked is None else State.STOPPING

    @property
    def progress(self) -> Any:
        """What was reported last."""
        return self._progress

    @property
    def elapsed(self) -> float:
        """Seconds since the worker began with it."""
        return time.monotonic() - self.began_at

    @property
    def deadline(self) -> float | None:
        """The point on the monotonic clock at which it is stopped, as the owner told it last, or ``None``."""
        page = self.page
        if page is not None and page.limited == self.number:
            return None if page.deadline == inf else page.deadline
        return self._deadline

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, not below zero; ``None`` without one."""
        deadline = self.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    @property
    def children(self) -> tuple[Any, ...]:
        """The operations that the work started in this worker."""
        return tuple(self._children or ())

    # --- what a block of `on_stop` looks at

    def listen(self, tell: Callable[[object], object]) -> None:
        """From now on `tell` is called when the job is asked, in a thread: the main one may be inside C."""
        if self.listener is None and self.page is not None:
            self.listener = Listener(self.page, self.number, partial(tell, self))

    def is_asked(self) -> bool:
        """Whether the job was asked to stop, also where the main thread has not come to hear of it."""
        page = self.page
        return page is not None and 0 != self.number == page.asked

    def asked_for(self) -> str:
        """The words of the request."""
        return "" if self.page is None else str(self.page.reason[1])

    def grace_left(self) -> float:
        """Seconds until force is due: known to the owner, who kills then."""
        return _FOR_GOOD if self.is_asked() else self._grace

    def helped(self, name: str) -> None:
        """Tell the owner that a function of that name is run to ask the job."""
        self._send(b"H", name)

    def obeys(self, error: BaseException) -> None:
        """The main thread, where it runs the calling code, raises `error`, since the job was asked."""
        page = self.page
        if page is not None and self.is_asked() and get_ident() == main_thread().ident:
            page.heard = self.number
            self.asked = page.reason

    # --- what calloff itself looks at

    class timers:
        """The clock."""

        now = staticmethod(time.monotonic)

    class policy:
        """How late the owner may be before its deadline counts here."""

        slack = 0.02

    def overdue(self, now: float) -> None:
        """The owner and the guard look after the deadline."""

    def get_loop(self) -> object:
        """The loop of the owner is not here."""
        return self

    def __repr__(self) -> str:
        return f"<Operation {self.id} {self.name!r} in its worker, process {os.getpid()}>"


#: the one of this worker
operation = InsideOperation()
