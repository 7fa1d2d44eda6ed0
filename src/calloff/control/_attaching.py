"""Makes a program visible that knows nothing of calloff: its interpreter is asked to run a few lines (PEP 768).

`sys.remote_exec` has the main thread of another process run a file at its next step of Python. A loop that waits for
events makes none, so its system call is interrupted: `ptrace` stops the main thread for a moment and lets it go on, which
no parent and no shell hears of, unlike of SIGSTOP. What can't be interrupted (a sleep, a lock, code in C) can't be reached.
Of several interpreters in a process (`concurrent.interpreters`) Python asks the newest, so the main one can't be reached.

The file stands in a folder of its own until it has run. When it is given up before, it is emptied and left: the program
reads it when it wakes up, and a file that is missing would be complained of on its standard error.
"""

import ctypes
import json
import os
import shutil
import sys
import tempfile
import time
from typing import Any

from ._directory import is_foreign, sockets
from ._errors import ControlError

__all__ = ["CannotAttach", "attach"]

_SCRIPT = """\
def attach():
    import _thread, sys

    def load(name, folder):
        import importlib.util, os
        spec = importlib.util.spec_from_file_location(
            name, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
        )
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise

    def work(loop):
        import importlib.util, json, os
        try:
            import _interpreters
            if _interpreters.get_current()[0] != _interpreters.get_main()[0]:
                raise RuntimeError("Python lets in the newest of its interpreters only, which is not the main one")
            if importlib.util.find_spec("msgspec") is None:
                load("msgspec", {msgspec!r})
            if "calloff" not in sys.modules:
                load("calloff", {calloff!r})
            from calloff.control import _attached, _service
            _attached.open_door({directory!r}, loop)
            said = {{}}
        except BaseException as error:
            said = {{"error": f"{{type(error).__name__}}: {{error}}"}}
        try:
            with open({answer!r} + ".new", "w") as file:
                json.dump(said, file)
            os.rename({answer!r} + ".new", {answer!r})
        except OSError:
            pass

    try:
        asyncio = sys.modules.get("asyncio")
        _thread.start_new_thread(work, (asyncio and asyncio._get_running_loop(),))
    except BaseException:
        pass
attach()
"""
_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_WALL = 0x40000000
_FIRST_POKE, _PAUSE = 0.1, 0.02
#: how often, and after which pause, it is asked whether the thread has stopped
_LOOKS, _LOOK = 500, 0.001
#: what `sys.remote_exec` says, and what that means
_MEANINGS = {
    "Can't send commands": "{said}: run calloff on the Python of process {pid} ({name})",
    "not enabled in the remote": "process {pid} does not allow it (PYTHON_DISABLE_REMOTE_DEBUG or -X disable_remote_debug)",
    "PyRuntime": "process {pid} ({name}) is no Python program that can be reached: Python 3.14 or newer is needed",
}


class CannotAttach(ControlError):
    """The process can't be made visible; the text says why. Nothing was changed in it."""


def attach(pid: int, patience: float = 5.0) -> bool:
    """Make the process visible to the other verbs, and wait until it is.

    Args:
        pid: its number.
        patience: seconds that it may take to make a step of Python.

    Returns:
        ``False`` when it is visible already.

    Raises:
        CannotAttach: of another version of Python, of another user, asleep where nothing reaches it. The text tells.
    """
    if any(number == pid and not is_foreign(pid, path) for number, path in sockets()):
        return False
    name = _check(pid)
    folder = tempfile.mkdtemp(prefix="calloff-attach-")
    answer, script = os.path.join(folder, "answer"), os.path.join(folder, "script.py")
    pending = False
    try:
        with open(script, "w", encoding="utf-8") as file:
            file.write(_script(answer))
        _send(pid, name, script)
        pending = True
        said = _wait(pid, answer, patience)
        pending = said is None and os.path.exists(f"/proc/{pid}")
        if said is None:
            with open(script, "w", encoding="utf-8"):  # whenever it is read now, nothing happens
                pass
            raise CannotAttach(_unreached(pid, name, patience))
        if "error" in said:
            raise CannotAttach(f"process {pid} ({name}) could not load calloff: {said['error']}")
        return True
    finally:
        if not pending:
            shutil.rmtree(folder, ignore_errors=True)


