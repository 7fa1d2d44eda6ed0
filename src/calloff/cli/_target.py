"""TARGET and its arguments: ``package.module:function`` or ``path/to/file.py:function``, and words from the shell.

A file is loaded as ``python file.py`` would load it (its folder comes first on the path), but under its own name, so
that other processes can import it again, and without running what stands below ``if __name__ == "__main__"``.
"""

import importlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any

from ._refusal import Refused
from ._traceback import traceback_text

__all__ = ["OTHER_NAME", "bind", "current_directory", "load", "read_arguments"]

#: before the name of a file that is called like a module of Python
OTHER_NAME = "_target_"
FORMS = "package.module:function or path/to/file.py:function"


def load(target: str) -> Callable[..., Any]:
    """The function that a target names.

    Raises:
        Refused: status 2 for a target that names no function, 127 when it or what it imports is not there, 126 when
            its module can't be imported for another reason.
    """
    home, colon, path = target.rpartition(":")
    if not colon or not home or not path:
        raise Refused(f"TARGET must be {FORMS}, not {target!r}; {_instead(target)}")
    is_file = home.endswith(".py") or os.sep in home
    here = current_directory()
    if here not in sys.path:
        sys.path.insert(0, here)
    module = _load_file(home) if is_file else _load_module(home)
    return _find(module, home, path)


def current_directory() -> str:
    """Where we are, which is on the path of the target.

    Raises:
        Refused: it was removed.
    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise Refused("the current directory is not there any more", 127) from None


def _instead(word: str) -> str:
    """What else the word may be for, as a hint."""
    from shutil import which

    if word and os.path.isfile(f"{word}.py"):
        return f"the whole script is {word}.py, a function in it is {word}:NAME"
    if word and which(word):
        return f"the program of that name runs behind --, as in: calloff run -- {word}"
    return "a whole script is SCRIPT.py or -m MODULE, a program stands behind --"


def _load_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise Refused(f"TARGET must be {FORMS}: {name!r} is not the name of a module")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise Refused(f"there is no module {error.name!r} (the current directory is on the path)", 127) from None
        raise _broken(name, error) from None
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from None


def _load_file(file: str) -> ModuleType:
    if os.path.isdir(file):
        raise Refused(f"{file!r} is a directory, not a Python file", 126)
    if not os.path.exists(file):
        raise Refused(f"there is no file {file!r}", 127)
    path = os.path.abspath(file)
    try:
        open(path, "rb").close()
    except OSError as error:
        raise Refused(f"{file!r} can't be read: {error.strerror}", 126) from None
    sys.path.insert(0, os.path.dirname(path))
    name = os.path.splitext(os.path.basename(path))[0]
    if name in sys.modules or name in sys.stdlib_module_names:
        name = OTHER_NAME + name  # by this name no other process can import it
    spec = importlib.util.spec_from_loader(name, SourceFileLoader(name, path), origin=path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        SourceFileLoader(name, path).exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _broken(file, error) from None
    return module


def _broken(home: str, error: BaseException) -> Refused:
    """The target's module raised while it was imported: its own traceback is the evidence."""
    sys.stderr.write(traceback_text(error))
    status = 127 if isinstance(error, ImportError) else 126
    return Refused(f"{home!r} could not be imported: {type(error).__name__}: {error}", status)


def _find(module: ModuleType, home: str, path: str) -> Callable[..., Any]:
    found: Any = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Refused(f"{home!r} has no function {path!r}{_others(module, path)}", 127) from None
    if not callable(found):
        raise Refused(f"{path!r} in {home!r} is not a function: it is {_shown(found)}")
    function: Callable[..., Any] = found
    if inspect.isasyncgenfunction(found) or inspect.isgeneratorfunction(found):
        raise Refused(f"{path!r} in {home!r} is a generator: it yields values and can't be run as one piece of work")
    return function


def _others(module: ModuleType, path: str) -> str:
    names = [n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
    from difflib import get_close_matches

    close = get_close_matches(path, names, 1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; it has {', '.join(names[:8])}" if names else ""


def read_arguments(words: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments: JSON where a word parses as JSON, text elsewhere."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (equals and name.isidentifier()):
            positional.append(_value(word))
        elif name in named:
            raise Refused(f"the argument {name!r} is given twice")
        else:
            named[name] = _value(text)
    return positional, named


def _value(word: str) -> Any:
    try:
        return json.loads(word, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return word


def _no_constant(name: str) -> None:
    """``NaN`` and ``Infinity`` are no JSON."""
    raise ValueError(name)


def bind(function: Callable[..., Any], positional: Sequence[Any], named: dict[str, Any]) -> None:
    """See that the arguments fit the function.

    Raises:
        Refused: they don't.
    """
    name = getattr(function, "__qualname__", repr(function))
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a function of C that doesn't say
        return
    try:
        signature.bind(*positional, **named)
    except TypeError as error:
        raise Refused(f"wrong arguments for {name}{signature}: {error}") from None


def _shown(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:59] + '…'}"
