"""A worker: runs one function after the other for its owner.

It is asked to stop by a signal. The handler raises `asyncio.CancelledError` right where the function is, in a form that
is a `KeyboardInterrupt`, too (`_Cancelled`), and only there: the value of a function is kept in the very step of C in
which the function returns (`list.extend` over `starmap`), between which and the handler no bytecode lies; so the handler
can tell for certain whether the function is still running, and a late signal finds nothing to do. An asking for another
job is not acted upon either.

There are moments (`moments`) at which an exception would do harm or be lost: a lock of `logging` would stay taken, a
`Condition` would give back what it has not, a module would stay half imported, which the jobs that follow would find.
Then nothing is raised, nothing noted on the page, and the guard asks again until it reads there that the asking was
heard. These get a second; after that the exception is raised all the same, and the worker is replaced when the job is
over. What a destructor swallows counts as not heard. The signal comes further times after that, which raise nothing:
they find out whether the function went on.

A worker is a child subreaper itself, so one call of the system tells after each job whether any descendant is left.
"""

import asyncio
import contextlib
import gc
import inspect
import os
import pickle
import sys
import threading
from _socket import socket as Socket
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from itertools import starmap
from marshal import dumps
from time import monotonic
from types import BuiltinFunctionType, CodeType, CoroutineType, FrameType, FunctionType
from typing import Any

from .._os import forks, reaper
from .answers import packed
from .around import give_up, has_descendants, leave, populate_main, tidy
from .home import Home
from .inside import operation
from .luggage import unpack
from .moments import Still, is_fit, is_importing, may_break_off
from .page import ASKED, BEGUN, DONE, Page
from .short import LONG, PLAIN, SHORT, load_call, short_call
from .wire import VERSION, Part, Reader, parts_of

__all__ = ["Worker"]

#: seconds that an import, or the handling of a lock, gets to end before it is interrupted
_IMPORT = 1.0
#: and how often the handling of a lock is looked at, at least: on a busy machine a second may be no more than a few looks
_CHANCES = 200
_COROUTINE = inspect.CO_COROUTINE
#: what the short form of a call begins with
_SHORT = SHORT[0]
#: a number between these is short
_LOW, _HIGH = -1 << 64, 1 << 64
#: threads that run, and those about to: what `active_count` counts under a lock
_active: dict[int, object] = vars(threading)["_active"]
_limbo: dict[object, object] = vars(threading)["_limbo"]
#: runs something in a context
Run = Callable[..., Any]


