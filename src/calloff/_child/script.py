"""A whole program of Python, as it is, that can be asked where it is.

    python script.py LOOK DUMP FIFO file|module NAME ARG...

The program is `__main__` of an interpreter of its own, with its arguments, its directory on the search path, and its
standard streams; its exit status is that of the interpreter. Two signals make it write its stack to a named pipe: one that
Python handles, between two steps of Python code, and one that C handles at once (`faulthandler`).

Where an event loop waits, the stack is that of the task that the program runs, for there it is what a person would look at.
This file is executed by its path and imports nothing of calloff; only when somebody asks for all tasks of the program, a
thread is started in it that opens the door of `calloff.control`.
"""

import contextlib
import faulthandler
import os
import signal
import sys
from types import FrameType, ModuleType
from typing import Any

__all__: list[str] = []

_MOST = 200
_FILE = __file__  # which python takes away when the program has ended, while its exit goes on


def main() -> None:
    """Prepare, and become the program."""
    look, dump, fifo, kind, name, *rest = sys.argv[1:]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # as shells have it of what they start in the background: but that signal is what asks us to end
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _answer(int(look), int(dump), fifo)
    sys.path.pop(0)  # our own directory
    sys.argv[:] = [name, *rest]
    if kind == "module":
        _run_module(name)
    else:
        _run_file(name)


def _answer(look: int, dump: int, fifo: str) -> None:
    """Set up the answers. What asks has made the pipe; nobody else finds it once it is open."""
    try:
        stacks = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # whoever asks has none: it will not ask
        return
    with contextlib.suppress(OSError):
        os.unlink(fifo)
        os.rmdir(os.path.dirname(fifo))

    folder = os.path.dirname(fifo)

    def looked_at(signum: int, frame: FrameType | None) -> None:
        lines = [f'  File "{file}", line {line} in {name}\n' for file, line, name in _stack(frame)]
        state = "blocked\n" if _blocks_a_loop() else ""
        with contextlib.suppress(OSError):
            os.write(stacks, f"{state}stack\n{''.join(lines[-_MOST:])}end\n".encode(errors="replace"))
        _let_in(folder)

    signal.signal(look, looked_at)
    faulthandler.register(dump, stacks, all_threads=False)


def _let_in(folder: str) -> None:
    """Open the door to whoever wants to see the tasks: they have made our folder again, with a note in it."""
    note = os.path.join(folder, "door")
    try:
        os.unlink(note)
        is_ours = os.lstat(folder).st_uid == os.getuid()
        os.rmdir(folder)
    except OSError:  # as nearly always: nobody does
        return
    if is_ours:
        import _thread

        _thread.start_new_thread(_open_door, (_loop_here(),))


def _open_door(loop: Any) -> None:
    with contextlib.suppress(Exception):  # without calloff on its path it stays as it is
        from importlib import import_module

        import_module("calloff.control._attached").open_door("", loop)


def _run_file(name: str) -> None:
    """Run a file, or a directory or archive with a ``__main__.py``, as ``python NAME`` does."""
    if os.path.isdir(name) or not name.endswith((".py", ".pyw")):
        import runpy

        importer = sys.path_importer_cache.get(name)
        if os.path.isdir(name) or importer is not None or _is_archive(name):
            sys.path.insert(0, name)
            _hidden(runpy._run_module_as_main, "__main__", False)  # type: ignore[attr-defined]  # what python itself calls
            return
    path = os.path.abspath(name)
    if not sys.flags.safe_path:
        sys.path.insert(0, os.path.dirname(os.path.realpath(name)))
    from importlib.machinery import SourceFileLoader

    loader = SourceFileLoader("__main__", path)
    main = ModuleType("__main__")
    main.__file__ = path
    main.__loader__ = loader
    vars(main).update(__builtins__=__builtins__, __cached__=None)
    sys.modules["__main__"] = main
    _hidden(_execute, loader, path, main)


def _is_archive(name: str) -> bool:
    import zipfile

    return zipfile.is_zipfile(name)


def _execute(loader: Any, path: str, main: ModuleType) -> None:
    exec(compile(loader.get_data(path), path, "exec", dont_inherit=True), vars(main))


