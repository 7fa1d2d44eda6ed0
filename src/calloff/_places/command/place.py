"""The word `command`: says that a program is to run."""

import os
import signal as signals
from collections.abc import Mapping
from functools import cache
from typing import IO, Any, Literal

from .plan import NULL, SAME, Outlet, Plan
from .streams import Captured, Feed, Reading, Writing
from .work import CommandWork

__all__ = ["command"]

Pathlike = str | os.PathLike[str]
Source = bytes | Literal["null", "inherit", "pipe"] | int | IO[Any] | None
Drain = Literal["capture", "inherit", "null", "pipe"] | int | IO[Any] | None


def command(
    program: Pathlike,
    *args: Pathlike,
    env: Mapping[str, str] | None = None,
    cwd: Pathlike | None = None,
    stdin: Source = None,
    stdout: Drain = "capture",
    stderr: Drain | Literal["stdout"] = "capture",
    limit: int = 1 << 26,
    signal: int = signals.SIGTERM,
    shell: bool = False,
    check: bool = True,
    foreground: bool = False,
) -> CommandWork:
    """Work that runs a program: ``done = await calloff.call(calloff.command("git", "status"))``.

    Args:
        program: its name, looked for on PATH, or its path. With `shell`, a line for ``/bin/sh``.
        *args: its arguments, one by one: nothing is split or expanded. With `shell`, the line's ``$1``, ``$2``, ...
        env: its whole environment; by default ours.
        cwd: the directory it runs in; by default ours.
        stdin: bytes to give it, ``"pipe"`` to write while it runs, ``"inherit"`` for ours, an open file, or nothing.
        stdout: ``"capture"`` it, ``"pipe"`` to read it while it runs, ``"inherit"`` for ours, ``"null"``, or a file.
        stderr: the same, or ``"stdout"`` to go there, too.
        limit: how many bytes of each captured output are kept, the newest; with ``"pipe"``, how many wait to be read.
        signal: what asks it to end.
        shell: whether `program` is a line for the shell.
        check: whether a status other than 0 is an error.
        foreground: keep it in the process group of this program, so that it has the terminal: it may ask for a
            password, and Ctrl-C and Ctrl-Z reach it. Only the program itself is then asked to end, not what it has
            started; force meets all of them as ever. With "inherit" for its streams.

    Returns:
        Work for `start` and `call`; its value has `status`, `stdout` and `stderr` as bytes, and `text`. With ``"pipe"``
        the streams are its own `stdin`, `stdout` and `stderr`. What one that was called off had written is in its
        `stdout_so_far` and `stderr_so_far`. `start` raises `FileNotFoundError` or `PermissionError`
        when the program can't be run, before anything is started. `CommandFailed` is raised for another status than 0,
        with the end of what the program wrote to its standard error.

    Raises:
        TypeError: an argument that is not a text or a path. The caller's fault.
        ValueError: an unknown word for a stream, or a text with a zero byte or half a character. The
            caller's fault.

    When the operation is asked to stop, the process group of the program gets `signal`. After its grace every process
    that descends from it gets SIGKILL, those that left the group or session, too. The end is only told when all of them
    are dead; those that a program leaves behind when it ends by itself are killed then.
    """
    argv = (_text(program, "program"), *(_text(arg, "an argument") for arg in args))
    name = os.path.basename(argv[0]) or argv[0]
    if shell:
        name = argv[0] if len(argv[0]) <= 40 else argv[0][:39] + "…"
        argv = ("/bin/sh", "-c", argv[0], "sh", *argv[1:])
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit must be a number of bytes, 1 or more, not {limit!r}")
    if limit < 1:
        raise ValueError(f"limit must be a number of bytes, 1 or more, not {limit!r}")
    if signal not in _signals():
        raise ValueError(f"signal must be the number of a signal, not {signal!r}")
    streams = (_source(stdin), _drain(stdout, "stdout", limit, 1), _drain(stderr, "stderr", limit, 2))
    if env is not None:
        env = _variables(env)
    folder = None if cwd is None else _text(cwd, "cwd")
    plan = Plan(argv, env, folder, streams, int(signal), check, (stdin, stdout, stderr), bool(foreground))
    return CommandWork(plan, name)


@cache
def _signals() -> frozenset[int]:
    return frozenset(signals.valid_signals())


def _text(value: Any, what: str) -> str:
    if isinstance(value, (list, tuple)):
        raise TypeError(f"{what} of a command must be a text or a path, not {value!r}: its words are arguments, *words")
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{what} of a command must be a text or a path, not {value!r}")
    text = os.fspath(value)
    if not isinstance(text, str):
        raise TypeError(f"{what} of a command must be a text or a path, not {value!r}")
    if "\0" in text:
        raise ValueError(f"{what} of a command must not hold a zero byte: {text!r}")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(f"{what} of a command must be a text that the system can take: {text!r}") from None
    return text


def _variables(env: Any) -> dict[str, str]:
    if not isinstance(env, Mapping):
        raise TypeError(f"env of a command must be a mapping of texts, not {env!r}")
    found = {_text(key, "env"): _text(value, "env") for key, value in env.items()}
    for key in found:
        if "=" in key or not key:
            raise ValueError(f"env of a command must not name a variable {key!r}")
    return found


def _source(given: Source) -> Outlet:
    if isinstance(given, (bytes, bytearray, memoryview)):
        return Feed(bytes(given))
    if given == "pipe":
        return Writing()
    if given == "inherit":
        return 0
    if given is None or given == "null":
        return NULL
    return _file(given, "stdin", 'bytes, "pipe", "inherit", "null", an open file, or None')


def _drain(given: Any, name: str, limit: int, ours: int) -> Outlet:
    if given == "capture":
        return Captured(limit)
    if given == "pipe":
        return Reading(limit)
    if given == "inherit":
        return ours
    if given is None or given == "null":
        return NULL
    if given == "stdout" and name == "stderr":
        return SAME
    words = '"capture", "pipe", "inherit", "null"' + (', "stdout"' if name == "stderr" else "")
    return _file(given, name, f"{words}, or an open file")


def _file(given: Any, name: str, allowed: str) -> int:
    if isinstance(given, (bool, str)):
        raise ValueError(f"{name} must be {allowed}, not {given!r}")
    try:
        number = given if isinstance(given, int) else int(given.fileno())
    except AttributeError:
        raise TypeError(f"{name} must be {allowed}, not {given!r}") from None
    except (OSError, ValueError):  # it is in memory only, or was closed
        raise ValueError(f"{name} must be {allowed}, not {given!r}: it has no number of an open file") from None
    if number < 0:
        raise ValueError(f"{name} must be {allowed}, not {given!r}")
    try:
        os.fstat(number)
    except OSError:
        raise ValueError(f"{name} must be {allowed}, not {given!r}: no file of that number is open") from None
    return number