class _Cancelled(asyncio.CancelledError, KeyboardInterrupt):
    """What is raised in a function that blocks.

    Code that waits in C (drivers of databases, `subprocess`, pools) frees what it holds at a `KeyboardInterrupt`, for that
    is what a signal has always raised there; of `CancelledError` it knows nothing. Sent anywhere, it is a plain
    `CancelledError`.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return asyncio.CancelledError, self.args


class Worker:
    """Runs what comes through a socket, one function after the other.

    Args:
        socket: for frames.
        page: shared with the guard.
        stacks: a pipe into which stacks are written.
        home: the state in which each function begins.
    """

    def __init__(self, socket: Socket, page: Page, stacks: int, home: Home) -> None:
        self._home = home
        self._mark = forks.mark()
        self._is_childless = reaper.childless()
        self._socket = socket
        self._page = page
        self._stacks = stacks
        self._running = 0
        """The number of the job whose function may be interrupted, else 0."""
        self._box: list[Any] = []
        """Holds the value from the moment in which the function has returned."""
        self._noted = False
        """Whether the function of this job is to be asked: where it was then is known."""
        self._held_at: float | None = None
        """Since when the asking waits for the end of what must not be interrupted."""
        self._held = 0
        """How often it was looked in vain for such an end."""
        self._still: Still | None = None
        self._spoiled = False
        """Whether something was interrupted that must not be: no further job is to run here."""
        self._acting = False
        """Whether an asking is being acted upon."""
        self._async = False
        self._coro: CoroutineType[Any, Any, Any] | None = None
        self._task: asyncio.Task[Any] | None = None

    def serve(self) -> None:
        """Until the owner closes the socket."""
        read, send = Reader(self._socket).read, self._socket.sendall
        operation.ready()
        reaper.stop_with_parent()  # somebody knows our number by now, and will end us
        self._rehearse()
        while True:
            try:
                found = read()
            except (EOFError, OSError):
                return
            assert found is not None  # the socket blocks
            self._work(found, send)
            del found

    def _rehearse(self) -> None:
        """Do all that is done for a job, for none: each page of memory that this writes to is copied now, not then."""
        call = short_call(len, ("",), {})
        if call is not None:
            self._work((0, "", "", None, None, None, call, ()), len)

    def _work(self, found: tuple[Any, ...], send: Callable[[Part], object]) -> None:
        """Run one function and send what comes of it; all in one, since each call would cost as much as what it does."""
        number, id, name, plan, changes, luggage, body, buffers = found
        home, page = self._home, self._page
        if changes:
            home.change(changes)
        if plan is not page.planned:  # else none has limits, neither this one nor the one before
            page.note_plan(plan)
        page.numbers[BEGUN] = number
        operation.begin(number, id, name, None if plan is None else plan[1])
        if self._noted:
            self._forget_asking()
        run = copy_context().run  # what a function sets there is gone with its job
        if luggage:
            run(unpack, luggage)
        kind, value = self._result(number, body, buffers, run)
        lasted = monotonic() - operation.began_at
        del run
        sort = type(value)
        if (
            kind == "value"
            and sort in PLAIN
            and ((sort is not str and sort is not bytes) or len(value) <= LONG)
            and (sort is not int or _LOW < value < _HIGH)
        ):
            kind, body = "plain", value
        else:
            kind, body, buffers = packed(kind, value, name)
        asked = operation.asked is not None
        self._box.clear()
        operation.number = 0
        if operation.listener is not None:
            operation.end()
        left_behind = (len(_active) > 1 or len(_limbo) > 0) and home.has_threads()
        if not self._is_childless():
            left_behind |= has_descendants()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except Exception:  # nobody reads them any more, or the function put something else in their place
            pass
        page.numbers[DONE] = number
        try:
            if kind == "plain":
                send(dumps((number, kind, asked, left_behind, operation.told, self._spoiled, body, ()), VERSION))
            else:
                for part in parts_of((number, kind, asked, left_behind, operation.told, self._spoiled), body, buffers):
                    send(part)
        except OSError as error:
            give_up(name, error)
        del found, value, body, buffers
        if home.restore(lasted):  # now, while the owner is busy with the answer
            os._exit(0)  # a function that is on its way here has not begun: the owner gives it to another worker

    def _forget_asking(self) -> None:
        """Of the job before."""
        self._noted = False
        self._held_at = None
        self._held = 0
        self._still = None  # a frame of the last job may have stood where one of this one does

    def _result(self, number: int, body: Any, buffers: Any, run: Run) -> tuple[str, Any]:
        """Unpickle the function and run it; what came of it."""
        is_short = body[0] == _SHORT
        try:
            function, args, kwargs = load_call(body) if is_short else pickle.loads(body, buffers=buffers)
        except BaseException as error:
            error.add_note("while the function and its arguments were unpickled in the worker process")
            return "error", error
        if not is_short:  # which nothing of the main script ever is
            populate_main(function, args)
        sort = type(function)
        if sort is FunctionType and not function.__dict__:  # nobody has marked it as anything else
            is_async = bool(function.__code__.co_flags & _COROUTINE)
        else:
            is_async = sort is not BuiltinFunctionType and inspect.iscoroutinefunction(function)
        if kwargs:
            function = partial(function, **kwargs)
        kind, value = self._call(number, function, args, is_async, run)
        if kind == "value" and type(value) is CoroutineType:  # a callable makes one, which nobody could tell beforehand
            self._box.clear()
            kind, value = self._call(number, _itself, (value,), True, run)
        return kind, value

    def _call(self, number: int, function: Any, args: tuple[Any, ...], is_async: bool, run: Run) -> tuple[str, Any]:
        self._async = is_async
        if is_async:
            function = partial(self._run, function)
        box = self._box
        try:
            self._running = number
            if self._page.numbers[ASKED] == number:  # before it began
                self.asked()
            box.extend(starmap(run, ((function, *args),)))
            self._running = 0
            if not self._mark[0]:
                leave(None)
        except BaseException as error:
            self._running = 0
            if not self._mark[0]:
                leave(error)
            if operation.asked is not None and issubclass(type(error), asyncio.CancelledError):
                return "cancelled", None
            return "error", error
        if not box:  # to `extend` that error means the end
            return "error", RuntimeError("the function raised StopIteration, which nobody could tell from its end")
        return "value", box[0]

    # --- being asked, and being looked at

    def _heard(self, number: int) -> bool:
        """Whether the asking has arrived in the function."""
        return self._page.heard == number

    def asked(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """The signal came: raise in the function, if it is the one that is meant and still runs."""
        if self._acting or _is_handling(frame):
            return  # the guard asks again: what is raised here would arrive where the first of the two signals came
        self._acting = True
        try:
            self._page.noted = self._page.asked
            self._hear(signum, frame)
        finally:
            self._acting = False

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        number = self._running
        if not number or self._box or self._page.asked != number:
            return
        if self._heard(number):
            if not self._is_obeying():
                self._page.refused = number
            return
        if not self._noted:
            self._noted = True
            self.look(signum, frame)
            if self._async:  # where it awaits, as long as its loop turns
                operation.asked = self._page.reason
                if self._task is not None:
                    self._task.get_loop().call_soon_threadsafe(self._cancel, self._task)
                return
        if self._async and (self._coro is None or not self._coro.cr_running):
            return
        importing = is_importing(frame)
        if (not importing and self._is_fit(frame)) or self._waited_enough(importing):
            operation.asked = self._page.reason
            self._page.heard = number
            raise _Cancelled(*self._words())
        if not importing:
            self._page.held = number  # the guard asks again soon

    def _is_obeying(self) -> bool:
        """Whether the function is in its clean-up, or waits for others that were asked in its place."""
        step: Any = self._coro
        if not self._async or step is None or step.cr_running:
            return operation.winds_up or _is_cancel(sys.exception())
        waiter = getattr(self._task, "_fut_waiter", None)
        if waiter is None or waiter.done() or type(waiter) is not asyncio.Future:
            return True  # it is about to hear of it
        last = step
        while step is not None:
            if any(_is_cancel(part) for part in gc.get_referents(step)):  # it holds on to what it handles
                return True
            last, step = step, getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None)
        return type(last).__name__ != "FutureIter"  # an async generator may be in its own clean-up: nobody can tell

    def _is_fit(self, frame: FrameType | None) -> bool:
        """Whether an exception there does no harm."""
        if frame is None:
            return True
        if self._still is None:
            self._still = Still(3, own=True)
        if self._still.look(frame) and may_break_off(frame):
            return True
        return is_fit(frame)

    def _waited_enough(self, importing: bool) -> bool:
        """Whether what must not be interrupted had its time: where it comes to an end over and over, chances, too."""
        now = monotonic()
        if self._held_at is None:
            self._held_at = now
        self._held += 1
        if now - self._held_at >= _IMPORT and (importing or self._held >= _CHANCES):
            self._spoiled = True
        return self._spoiled

    def unraisable(self, lost: "sys.UnraisableHookArgs") -> None:
        """What was raised in a destructor or a callback of C is lost: the guard asks again."""
        if isinstance(lost.exc_value, asyncio.CancelledError) and self._running and self._heard(self._running):
            self._page.heard = 0
            operation.asked = None
        else:
            sys.__unraisablehook__(lost)

    def _words(self) -> list[str]:
        text = self._page.reason[1]
        return [text] if text else []

    def _cancel(self, task: "asyncio.Task[Any]") -> None:
        if not self._heard(self._running):
            task.cancel(*self._words())
            self._page.heard = self._running

    def look(self, signum: int, frame: FrameType | None) -> None:
        """Write the stack of the function: its frames, or its awaits while it is suspended.

        First of all an empty line says that Python code runs, so that nobody has C write it (see `faulthandler`).
        """
        with contextlib.suppress(OSError):
            os.write(self._stacks, b"\n")
        found: list[tuple[CodeType, int]] = []
        step: Any = self._coro
        if not self._running or self._box:
            pass
        elif step is not None and not step.cr_running:
            while step is not None:
                kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(step, f"{kind}_frame")), "")
                held = getattr(step, f"{kind}_frame", None)
                if held is None:
                    break
                found.append((held.f_code, held.f_lineno))
                step = getattr(step, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
        else:
            while frame is not None and not _is_outer(frame):
                found.insert(0, (frame.f_code, frame.f_lineno))
                frame = frame.f_back
        lines = [f'  File "{code.co_filename}", line {line} in {code.co_name}\n' for code, line in found[-50:]]
        with contextlib.suppress(OSError):
            os.write(self._stacks, "".join(["stack\n", *lines, "end\n"]).encode(errors="backslashreplace"))

    # --- async functions

    def _run(self, function: Any, *args: Any) -> Any:
        """Run a coroutine in a loop of its own. What it leaves behind is cancelled, and waited for a little."""
        loop = asyncio.new_event_loop()
        try:
            asyncio.set_event_loop(loop)
            self._coro = coro = function(*args)
            self._task = task = loop.create_task(coro)
            if self._noted:
                self._cancel(task)
            try:
                return loop.run_until_complete(task)
            finally:
                self._coro = self._task = None
                loop.run_until_complete(tidy(loop, operation.children))
        finally:
            asyncio.set_event_loop(None)
            loop.close()


#: the frames below which the function's own begin
_OUTER = (Worker._call.__code__, Worker._run.__code__)
#: the handlers of our signals, and of what one of them has raised where it was lost
_HANDLERS = (Worker.asked.__code__, Worker.look.__code__, Worker.unraisable.__code__)


def _is_handling(frame: FrameType | None) -> bool:
    """Whether a handler has begun, or has not ended yet."""
    while frame is not None and frame.f_code not in _OUTER:
        if frame.f_code in _HANDLERS:
            return True
        frame = frame.f_back
    return False


def _is_outer(frame: FrameType) -> bool:
    """Whether the frame is ours, with those of the function above it on the stack."""
    return frame.f_code in _OUTER or frame.f_globals.get("__name__") == "calloff._child.batch"


def _is_cancel(error: object) -> bool:
    while isinstance(error, BaseException):
        if isinstance(error, asyncio.CancelledError):
            return True
        error = error.__context__
    return False


def _itself(value: Any) -> Any:
    return value
