"""The keeper: one small process per owner, single-threaded, from which all guards are forked.

Forking the owner itself would cost time for every page it has and is unsafe with threads. The keeper is started by
exec, so it shares nothing with the owner but a socket. What a guard is to do comes to the guard itself, so the keeper
never waits for anybody. When the owner is gone or has no more use for it, it stays until its guards have finished.

It is nobody's child that the owner could wait for: the process that the owner starts forks it and ends at once. And it
watches its guards: one that was stopped is continued, and what one that was killed leaves behind is killed here, so
that its owner can be told the truth.
"""

import _socket
import array
import gc
import os
import select
import signal
import sys
import time
from _socket import CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET
from _socket import socket as Socket
from typing import NoReturn

from .._os import fds, inherit, reaper
from .detaching import close_all_but, detach, handle, has_hung_up
from .guard import Guard, Launch, send, wake_on_children
from .lease import Lease
from .lost import Lost
from .page import Page
from .program import launch as launch_program
from .standby import Line, Standby, take_turns
from .wire import ASK, DUMP, LOOK, Letters, letter

__all__ = ["main"]

#: files that come with a message are to be closed by an exec, where the system can do that
_CLOEXEC = int(getattr(_socket, "MSG_CMSG_CLOEXEC", 0))
#: after how many stops within a second a guard is killed instead of continued
_STOPS = 3
#: seconds for which a keeper is stopped at most before it looks after its owner, and when that is gone; a quarter of those
#: for which it is while it has not come to see that, or nobody has asked for anything
_STOPPED, _SELDOM = 0.5, 20.0


def main(argv: list[str] | None = None) -> NoReturn:
    """Serve the owner over standard input; the arguments are the owner's number and the word ``foreground`` or none."""
    os.environ.pop("CALLOFF_KEEPER_OF", None)  # nothing that is started from here is to take itself for a keeper
    number, *words = sys.argv[1:] if argv is None else argv
    owner_pid = int(number)
    if not words:
        os.setsid()
    else:  # in the session of its terminal, but not among those whom that stops and interrupts
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    own = inherit.standing()[1]
    owner = handle(owner_pid)
    # a packed program may have a parent of its own making; else the owner is gone already
    if os.getppid() == owner_pid or (argv is not None and not has_hung_up(0)):
        detach()
        reaper.go_on_every(_STOPPED)
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the end of the owner is our signal
            if signal.getsignal(each) is not signal.SIG_IGN:
                signal.signal(each, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, {ASK, LOOK, DUMP})  # workers open up to them when they are ready
        socket = Socket(fileno=fds.copied(0))
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        close_all_but({0, 1, 2, socket.fileno(), owner})
        reaper.subreaper()
        reaper.name_process("calloff-keeper")
        _Keeper(socket, owner, own).run()
    os._exit(0)


