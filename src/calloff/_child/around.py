"""What surrounds a function in its worker: what it needs before it begins, and what is looked after when it has ended."""

import asyncio
import contextlib
import os
import sys
import traceback
from functools import partial
from time import monotonic
from types import FunctionType
from typing import Any, NoReturn

from .._os import reaper

__all__ = ["give_up", "has_descendants", "leave", "populate_main", "tidy"]

#: seconds that the tasks which an async function leaves behind get to end
_TIDY = 0.5


def populate_main(function: Any, args: tuple[Any, ...]) -> None:
    """Put what came by value from the owner's script where the script has it: pickles made here name it there."""
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    kinds = [type(function), *map(type, args)]
    for part in (function, *kinds):
        if not isinstance(part, (FunctionType, type)) or part.__module__ != "__main__":
            continue
        main = vars(sys.modules["__main__"])
        for name, value in getattr(part, "__globals__", {}).items():
            if getattr(value, "__module__", None) == "__main__" and not name.startswith("__"):
                main[name] = value
        if "." not in part.__qualname__:
            main[part.__name__] = part


async def tidy(loop: asyncio.AbstractEventLoop, children: tuple[Any, ...]) -> None:
    """Cancel what an async function has left in its loop, and wait for that a little."""
    until = monotonic() + _TIDY
    for child in children:
        child.cancel("the operation that started it ended")
    rest = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in rest:
        task.cancel()
    if rest:
        await asyncio.wait(rest, timeout=max(0.0, until - monotonic()))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.05, until - monotonic())):
            await loop.shutdown_asyncgens()


def has_descendants() -> bool:
    """Whether any process that the job started is left; those that have ended are reaped."""
    if reaper.is_childless():
        return False
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return False
        except OSError:  # a signal came in between and spoiled the number of the error
            continue
        if found is None:
            return True


def leave(error: BaseException | None) -> NoReturn:
    """End a child that the function has forked and that comes here: it must not answer for the function."""
    status = 0
    try:
        if isinstance(error, SystemExit):
            code = error.code
            status = 0 if code is None else code if isinstance(code, int) else 1
            if status and not isinstance(code, int):
                print(code, file=sys.stderr)
        elif error is not None:
            status = 1
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status & 0xFF)


def give_up(name: str, error: OSError) -> NoReturn:
    """End a worker that can't send what came of a function, and say why: as a rule the function has closed its files."""
    if not isinstance(error, (BrokenPipeError, ConnectionResetError)):  # else nobody is there to be told
        with contextlib.suppress(Exception):
            print(f"calloff: what came of {name} can't be sent back: {error}", file=sys.stderr, flush=True)
    os._exit(1)
