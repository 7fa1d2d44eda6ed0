"""Numbers of files: who owns them, and that none of ours is that of a standard stream.

A program whose standard streams are closed gets their numbers for the next files that are opened. What calloff opens
for itself is moved above them, or a child would take our sockets for its output.
"""

import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket as sockets
    from collections.abc import Sequence
    from types import TracebackType

__all__ = [
    "Files",
    "copied",
    "go_on_with",
    "is_readable",
    "is_unread",
    "milliseconds",
    "pair",
    "pipe",
    "raised",
    "received",
    "signal_input",
    "signal_input_to",
    "standard",
    "write",
]

#: the first number that is no standard stream's
_FIRST = 3
#: seconds that `poll` waits at most at a time: its milliseconds have 31 bits, and nothing has to wait that long at once
_LONGEST = 3600.0


def copied(file: int) -> int:
    """Another number for the same open file, from 3 on; closed when a program is executed."""
    import fcntl

    return fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _FIRST)


def raised(file: int) -> int:
    """The same open file at a number from 3 on; the number given is closed where that is another one."""
    if file >= _FIRST:
        return file
    try:
        return copied(file)
    finally:
        os.close(file)


class Files:
    """Owns numbers of files until they are given away: whatever happens before, they are closed once.

    ::

        with Files() as files:
            ours, theirs = files.pipe()
            ...                      # an error here closes both
            files.give()             # from here on they are somebody else's
    """

    __slots__ = ("numbers",)

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __enter__(self) -> "Files":
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        self.close()

    def add(self, file: int) -> int:
        """Own it, at a number from 3 on, which is returned."""
        file = raised(file)
        self.numbers.append(file)
        return file

    def copy(self, file: int) -> int:
        """Own a copy of it."""
        return self.add(copied(file))

    def output(self, number: int) -> int:
        """Own a copy of standard output or error (1, 2), or what swallows all where this process has none."""
        if standard(number):
            return self.copy(number)
        return self.add(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))

    def pipe(self, flags: int = 0) -> "tuple[int, int]":
        """Own both ends of a new pipe."""
        first, second = pipe(flags)
        self.numbers += (first, second)
        return first, second

    def give(self, *files: int) -> None:
        """These, or all without any, are owned by somebody else from now on."""
        self.numbers = [file for file in self.numbers if files and file not in files]

    def close(self) -> None:
        """Close what is still owned."""
        numbers, self.numbers = self.numbers, []
        for file in numbers:
            os.close(file)


def pipe(flags: int = 0) -> "tuple[int, int]":
    """A pipe whose ends are from 3 on and are closed when a program is executed.

    Args:
        flags: ``os.O_NONBLOCK``, for both ends.
    """
    if hasattr(os, "pipe2"):
        first, second = os.pipe2(os.O_CLOEXEC | flags)
    else:
        first, second = os.pipe()
        for file in (first, second) if flags else ():
            os.set_blocking(file, False)
    try:
        first = raised(first)
    except OSError:
        os.close(second)
        raise
    try:
        return first, raised(second)
    except OSError:
        os.close(first)
        raise


def pair(kind: "int | None" = None) -> "tuple[sockets.socket, sockets.socket]":
    """Two sockets that are connected with each other, at numbers from 3 on."""
    import socket as sockets

    both = sockets.socketpair(sockets.AF_UNIX, sockets.SOCK_STREAM if kind is None else kind)
    if min(each.fileno() for each in both) >= _FIRST:
        return both
    try:
        moved = [sockets.socket(fileno=copied(both[0].fileno()))]
        try:
            moved.append(sockets.socket(fileno=copied(both[1].fileno())))
        except OSError:
            moved[0].close()
            raise
    finally:
        for each in both:
            each.close()
    return moved[0], moved[1]


def standard(number: int) -> bool:
    """Whether a child is to have what stands at the number of a standard stream here.

    A file that is closed when a program is executed was put there for ourselves: by the event loop or by a library, in
    a program that had its standard streams closed. A daemon that opened a log file or `/dev/null` there means it.
    """
    try:
        mode = os.fstat(number).st_mode
        return os.get_inheritable(number) or stat.S_ISREG(mode) or stat.S_ISCHR(mode)
    except OSError:
        return False


def received(extras: "Sequence[tuple[int, int, bytes]]") -> "int | None":
    """The file that came with a message."""
    for _, _, files in extras:
        return int.from_bytes(files[:4], sys.byteorder)
    return None


def milliseconds(seconds: "float | None") -> "float | None":
    """How long to wait in `poll`, which refuses what lasts longer than 24 days; ``None`` for as long as it takes."""
    return None if seconds is None else min(max(0.0, seconds), _LONGEST) * 1000


def go_on_with(file: int) -> None:
    """Have the system continue this process, should it be stopped, when something comes through that socket, or its end.

    For as long as the socket is open somewhere. Where the system can't do that, nothing happens.
    """
    signal_input(file)
    signal_input_to(file, os.getpid())


def signal_input(file: int) -> None:
    """Have what comes through that socket told by SIGCONT, to a process that is still to be named.

    This reads and writes all flags of the socket: nobody else who has it may change them at that time.
    """
    import signal

    try:
        import fcntl

        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGCONT)
        fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_ASYNC)
    except (ImportError, AttributeError, OSError):
        pass


def signal_input_to(file: int, pid: int) -> None:
    """Name the process."""
    try:
        import fcntl

        fcntl.fcntl(file, fcntl.F_SETOWN, pid)
    except (ImportError, OSError):
        pass


def is_readable(file: int, seconds: float) -> bool:
    """Wait until a file can be read, at most that long; for numbers of any size, which `select` is not."""
    import select

    waiting = select.poll()
    waiting.register(file, select.POLLIN)
    return bool(waiting.poll(milliseconds(seconds)))


def is_unread(file: int, later: "Sequence[bytes]" = ()) -> bool:
    """Whether something that was sent through a local stream socket has surely not been read yet.

    Args:
        file: the socket.
        later: what was sent last, send by send: whether something before that is unread is asked.
    """
    try:
        unread = _unread(file)
        return unread > 0 and (not later or unread > _weight(later))
    except (ImportError, AttributeError, OSError):  # this system does not tell
        return False


def _unread(file: int) -> int:
    """What the system counts for the unread; it need not be bytes."""
    import fcntl
    import termios

    return int.from_bytes(fcntl.ioctl(file, termios.TIOCOUTQ, b"\0" * 4), sys.byteorder)


def _weight(sends: "Sequence[bytes]") -> int:
    """What it counts for these alone, when nobody has read any of them."""
    ours, theirs = pair()
    with ours, theirs:
        ours.setblocking(False)
        for data in sends:
            ours.send(data)
        return _unread(ours.fileno())


def write(file: int, data: "bytes | memoryview") -> int:
    """Write to a pipe; `BrokenPipeError` when nobody reads it, also where the program lets SIGPIPE end it."""
    import signal

    if signal.getsignal(signal.SIGPIPE) is not signal.SIG_DFL:
        return os.write(file, data)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        return os.write(file, data)
    except BrokenPipeError:
        if signal.SIGPIPE not in before and hasattr(signal, "sigtimedwait"):
            signal.sigtimedwait({signal.SIGPIPE}, 0)  # it was sent to this thread, and nobody is to see it
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
