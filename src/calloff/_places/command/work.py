"""A command that waits to be started: everything that can be wrong with it is found before anything is started."""

import errno
import os
import stat
from collections.abc import Mapping

from ..._words.place import Work
from .body import CommandBody
from .plan import Finished, Outlet, Plan
from .streams import Captured, Reading, Writing

__all__ = ["CommandWork"]


class CommandWork(Work[Finished]):
    """A command that was not started yet; made by `calloff.command`.

    Attributes:
        stdin: to write to while it runs, with ``stdin="pipe"``.
        stdout: to read from while it runs, with ``stdout="pipe"``.
        stderr: the same.
        stdout_so_far: what it has written so far, where that is captured.
        stderr_so_far: the same.
    """

    __slots__ = ("_opened", "_plan", "name")
    place = "command"

    def __init__(self, plan: Plan, name: str) -> None:
        self._plan = plan
        self._opened = False
        self.name: str = name

    @property
    def stdin(self) -> Writing:
        """What the command reads; ``await work.stdin.write(b"...")``, then ``work.stdin.end()``."""
        stream = self._plan.streams[0]
        if not isinstance(stream, Writing):
            raise ValueError('there is no stream to write to: command(..., stdin="pipe") makes one')
        return stream

    @property
    def stdout(self) -> Reading:
        """What the command writes; ``async for line in work.stdout``."""
        return _reading(self._plan.streams[1], "stdout")

    @property
    def stderr(self) -> Reading:
        """What the command writes to its standard error; ``async for line in work.stderr``."""
        return _reading(self._plan.streams[2], "stderr")

    @property
    def stdout_so_far(self) -> bytes:
        """A copy of what was captured of standard output: while it runs, and when it was called off."""
        return _captured(self._plan.streams[1], "stdout")

    @property
    def stderr_so_far(self) -> bytes:
        """A copy of what was captured of standard error: while it runs, and when it was called off."""
        return _captured(self._plan.streams[2], "stderr")

    def open(self) -> CommandBody:
        """The body.

        Raises:
            FileNotFoundError: there is no such program, or no such directory.
            NotADirectoryError: `cwd` is none.
            PermissionError: it can't be executed.
            RuntimeError: it was started before.
        """
        if self._opened:
            raise RuntimeError(f"{self!r} was started already: make another one to run it again")
        cwd = _directory(self._plan.cwd)
        env = dict(os.environ if self._plan.env is None else self._plan.env)
        program = find(self._plan.argv[0], env, cwd or ".")
        self._opened = True
        return CommandBody(self._plan, self.name, program, env, cwd)

    def __repr__(self) -> str:
        return f"<calloff.command {self.name}>"


def _reading(stream: Outlet, name: str) -> Reading:
    if not isinstance(stream, Reading):
        raise ValueError(f'there is no stream to read from: command(..., {name}="pipe") makes one')
    return stream


def _captured(stream: Outlet, name: str) -> bytes:
    if not isinstance(stream, Captured):
        raise ValueError(f'nothing is captured: command(..., {name}="capture"), the default, does that')
    return stream.value()


def _directory(cwd: str | None) -> str | None:
    """Its path; ``None`` for ours when that was removed, which a child may be in all the same."""
    if cwd is None:
        try:
            return os.getcwd()
        except FileNotFoundError:
            return None
    if not stat.S_ISDIR(os.stat(cwd).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "cwd is not a directory", cwd)
    return os.path.abspath(cwd)


def find(program: str, env: Mapping[str, str], cwd: str) -> str:
    """The path of the program, looked for as a shell does."""
    if "/" in program:
        path = os.path.join(cwd, program)
        os.stat(path)  # raises, with the name
        if _executable(path):
            return path
        raise PermissionError(errno.EACCES, "not an executable program", program)
    refused = None
    for folder in os.get_exec_path(dict(env)):
        path = os.path.join(cwd, folder, program)
        if os.path.isfile(path):
            if _executable(path):
                return path
            refused = path
    if refused is not None:
        raise PermissionError(errno.EACCES, "not an executable program", refused)
    apart = "" if len(program.split()) < 2 else " (its arguments are words of their own, behind it)"
    raise FileNotFoundError(errno.ENOENT, f"no such program on PATH{apart}", program)


def _executable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)