def _run_module(name: str) -> None:
    """Run a module or package as ``python -m NAME`` does."""
    import runpy

    if not sys.flags.safe_path:
        sys.path.insert(0, os.getcwd())
    _hidden(runpy._run_module_as_main, name)  # type: ignore[attr-defined]  # what python itself calls


def _hidden(run: Any, *args: Any) -> None:
    """Run the program; what it raises is shown without the frames of this file."""
    try:
        run(*args)
    except SystemExit:
        raise
    except BaseException as error:
        step = error.__traceback__
        while step is not None and step.tb_frame.f_code.co_filename in _HIDDEN:
            step = step.tb_next
        inner = step
        while inner is not None and inner.tb_next is not None:
            if inner.tb_next.tb_frame.f_code.co_filename == _FILE:  # it was interrupted just when we were looking
                inner.tb_next = None
            inner = inner.tb_next
        show = sys.excepthook
        sys.excepthook = lambda kind, value, _: show(kind, value.with_traceback(step), step)
        raise


_HIDDEN = (_FILE, "<frozen runpy>")


# --- where it is


def _stack(frame: FrameType | None) -> list[tuple[str, int, str]]:
    """What the main thread does now, outermost first."""
    found: list[tuple[str, int, str]] = []
    while frame is not None and frame.f_code.co_filename != _FILE:
        found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    found.reverse()
    try:
        return _awaits() or found
    except Exception:  # an event loop of a kind that we don't know
        return found


def _loop_here() -> Any:
    """The event loop of asyncio that runs in this thread, if one does."""
    events: Any = sys.modules.get("asyncio.events")
    return events and "asyncio.tasks" in sys.modules and events._get_running_loop()


def _blocks_a_loop() -> bool:
    """Whether the step of a task goes on now."""
    loop = _loop_here()
    return bool(loop) and sys.modules["asyncio.tasks"].current_task(loop) is not None


def _awaits() -> list[tuple[str, int, str]]:
    """Where the task that the program runs is suspended, while its event loop waits."""
    loop = _loop_here()
    if not loop or _blocks_a_loop():
        return []
    task: Any = min(sys.modules["asyncio.tasks"].all_tasks(loop), key=_age)
    walker: Any = sys.modules.get("calloff._places.task.stack")
    if walker is not None:  # a program that uses calloff has what knows more
        frames: Any = sys.modules["calloff._words.frame"]
        return [each[:3] for each in frames.located(walker.stack_of(task.get_coro(), ask=False))]
    found: list[tuple[str, int, str]] = []
    while task is not None and len(found) < _MOST:
        step, frame = task.get_coro(), None
        while step is not None and len(found) < _MOST:
            for kind in ("cr", "gi", "ag"):
                if (inner := getattr(step, f"{kind}_frame", None)) is not None:
                    frame = inner
                    found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
            awaited = (getattr(step, name, None) for name in ("cr_await", "gi_yieldfrom", "ag_await", "coro"))
            step = next((each for each in awaited if each is not None), None)
        task = _waits_for(task, frame)
    return found


def _waits_for(task: Any, frame: FrameType | None) -> Any:
    """The task that another one waits for: awaited, the first pending of a `gather`, or the oldest of a task group."""
    waiter = getattr(task, "_fut_waiter", None)
    if hasattr(waiter, "get_coro"):
        return waiter
    members = getattr(waiter, "_children", None)
    if members is None and frame is not None and frame.f_code.co_name in ("__aexit__", "_aexit"):
        members = getattr(frame.f_locals.get("self"), "_tasks", None)
    pending = [each for each in members or () if hasattr(each, "get_coro") and not each.done()]
    return min(pending, key=_age) if pending else None


def _age(task: Any) -> tuple[bool, int, str]:
    """Sorts the task first with which the loop ends, and then the oldest."""
    callbacks = getattr(task, "_callbacks", None) or ()
    ends = any(getattr(callback, "__name__", "") == "_run_until_complete_cb" for callback, *_ in callbacks)
    name = task.get_name()
    return not ends, len(name), name


if __name__ == "__main__":
    main()
