"""The keeper: one small process per owner, single-threaded, from which all guards are forked.

Forking the owner itself would cost time for every page it has and is unsafe with threads. The keeper is started by
exec, so it shares nothing with the owner but a socket. A message is one byte and the files that a guard needs; what
the guard is to do comes to the guard itself, so the keeper never waits for anybody. It adopts what a guard that was
killed leaves behind, and kills it. When the owner is gone it stays until its guards have finished, then it ends.
"""

import array
import contextlib
import gc
import marshal
import os
import select
import signal
import sys
import time
from _socket import CMSG_SPACE, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOL_SOCKET
from _socket import socket as Socket
from typing import Any, NoReturn

from . import tree
from .guard import Guard, Launch, wake_on_children
from .wire import ASK, DUMP, LOOK, letter

__all__ = ["main"]

#: seconds that guards get to finish when the owner is gone
_PATIENCE = 5.0


def main() -> NoReturn:
    """Serve the owner whose number is the first argument, over standard input."""
    owner_pid = int(sys.argv[1])
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the end of the owner is our signal
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, {ASK, LOOK, DUMP})  # workers open up to them when they are ready
    socket = Socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != socket.fileno():
            try:
                os.close(int(name))
            except OSError:
                pass
    os.set_inheritable(socket.fileno(), False)
    tree.subreaper()
    tree.name_process("calloff-keeper")
    with contextlib.suppress(ProcessLookupError):  # the owner may be gone already
        owner = os.pidfd_open(owner_pid)
        if os.getppid() == owner_pid:
            _Keeper(socket, owner).run()
    os._exit(0)


class _Keeper:
    def __init__(self, socket: Socket, owner: int) -> None:
        self._socket = socket
        self._owner = owner
        self._guards: set[int] = set()
        self._woken, self._waker = wake_on_children()
        self._poll = select.poll()
        for file in (socket.fileno(), owner, self._woken):
            self._poll.register(file, select.POLLIN)

    def run(self) -> None:
        """Until the owner is gone."""
        while True:
            for file, _ in self._poll.poll():
                if file == self._woken:
                    self._reap()
                elif file == self._owner or not self._serve():
                    return self._finish()

    def _serve(self) -> bool:
        """One message; ``False`` when there will be none any more."""
        try:
            message, extras, _, _ = self._socket.recvmsg(1 << 17, CMSG_SPACE(32 * 4), MSG_CMSG_CLOEXEC)
        except OSError:
            return False
        files = array.array("i")
        for level, kind, data in extras:
            if level == SOL_SOCKET and kind == SCM_RIGHTS:
                files.frombytes(data)
        if not message:
            return False
        if message[:1] == b"P":
            prepare(marshal.loads(message[1:]))
        else:
            self._fork(message[:1], list(files))
        return True

    def _fork(self, kind: bytes, files: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            control = Socket(fileno=files[0])
            try:
                control.send(letter("failed", error.errno, error.strerror))
            except OSError:
                pass
            control.close()
            pid = -1
        if not pid:
            status = 1
            try:
                self._become_guard(kind, files)
                status = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(status)
        for file in files if pid > 0 else files[1:]:
            os.close(file)
        if pid > 0:
            self._guards.add(pid)

    def _become_guard(self, kind: bytes, files: list[int]) -> None:
        self._socket.close()
        os.close(self._woken)
        os.close(self._waker)
        tree.subreaper()
        tree.name_process("calloff-guard")
        control = Socket(fileno=files[0])
        control.setblocking(False)
        launch: Launch
        if kind == b"W":
            from .worker import launch
        else:
            from .program import launch
        Guard(control, self._owner, launch, grouped=kind == b"C", files=files[1:]).run()

    # --- its children

    def _reap(self) -> None:
        while True:
            try:
                os.read(self._woken, 4096)
            except BlockingIOError:
                break
        lost = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            lost = lost or (pid in self._guards and status != 0)
            self._guards.discard(pid)
        if lost:
            self._bury()

    def _bury(self) -> None:
        """A guard was killed: its orphans came to us."""
        me = os.getpid()
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            orphans = [pid for pid, parent in tree.descendants(me) if parent == me and pid not in self._guards]
            if not orphans:
                return
            for pid in orphans:
                try:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, os.WNOHANG)
                except OSError:
                    pass
            time.sleep(0.002)

    def _finish(self) -> None:
        """The owner is gone: the guards know it, too."""
        self._socket.close()
        until = time.monotonic() + _PATIENCE
        while self._guards and (left := until - time.monotonic()) > 0:
            select.select([self._woken], [], [], left)
            self._reap()


def prepare(details: dict[str, Any]) -> None:
    """Load what every worker needs, once, so that a worker is ready when it is forked."""
    if details["site"]:
        import site

        site.main()
    sys.path[:] = details["path"]
    import asyncio
    import faulthandler
    import pickle
    import traceback

    from . import worker

    with contextlib.suppress(ImportError):
        __import__("cloudpickle")
    del asyncio, faulthandler, pickle, traceback, worker
    gc.collect()
    gc.freeze()
