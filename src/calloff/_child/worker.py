"""A worker: runs one function after the other for its owner.

It is asked to stop by a signal. The handler raises `asyncio.CancelledError` right where the function is, and only
there: the value of a function is kept in the very step of C in which the function returns (`list.extend` over
`starmap`), between which and the handler no bytecode lies; so the handler can tell for certain whether the function
is still running, and a late signal finds nothing to do. An asking for another job is not acted upon either.

A worker is a child subreaper itself, so one call of the system tells after each job whether any descendant is left.
"""

import asyncio
import contextlib
import faulthandler
import inspect
import os
import pickle
import signal
import sys
import traceback
from _socket import socket as Socket
from collections.abc import Callable
from functools import partial
from io import BufferedWriter, FileIO, TextIOWrapper
from itertools import starmap
from types import CodeType, CoroutineType, FrameType, ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from . import tree
from .inside import operation
from .page import Page
from .wire import ASK, DUMP, LOOK, Reader, frame

if TYPE_CHECKING:
    from .guard import Guard

__all__ = ["launch"]

#: seconds that the tasks which an async function leaves behind get to end
_TIDY = 0.5


def launch(guard: "Guard", details: dict[str, Any]) -> int:
    """Fork the worker, in a process group of its own."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        tree.die_with_parent(parent)
        os.setpgid(0, 0)
        guard.let_go()
        _start(details, guard.files, guard.page)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _start(details: dict[str, Any], files: list[int], page: Page) -> NoReturn:
    """Set up and serve. `files` are the sockets for frames and for news, the pipe for stacks, and the two outputs."""
    tree.subreaper()
    tree.name_process("calloff-worker")
    data, news, stacks, out, err = files
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    os.environ.clear()
    os.environ.update(details["env"])
    with contextlib.suppress(OSError):  # the owner's directory may be gone
        os.chdir(details["cwd"])
    sys.path[:] = details["path"]
    sys.argv[:] = details["argv"]
    sys.modules["__main__"] = ModuleType("__main__")
    for file, name in ((1, "stdout"), (2, "stderr")):
        binary = FileIO(file, "w", closefd=False)
        text = TextIOWrapper(BufferedWriter(binary), details["encoding"], "backslashreplace", line_buffering=True)
        setattr(sys, name, text)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    worker = _Worker(Socket(fileno=data), page, stacks)
    operation.news = Socket(fileno=news)
    signal.signal(ASK, worker.asked)
    signal.signal(LOOK, worker.look)
    # Only used right before a worker is killed that can't answer: where Python code runs, it can crash the process.
    faulthandler.register(DUMP, stacks, all_threads=False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for name in details["preload"]:
        try:
            __import__(name)
        except Exception:
            traceback.print_exc()
    worker.serve()
    os._exit(0)


class _Worker:
    def __init__(self, socket: Socket, page: Page, stacks: int) -> None:
        self._socket = socket
        self._page = page
        self._stacks = stacks
        self._running = 0
        """The number of the job whose function may be interrupted, else 0."""
        self._box: list[Any] = []
        """Holds the value from the moment in which the function has returned."""
        self._told = False
        """Whether the function of this job was asked."""
        self._async = False
        self._coro: CoroutineType[Any, Any, Any] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._delivered = False

    def serve(self) -> None:
        """Until the owner closes the socket."""
        reader = Reader(self._socket)
        while True:
            try:
                found = reader.read()
            except (EOFError, OSError):
                return
            assert found is not None  # the socket blocks
            self._work(*found)

    def _work(self, meta: tuple[Any, ...], body: Any, buffers: list[Any]) -> None:
        number, id, name, left = meta
        self._page.begun = number
        operation.begin(number, id, name, left)
        self._told = False
        self._box = []
        kind, value = self._result(number, body, buffers)
        del body, buffers
        parts = _packed(kind, value, name)
        self._box = []
        operation.number = 0
        children = _has_descendants()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except Exception:  # nobody reads them any more, or the function put something else in their place
            pass
        self._page.done = number
        kind, body, buffers = parts
        del value, parts
        self._send(frame((number, kind, self._told, children, operation.told), body, buffers))

    def _send(self, parts: list[Any]) -> None:
        for part in parts:
            self._socket.sendall(part)

    def _result(self, number: int, body: Any, buffers: list[Any]) -> tuple[str, Any]:
        """Unpickle the function and run it; what came of it."""
        try:
            function, args, kwargs = pickle.loads(body, buffers=buffers)
        except Exception as error:
            error.add_note("while the function and its arguments were unpickled in the worker process")
            return "error", error
        if kwargs:
            function = partial(function, **kwargs)
        kind, value = self._call(number, function, args, inspect.iscoroutinefunction(function))
        if kind == "value" and inspect.iscoroutine(value):  # a callable makes one, which nobody could tell beforehand
            self._box.clear()
            kind, value = self._call(number, _itself, (value,), True)
        return kind, value

    def _call(self, number: int, function: Any, args: tuple[Any, ...], is_async: bool) -> tuple[str, Any]:
        self._async = is_async
        if is_async:
            function = partial(self._run, function)
        try:
            self._running = number
            if self._page.asked == number:  # before it began
                self.asked()
            self._box.extend(starmap(function, (args,)))
            self._running = 0
        except BaseException as error:
            self._running = 0
            if self._told and isinstance(error, asyncio.CancelledError):
                return "cancelled", None
            return "error", error
        if not self._box:  # to `extend` that error means the end
            return "error", RuntimeError("the function raised StopIteration, which nobody could tell from its end")
        return "value", self._box[0]

    # --- being asked, and being looked at

    def asked(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """The signal came: raise in the function, if it is the one that is meant and still runs."""
        number = self._running
        if not number or self._box or self._page.asked != number:
            return
        if frame is not None and frame.f_globals.get("__name__") == "logging" and frame.f_code.co_name in _LOCKING:
            return  # after a fork the lock is given back, and an error there is lost: the guard asks again in a moment
        if not self._told:
            self._told = True
            operation.asked = self._page.reason
            self.look(signum, frame)
            if not self._async:
                raise asyncio.CancelledError(*self._words())
            if self._task is not None:
                self._task.get_loop().call_soon_threadsafe(self._cancel, self._task)
        elif self._coro is not None and not self._delivered and self._coro.cr_running:
            self._delivered = True  # it blocks its loop
            raise asyncio.CancelledError(*self._words())

    def _words(self) -> list[str]:
        text = self._page.reason[1]
        return [text] if text else []

    def _cancel(self, task: "asyncio.Task[Any]") -> None:
        if not self._delivered:
            self._delivered = True
            task.cancel(*self._words())

    def look(self, signum: int, frame: FrameType | None) -> None:
        """Write the stack of the function: its frames, or its awaits while it is suspended."""
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
            while frame is not None and frame.f_code not in _OUTER:
                found.insert(0, (frame.f_code, frame.f_lineno))
                frame = frame.f_back
        lines = [f'  File "{code.co_filename}", line {line} in {code.co_name}\n' for code, line in found[-50:]]
        with contextlib.suppress(OSError):
            os.write(self._stacks, "".join(["stack\n", *lines, "end\n"]).encode(errors="backslashreplace"))

    # --- async functions

    def _run(self, function: Any, *args: Any) -> Any:
        """Run a coroutine in a loop of its own. What it leaves behind is cancelled, and waited for a little."""
        loop = asyncio.new_event_loop()
        self._delivered = False
        faulthandler.unregister(DUMP)
        faulthandler.register(DUMP, self._stacks, all_threads=False, chain=True)  # our own handler adds the awaits
        try:
            asyncio.set_event_loop(loop)
            self._coro = coro = function(*args)
            self._task = task = loop.create_task(coro)
            if self._told:
                self._cancel(task)
            try:
                return loop.run_until_complete(task)
            finally:
                self._coro = self._task = None
                loop.run_until_complete(_tidy(loop))
        finally:
            asyncio.set_event_loop(None)
            loop.close()


#: the frames below which the function's own begin
_OUTER = (_Worker._call.__code__, _Worker._run.__code__)


#: of `logging`: what has to be left in good order
_LOCKING = frozenset({"_acquireLock", "_releaseLock", "_prepareFork", "_afterFork", "acquire", "release", "handle"})


def _itself(value: Any) -> Any:
    return value


async def _tidy(loop: asyncio.AbstractEventLoop) -> None:
    from time import monotonic

    until = monotonic() + _TIDY
    for child in operation.children:
        child.cancel("the operation that started it ended")
    rest = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in rest:
        task.cancel()
    if rest:
        await asyncio.wait(rest, timeout=max(0.0, until - monotonic()))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.05, until - monotonic())):
            await loop.shutdown_asyncgens()


def _has_descendants() -> bool:
    """Whether any process that the job started is left; those that have ended are reaped."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return False
        except OSError:  # a signal came in between and spoiled the number of the error
            continue
        if found is None:
            return True


