"""What ``calloff run`` is to run: a function, a script or module as a whole, or a program; found before anything starts."""

import importlib.machinery
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

from ._refusal import Refused
from ._target import OTHER_NAME, bind, current_directory, load, read_arguments

__all__ = ["PLACES", "Form", "is_script", "make_work"]

PLACES = ("task", "thread", "process")
Form = Literal["function", "file", "module", "program"]


def is_script(word: str) -> bool:
    """Whether the word names a program of Python as a whole: a file, or a directory or archive that can be run."""
    if word.endswith((".py", ".pyw", ".pyz")):
        return True
    return os.path.isfile(os.path.join(word, "__main__.py"))


def make_work(form: Form, words: Sequence[str], place: str | None, *, foreground: bool = False) -> Callable[[], Any]:
    """Find what is to run; what is returned makes the work, once there is an event loop.

    Raises:
        Refused: it can't be found, can't be read, or does not fit the place or its arguments.
    """
    if form == "function":
        return _function_work(words[0], words[1:], place)
    if form == "program":
        streams = {"stdin": "inherit", "stdout": "inherit", "stderr": "inherit"}
        return partial(_place("command"), *words, **streams, foreground=foreground)
    from .._places.command.script import script

    _see_script(words[0]) if form == "file" else _see_module(words[0])
    return partial(script, form, words[0], words[1:])


def _function_work(target: str, words: Sequence[str], place: str | None) -> Callable[[], Any]:
    sys.argv = [target, *words]
    function = load(target)
    positional, named = read_arguments(words)
    bind(function, positional, named)
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
    place = place or ("task" if is_async else None)
    if place is None:
        raise Refused(f"{target} is a blocking function: say where it is to run, --in thread or --in process")
    if place == "task":
        if not is_async:
            raise Refused(
                f"{target} is a blocking function: it can't run in a task, choose --in thread or --in process"
            )
        return partial(function, *positional, **named)
    if place == "thread" and is_async:
        raise Refused(f"{target} is an async function: it runs in a task, or with --in process in a process of its own")
    if place == "process" and (getattr(function, "__module__", None) or "").startswith(OTHER_NAME):
        raise Refused(f"{target}: Python has a module of that name; rename the file to run it in a process")
    return partial(_place(place), function, *positional, **named)


def _place(name: str) -> Callable[..., Any]:
    import calloff

    try:
        found: Callable[..., Any] = getattr(calloff, name)
    except AttributeError:
        raise Refused(f"this version of calloff can't run anything in the place {name!r} yet", 125) from None
    return found


def _see_script(file: str) -> None:
    """Refuse a file that Python could not run.

    Raises:
        Refused: status 127 when it is not there, 126 when it can't be read.
    """
    if os.path.isdir(file):
        if not os.path.isfile(os.path.join(file, "__main__.py")):
            raise Refused(f"{file!r} is a directory without a __main__.py, not a script", 126)
        return
    try:
        open(file, "rb").close()
    except FileNotFoundError:
        raise Refused(f"there is no file {file!r}{_close_to(file)}", 127) from None
    except OSError as error:
        raise Refused(f"{file!r} can't be read: {error.strerror}", 126) from None


def _close_to(file: str) -> str:
    from difflib import get_close_matches

    folder, name = os.path.split(file)
    try:
        there = {entry.removesuffix(".py"): entry for entry in os.listdir(folder or ".") if entry.endswith(".py")}
    except OSError:
        return ""
    close = get_close_matches(name.removesuffix(".py"), there, 1)
    return f"; did you mean {os.path.join(folder, there[close[0]])!r}?" if close else ""


def _see_module(name: str) -> None:
    """Refuse a module that is surely not there; whether a part of a package is, only the package itself can tell.

    Raises:
        Refused: status 2 for what is no name of a module, 127 when it is not there.
    """
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        hint = f"; a file runs without -m: calloff run {name}" if name.endswith(".py") or os.sep in name else ""
        raise Refused(f"-m takes the name of a module, and {name!r} is none{hint}")
    first = name.partition(".")[0]
    if first in sys.builtin_module_names or first in sys.stdlib_module_names:
        return
    if importlib.machinery.PathFinder.find_spec(first, [current_directory(), *sys.path]) is None:
        raise Refused(f"there is no module {first!r} (the current directory is on the path)", 127)
