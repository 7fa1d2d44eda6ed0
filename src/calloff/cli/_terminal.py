"""The terminal of a program that ``calloff run`` gives it to: one that is ended amidst something leaves it as it was."""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["Terminal"]


class Terminal:
    """Notes the settings of the terminal, if there is one and it is ours, to restore them.

    A program that is killed while it asks for a password has switched the echo off; a shell that is killed has the
    terminal in a process group that is no more.
    """

    def __init__(self) -> None:
        self._file = -1
        self._settings: list[Any] = []
        with suppress(ImportError, OSError):
            import termios

            file = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                if os.tcgetpgrp(file) == os.getpgrp():
                    self._settings = termios.tcgetattr(file)
                    self._file = os.dup(file)
            except termios.error:  # it was hung up
                pass
            finally:
                os.close(file)

    def close(self, *, restore: bool) -> None:
        """Let go of it, with the settings that it had where these are wanted."""
        if self._file < 0:
            return
        import termios

        with suppress(OSError, termios.error):
            if restore and self._have_back():
                with _unstopped():
                    termios.tcsetattr(self._file, termios.TCSADRAIN, self._settings)
        os.close(self._file)
        self._file = -1

    def _have_back(self) -> bool:
        """Whether it is ours; it becomes so where those who had it last are dead, and not if another has it."""
        group = os.tcgetpgrp(self._file)
        if group == os.getpgrp():
            return True
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            with _unstopped():
                os.tcsetpgrp(self._file, os.getpgrp())
            return True
        except PermissionError:
            pass
        return False


@contextmanager
def _unstopped() -> Generator[None]:
    """Without the signal for those who set a terminal that is not theirs."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
