"""The owner's handle of one worker: gives it work, takes the results, asks and kills through its guard."""

import contextlib
import os
import pickle
import re
import select
import signal
import socket
import sys
import time
from collections import deque
from contextvars import Context
from itertools import count
from typing import TYPE_CHECKING, Any

from ..._child.wire import ASK, DUMP, LOOK, Reader, frame
from ..._words.frame import RawStack
from ..._words.place import Sink
from ..kept import Guarded

if TYPE_CHECKING:
    from .body import ProcessBody
    from .pool import Pool

__all__ = ["Worker"]

#: seconds that `where` waits for the worker at most
_PATIENCE = 0.02
#: seconds that a worker which is to be killed gets to show where it is
_LAST_LOOK = 0.002
#: seconds after which the guard uses force by itself, when the owner should have done so
_SLACK = 0.05
_numbers = count(1)


class Worker:
    """A worker process, with its guard."""

    def __init__(self, pool: "Pool", preload: tuple[str, ...]) -> None:
        self.pool: Pool = pool
        self.body: ProcessBody | None = None
        self.dead: bool = False
        self.jobs: int = 0
        self._number = 0
        self._killing = False
        self._held: tuple[ProcessBody, str, Any, list[Any]] | None = None
        self._asked = False
        self._text = ""
        self._stacked: RawStack | None = None
        self._handle: int | None = None
        self._rest: deque[memoryview] = deque()
        data, theirs = socket.socketpair()
        news, their_news = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stacks, their_stacks = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        data.setblocking(False)
        news.setblocking(False)
        self._data, self._news = data, news
        self._files = data.fileno(), news.fileno()
        self._reader = Reader(data)
        outputs = [os.dup(file) if _is_open(file) else os.open(os.devnull, os.O_WRONLY) for file in (1, 2)]
        files = [theirs.detach(), their_news.detach(), their_stacks, *outputs]
        try:
            self.guarded: Guarded = Guarded(pool.loop, b"W", files, self)
        except BaseException:
            self._close()
            raise
        self.guarded.write("start", _details(preload))
        self._listen()

    def _listen(self) -> None:
        data, news = self._files
        # in a context of their own: what they do is done for no operation in particular
        Context().run(self.pool.loop.add_reader, data, self._readable)
        Context().run(self.pool.loop.add_reader, news, self._read_news)

    def move(self, pool: "Pool") -> None:
        """Serve another loop: the one before was closed."""
        self.pool = pool
        self.guarded.move(pool.loop)
        self._listen()

    # --- what the body asks for

    def take(self, body: "ProcessBody") -> None:
        """Run a function."""
        assert body.packed is not None
        data, buffers = body.packed
        self.body = body
        self.jobs += 1
        self._number = number = next(_numbers)
        self._asked = False
        if self._text:
            self._forget_stack()
        sink = body.sink
        id, name = sink.ref
        loop = self.pool.loop
        left = None if sink.deadline is None else sink.deadline - loop.time()
        body.entered(self)
        self._send(frame((number, id, name, left), data, buffers))
        if left is not None:
            self.limit(sink)
        Context().run(sink.entered)

    def limit(self, sink: Sink) -> None:
        """Leave with the guard when force is due at the latest."""
        at = sink.force_at
        if at is not None:
            at += time.monotonic() - self.pool.loop.time() + _SLACK
        self.guarded.write("limit", self._number, at)

    def ask(self, sink: Sink) -> None:
        """Have `CancelledError` raised in the function."""
        self._asked = True
        self._forget_stack()
        reason = sink.reason
        assert reason is not None
        self.guarded.write("ask", self._number, ASK, (str(reason.kind), reason.text, reason.by, reason.at))
        self.limit(sink)

    def kill(self) -> None:
        """Kill it and everything below it."""
        if self._held is None:
            self._readable()  # what has ended already has ended
        if self.body is not None and not self._killing:
            self._killing = True
            self._look_last()
            self._signal(signal.SIGKILL)  # the guard does it, too, but has to wake up first
            self.guarded.write("kill")

    def retire(self) -> None:
        """It is not needed any more."""
        self.dead = True
        self.guarded.write("kill")
        self._close()

    # --- frames

    def _send(self, parts: list[Any]) -> None:
        try:
            if len(parts) == 1 and not self._rest:
                sent = self._data.send(parts[0])
                if sent == len(parts[0]):
                    return
                parts = [memoryview(parts[0])[sent:]]
        except BlockingIOError:
            pass
        except OSError:  # it died: its guard will say so
            return
        self._rest.extend(memoryview(part).cast("B") for part in parts)
        self._write()

    def _write(self) -> None:
        rest = self._rest
        waited = False
        try:
            while rest:
                sent = self._data.send(rest[0])
                if sent == len(rest[0]):
                    rest.popleft()
                else:
                    rest[0] = rest[0][sent:]
        except BlockingIOError:
            waited = True
        except OSError:
            rest.clear()
        if waited:
            self.pool.loop.add_writer(self._files[0], self._write)
        else:
            self.pool.loop.remove_writer(self._files[0])

    def _readable(self) -> None:
        if self.dead:
            return
        try:
            found = self._reader.read()
        except (EOFError, OSError):  # its guard will say why
            self.pool.loop.remove_reader(self._files[0])
            return
        if found is None:
            return
        (number, kind, told, children, news), data, buffers = found
        body = self.body
        if body is None or number != self._number or self._killing:
            return
        if news:
            self._read_news()
        body.reached = told
        if self._asked:
            body.located(self._stack() or ())
        if children:  # what it left behind dies before anybody hears that it ended
            self._held = (body, kind, data, buffers)
            self._killing = True
            self.guarded.write("kill")
            return
        self.body = None
        self.pool.release(self)
        body.finish(kind, data, buffers)

    def _read_news(self) -> None:
        while not self.dead:
            try:
                message = self._news.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self.pool.loop.remove_reader(self._files[1])
                return
            if self.body is None or int.from_bytes(message[1:9], "little") != self._number:
                continue
            try:
                value = pickle.loads(message[9:])
            except Exception:
                continue
            if message[:1] == b"P":
                self.body.sink.progressed(value)
            else:
                self.body.sink.cancel(value[0], grace=value[1])

    # --- what the guard says

    def heard(self, letter: tuple[Any, ...], handle: int | None) -> None:
        """A letter of the guard."""
        kind, *parts = letter
        if kind == "born":
            self._handle = handle
        elif kind == "failed":
            number, text = parts
            self._end(lambda body: body.failed(OSError(number, f"no worker process could be started: {text}")))
        elif kind == "ended":
            self._ended(*parts)

    def _ended(
        self, status: int | None, cause: str, asked: bool, begun: int, killed: int, survivors: tuple[str, ...]
    ) -> None:
        if self.dead:
            return
        if self._held is not None:
            _, *result = self._held
            self._end(lambda body: body.finish(*result))
            return
        if not self._killing and cause != "kill":
            self._readable()  # the result may have come before its end
        if self._asked and self.body is not None:
            self.body.located(self._stack() or ())
        if self._killing or cause == "limit":
            self._end(lambda body: body.killed(survivors))
        else:
            self._end(lambda body: body.died(status, _why(status), begun >= self._number))

    def lost(self) -> None:
        """The guard was killed; the worker died with it, and the keeper buries what is left."""
        if self._killing and self._held is None:
            self._end(lambda body: body.killed(()))
        else:
            begun = self._handle is not None
            self._end(lambda body: body.died(None, "the process that guards the worker was killed", begun))

    def _end(self, tell: Any) -> None:
        if self.dead:
            return
        self.dead = True
        body, self.body = self.body, None
        self._close()
        self.pool.lost(self)
        if body is not None:
            tell(body)

    def _close(self) -> None:
        self.dead = True
        if hasattr(self, "guarded"):
            self.guarded.close()
        loop = self.pool.loop
        if not loop.is_closed():
            for file in self._files:
                loop.remove_reader(file)
            loop.remove_writer(self._files[0])
        self._data.close()
        self._news.close()
        os.close(self._stacks)
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    # --- looking at it

    def _signal(self, number: int) -> bool:
        if self._handle is None:
            return False
        try:
            signal.pidfd_send_signal(self._handle, number)
        except OSError:
            return False
        return True

    def where(self) -> RawStack:
        """The stack of the function now, as far as the worker tells it in time; C code that runs on does not."""
        self._forget_stack()
        if not self.dead and self._signal(LOOK):
            self._await_stack(_PATIENCE)
        return self._stack() or ()

    def _await_stack(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._stack() is None and (left := until - time.monotonic()) > 0:
            select.select([self._stacks], [], [], left)

    def _look_last(self) -> None:
        """Before it is killed: have C write the stack of one that does not answer."""
        if self._stack() is None and self._signal(DUMP):
            self._await_stack(_LAST_LOOK)

    def _stack(self) -> RawStack | None:
        """The last whole stack that has come from it; empty where only C code runs, ``None`` when none has come."""
        text = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(self._stacks, 1 << 16):
                text += chunk
        if text:
            self._text += text.decode(errors="replace")
            self._stacked = _parse(self._text)
        return self._stacked

    def _forget_stack(self) -> None:
        self._stack()
        self._text, self._stacked = "", None


_LINE = re.compile(r'  File "(.*)", line (\d+) in (.*)')


def _parse(text: str) -> RawStack | None:
    """The last whole stack in what was written, if there is one."""
    by_python, end, _ = text.rpartition("end\n")
    if end:
        found = _LINE.findall(by_python.rpartition("stack\n")[2])
    else:  # by C: innermost first, and outermost what runs the worker
        whole, end, _ = text.partition("_child/__main__.py")
        if not end:
            return None
        found = _LINE.findall(whole)[::-1]
        start = next((at for at, (file, _, name) in enumerate(found) if name == "_call" and "_child" in file), -1)
        found = found[start + 1 :]
    return tuple((file, int(line), name) for file, line, name in found)


def _why(status: int | None) -> str:
    if status is None:
        return "the worker process died"
    if status >= 0:
        return f"the worker process exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"the worker process was killed by {name}"


def _is_open(file: int) -> bool:
    try:
        os.fstat(file)
    except OSError:
        return False
    return True


def _details(preload: tuple[str, ...]) -> dict[str, Any]:
    try:
        cwd = os.getcwd()
    except OSError:
        cwd = "/"
    return {
        "env": dict(os.environ),
        "cwd": cwd,
        "path": [str(entry) for entry in sys.path],
        "argv": [str(arg) for arg in getattr(sys, "argv", [""])],
        "encoding": getattr(sys.stdout, "encoding", None) or "utf-8",
        "preload": preload,
    }