# --- results and errors


def _packed(kind: str, value: Any, name: str) -> tuple[str, bytes, list[pickle.PickleBuffer]]:
    """The result as a pickle with its large buffers apart."""
    if kind == "cancelled":
        return kind, b"", []
    if kind == "error":
        return kind, _packed_error(value), []
    buffers: list[pickle.PickleBuffer] = []
    whole = pickle.PickleBuffer(value) if type(value) in (bytes, bytearray) and len(value) > 1 << 16 else value
    try:
        return kind, _dumps(whole, buffers), buffers
    except Exception as error:
        wrong = TypeError(f"the result of {name} can't be sent back: {type(value).__qualname__}: {error}")
        return "error", _packed_error(wrong), []


def _dumps(value: Any, buffers: list[pickle.PickleBuffer] | None = None) -> bytes:
    callback: Callable[[Any], Any] | None = None if buffers is None else buffers.append
    try:
        data = pickle.dumps(value, 5, buffer_callback=callback)
        if b"__main__" not in data:
            return data
    except Exception:
        pass
    from importlib import import_module

    if buffers is not None:
        buffers.clear()
    by_value: bytes = import_module("cloudpickle").dumps(value, 5, buffer_callback=callback)
    return by_value


def _packed_error(error: BaseException) -> bytes:
    """The error (whole, or in parts, or as text: what can be sent) and the text of its traceback."""
    lines = traceback.TracebackException(type(error), error, _users(error), compact=True).format()
    text = "".join(lines)
    whole: bytes | None
    try:
        whole = _dumps(error)
        pickle.loads(whole)  # many an exception can be pickled and not be unpickled
    except Exception:
        whole = None
    if whole is None:
        try:
            whole = _dumps((type(error), error.args, dict(error.__dict__)))
        except Exception:
            whole = _dumps(f"{type(error).__module__}.{type(error).__qualname__}: {error}")
    return pickle.dumps((whole, text), 5)


def _users(error: BaseException) -> Any:
    """The traceback without our own frames at its beginning."""
    step = error.__traceback__
    while step is not None and step.tb_frame.f_globals.get("__name__") == __name__:
        step = step.tb_next
    return step or error.__traceback__