def _check(pid: int) -> str:
    """The name of the process; raises for what can be known beforehand."""
    if not hasattr(sys, "remote_exec"):
        version = ".".join(map(str, sys.version_info[:2]))
        raise CannotAttach(f"this calloff runs on Python {version}: 3.14 or newer is needed, as in the process itself")
    if pid == os.getpid():
        raise CannotAttach("that is this very process")
    try:
        user = os.stat(f"/proc/{pid}").st_uid
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            name = file.read().strip()
    except OSError:
        raise CannotAttach(f"there is no process {pid}") from None
    if user != os.geteuid():
        raise CannotAttach(f"process {pid} ({name}) belongs to user {user}: attach as that user")
    try:
        apart = os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    except OSError:
        raise CannotAttach(_forbidden(pid, name)) from None
    if apart:
        raise CannotAttach(f"process {pid} ({name}) sees other files than we do: attach from inside its container")
    return name


def _forbidden(pid: int, name: str) -> str:
    return (
        f"process {pid} ({name}) may not be looked into: that needs the rights of a debugger "
        f"(root, or CAP_SYS_PTRACE, or kernel.yama.ptrace_scope=0)"
    )


def _script(answer: str) -> str:
    import msgspec

    directory = os.environ.get("CALLOFF_SOCKETS", "")
    return _SCRIPT.format(
        answer=answer,
        calloff=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        msgspec=os.path.dirname(os.path.abspath(msgspec.__file__)),
        directory=directory and os.path.abspath(directory),
    )


def _send(pid: int, name: str, script: str) -> None:
    remote_exec: Any = sys.remote_exec  # type: ignore[attr-defined,unused-ignore]  # of 3.14
    try:
        remote_exec(pid, script)
    except PermissionError:
        raise CannotAttach(_forbidden(pid, name)) from None
    except (OSError, RuntimeError) as error:
        said = str(error)
        meant = next((text for sign, text in _MEANINGS.items() if sign in said), "process {pid} ({name}): {said}")
        said = said.replace("Can't send commands from", "no way from")
        raise CannotAttach(meant.format(pid=pid, name=name, said=said)) from None


def _wait(pid: int, answer: str, patience: float) -> dict[str, str] | None:
    """What the process has written, once it has."""
    now = time.monotonic()
    until, poke_at, pause = now + patience, now + _FIRST_POKE, _PAUSE
    while True:
        try:
            with open(answer, encoding="utf-8") as file:
                said: dict[str, str] = json.load(file)
                return said
        except FileNotFoundError:
            pass
        now = time.monotonic()
        if now >= until or not os.path.exists(f"/proc/{pid}"):
            return None
        if now >= poke_at:
            _poke(pid)
            pause *= 2
            poke_at = now + pause
        time.sleep(_PAUSE)


def _unreached(pid: int, name: str, patience: float) -> str:
    if not os.path.exists(f"/proc/{pid}"):
        return f"process {pid} ({name}) has ended meanwhile"
    return (
        f"process {pid} ({name}) made no step of Python within {patience:g} s: its main thread, or that of its newest "
        f"interpreter if it has several, sleeps, waits for a lock, or is in C code"
    )


def _poke(pid: int) -> None:
    """Interrupt the system call of the main thread; nothing happens where that can't be."""
    ptrace: Any = ctypes.CDLL(None).ptrace
    ptrace.argtypes, ptrace.restype = [ctypes.c_long] * 4, ctypes.c_long
    if ptrace(_SEIZE, pid, 0, 0):
        return
    ptrace(_INTERRUPT, pid, 0, 0)
    for _ in range(_LOOKS):
        try:
            if os.waitpid(pid, _WALL | os.WNOHANG)[0]:
                break
        except OSError:
            return
        time.sleep(_LOOK)
    ptrace(_DETACH, pid, 0, 0)
