"""How a worker comes to be: what all of them need is loaded once, in the keeper, and each is set up when it was forked."""

import contextlib
import faulthandler
import gc
import os
import signal
import sys
import traceback
from _socket import socket as Socket
from io import BufferedWriter, FileIO, TextIOWrapper
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from .._os import forks, inherit, reaper
from .home import Home
from .inside import operation
from .page import Page
from .wire import ASK, DUMP, LOOK
from .worker import Worker

if TYPE_CHECKING:
    from .guard import Guard

__all__ = ["launch", "prepare"]


def prepare(details: dict[str, Any]) -> None:
    """Load what every worker needs, once, so that a worker is ready when it is forked; leave the garbage collector on."""
    if details["site"]:
        import site

        site.main()
    sys.path[:] = details["path"]
    import asyncio
    import faulthandler
    import pickle
    import traceback

    with contextlib.suppress(ImportError):
        __import__("cloudpickle")
    del asyncio, faulthandler, pickle, traceback
    reaper.childless()  # how that is found out
    forks.prepare()
    gc.collect()
    gc.freeze()
    gc.enable()


def launch(guard: "Guard", details: dict[str, Any]) -> int:
    """Fork the worker, in a session of its own.

    In a mere process group it would get a SIGHUP from the system, and die of it, when it is stopped and its guard and the
    keeper are dead: what it has started would have nobody then who keeps it together.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        reaper.die_with_parent(parent)
        os.setsid()
        guard.let_go()
        inherit.take_over(guard.wanted, guard.own)
        _start({**guard.wanted, **details}, guard.files, guard.page)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _start(details: dict[str, Any], files: list[int], page: Page) -> NoReturn:
    """Set up and serve. `files` are the sockets for frames and for news, the pipe for stacks, and the two outputs."""
    reaper.subreaper()
    reaper.name_process("calloff-worker")
    data, news, stacks, out, err = files
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    home = Home(details)
    sys.modules["__main__"] = main = ModuleType("__main__")
    if details["main"]:  # processes that are spawned from here import the script by that
        main.__file__ = details["main"]
    for file, name in ((1, "stdout"), (2, "stderr")):
        binary = FileIO(file, "w", closefd=False)
        text = TextIOWrapper(BufferedWriter(binary), details["encoding"], "backslashreplace", line_buffering=True)
        setattr(sys, name, text)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for number in set(details["ignored"]) - {ASK, LOOK, DUMP, signal.SIGCHLD}:
        signal.signal(number, signal.SIG_IGN)
    worker = Worker(Socket(fileno=data), page, stacks, home)
    operation.news = Socket(fileno=news)
    operation.page = page
    signal.signal(ASK, worker.asked)
    signal.signal(LOOK, worker.look)
    sys.unraisablehook = worker.unraisable
    # In the middle of Python code that may crash: only for a worker that is killed next, or surely is inside C.
    faulthandler.register(DUMP, stacks, all_threads=False)
    signal.pthread_sigmask(signal.SIG_SETMASK, set(details["blocked"]) - {ASK, LOOK, DUMP})
    for name in details["preload"]:
        try:
            __import__(name)
        except Exception:
            traceback.print_exc()
    home.note()
    worker.serve()
    os._exit(0)