class _Keeper:
    def __init__(self, socket: Socket, owner: int, own: inherit.Settings) -> None:
        self._me = os.getpid()
        self._socket = socket
        self._owner = owner
        self._own = own
        self._letters = Letters()
        self._files: list[int] = []
        self._held: dict[int, int] = {}
        """Files of the owner's that stay open until everything that it has started has ended."""
        self._lease: Lease | None = None
        self._guards: dict[int, int] = {}
        """By process, the number that its owner knows its work by; 0 where it waits for another one."""
        self._pages: dict[int, Page] = {}
        """By that number, what they share with their work."""
        self._stops: dict[int, list[float]] = {}
        self._heirs: set[int] = set()
        """Keepers that were forked here for other credentials."""
        self._lost = Lost(self._guards, self._heirs, self._reap)
        self._woken, self._waker = wake_on_children()
        self._poll = select.poll()
        self._standby = Standby(self._poll)
        for file in (socket.fileno(), owner, self._woken):
            if file >= 0:
                self._poll.register(file, select.POLLIN)
        fds.go_on_with(socket.fileno())
        if not has_hung_up(socket.fileno()):  # which signals us, once; later it is no signal any more
            reaper.go_on_every(_SELDOM)
        send(socket, letter("up", os.getpid()))

    def run(self) -> None:
        """Until the owner is gone or has let go of it, and no guard is left."""
        gc.enable()  # which was off while this was loaded
        serving = True
        while serving or self._guards or self._lost.left() is not None:
            wait = min((left for left in (self._lost.left(), self._standby.left()) if left is not None), default=None)
            ready = [file for file, _ in self._poll.poll(fds.milliseconds(wait))]
            lines = {file for file in ready if file in self._standby}
            for file in lines:  # first: a command may come now that one of them can have
                self._hear(file)
            self._standby.dismiss()
            for file in ready:
                if file in lines:
                    continue
                if file == self._woken:
                    self._reap()
                elif serving and (file == self._owner or not self._serve()):
                    serving = False
                    self._poll.unregister(self._socket.fileno())
                    self._socket.close()
                    if self._owner >= 0:
                        self._poll.unregister(self._owner)
                    self._standby.close()
                    reaper.go_on_every(_STOPPED)
            if self._lost.left() is not None:
                self._lost.bury()

    def _serve(self) -> bool:
        """What has come; ``False`` when there will be nothing any more."""
        try:
            data, extras, _, _ = self._socket.recvmsg(1 << 16, CMSG_SPACE(32 * 4), _CLOEXEC)
        except OSError:
            return False
        for level, kind, sent in extras:
            if level == SOL_SOCKET and kind == SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(sent)
                self._files += numbers
        if not data:
            return False
        for kind, *parts in self._letters.feed(data):
            if kind == "prepare":
                gc.disable()  # what is loaded stays: to look through it again and again takes a sixth of the time
                from .nursery import prepare

                prepare(*parts)
            else:
                number, count = parts[:2]
                files, self._files = self._files[:count], self._files[count:]
                if kind == "split":
                    self._split(files, parts[2])
                elif kind == "tell":
                    self._lost.tell_later(number, files[0], parts[2])
                elif kind == "hold":
                    self._held[number] = files[0]
                elif kind == "lease":
                    self._lease = Lease(files[0])
                    os.close(files[0])
                elif kind == "drop":
                    os.close(self._held.pop(number))
                else:
                    self._fork(kind, number, list(files))
        return True

    def _fork(self, kind: str, number: int, files: list[int]) -> None:
        if has_hung_up(files[0]):  # the start was taken back while it waited for us
            for file in files:
                os.close(file)
            return
        page, line = None, None
        fds.signal_input(files[0])
        if kind == "command":
            line = self._standby.give(files)
            if line is not None:
                assert line.page is not None
                self._began(number, line.pid, line.page, files)
                return
            line = self._standby.open()
        try:
            page = Page()
            pid = os.fork()
        except OSError as error:
            if page is not None:
                page.leave_bell()
            if line is not None:
                line.close()
            control = Socket(fileno=files[0])
            send(control, letter("failed", error.errno, error.strerror))
            control.close()
            for file in files[1:]:
                os.close(file)
            return
        if not pid:
            status = 1
            try:
                self._become_guard(kind, files, page, line)
                status = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(status)
        fds.signal_input_to(files[0], pid)  # it may be stopped before it comes to that
        page.leave_bell()
        if line is not None:
            self._standby.add(line, pid)
        self._began(number, pid, page, files)
        self._lost.forked(pid)

    def _began(self, number: int, pid: int, page: Page, files: list[int]) -> None:
        """That process guards the work of this number."""
        for file in files:
            os.close(file)
        self._guards[pid] = number
        self._pages[number] = page

    def _hear(self, file: int) -> None:
        """A guard of commands has ended its work, or itself."""
        line = self._standby.hear(file)
        if line is not None and line.pid in self._guards:  # else it was killed meanwhile, and the line tells next
            self._standby.wait(line, self._pages.pop(self._guards[line.pid]))
            self._guards[line.pid] = 0

    def _split(self, files: list[int], credentials: inherit.Credentials) -> None:
        """Fork a keeper for an owner that has dropped privileges and can't read its interpreter any more."""
        pid = os.fork()
        if not pid:
            status = 1
            try:
                os.dup2(files[1], 1)
                os.dup2(files[1], 2)
                self._let_go()
                os.close(files[1])
                if inherit.assume(credentials):
                    reaper.go_on_every(_STOPPED)
                    reaper.subreaper()
                    reaper.name_process("calloff-keeper")
                    _Keeper(Socket(fileno=files[0]), self._owner, inherit.standing()[1]).run()
                    status = 0
                else:
                    os.write(2, b"the credentials of this program can't be had by a process that it has not started")
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(status)
        self._heirs.add(pid)
        self._lost.forked(pid)
        for file in files:
            os.close(file)

    def _let_go(self) -> None:
        """In a fork: close what is the keeper's own."""
        signal.set_wakeup_fd(-1)
        self._socket.close()
        for file in (self._woken, self._waker, *self._files, *self._held.values()):
            os.close(file)
        self._lost.forget()
        self._standby.forget()

    def _become_guard(self, kind: str, files: list[int], page: Page, line: Line | None) -> None:
        self._let_go()
        is_sure = reaper.subreaper()
        reaper.name_process("calloff-guard")
        reaper.go_on_without_parent()
        launch: Launch = launch_program
        if kind == "worker":
            from .nursery import launch
        own, lease = self._own, self._lease

        def guard(files: list[int]) -> Guard:
            control = Socket(fileno=files[0])
            control.setblocking(False)
            return Guard(
                control, self._owner, self._me, launch, kind=kind, files=files[1:], page=page, own=own, lease=lease
            )

        if line is not None and is_sure:
            take_turns(line, files, guard)
            return
        if line is not None:  # what loses its parent goes elsewhere, and nobody knows that nothing is left
            line.close()
        guard(files).run()

    # --- its children

    def _reap(self) -> None:
        while True:
            try:
                os.read(self._woken, 4096)
            except BlockingIOError:
                break
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                break
            if not pid:
                break
            if os.WIFSTOPPED(status):
                self._go_on(pid)
                continue
            code = os.waitstatus_to_exitcode(status)
            number = self._guards.pop(pid, None)
            page = None if number is None else self._pages.pop(number, None)
            self._stops.pop(pid, None)
            if pid in self._heirs:
                self._heirs.discard(pid)
            elif number is None:
                self._lost.reaped(pid, code)
            elif code and number:
                self._lost.add(number, code, page)

    def _go_on(self, pid: int) -> None:
        """Somebody has stopped a guard; one whom that does not keep from stopping it again gets rid of it."""
        if pid not in self._guards:
            return
        now = time.monotonic()
        stops = [at for at in self._stops.get(pid, ()) if at > now - 1.0]
        self._stops[pid] = [*stops, now]
        os.kill(pid, signal.SIGKILL if len(stops) >= _STOPS else signal.SIGCONT)
