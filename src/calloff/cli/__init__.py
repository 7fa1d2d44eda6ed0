"""Floor 7: the command line.

`main` looks at the first word only and loads the module of that verb, so that a light verb (`timeout`) pays neither for
argparse nor for an event loop. A verb is a module here with ``main(argv) -> int``; what it returns is the exit status, and
what it refuses (`Refused`) is said here in one line.
"""

import errno
import os
import sys

__all__ = ["VERBS", "main"]

#: verb: (where its `main` lives, what it does)
VERBS = {
    "run": (".run", "run a script, a function or a program with limits, and tell how it ended"),
    "map": (".map", "run a function or a program over many items, each with its limits; go on where it stopped"),
    "timeout": (".timeout", "run a program with a time limit, like timeout(1); nothing of it survives"),
    "asgi": (".asgi", "serve a web application; each request is an operation, and its end is bounded"),
    "ps": (".ps", "list what runs, in all of your processes, as a tree"),
    "attach": (".attach", "make a program visible that was started without calloff (Python 3.14)"),
    "top": (".top", "watch it all live on one screen, and call it off there"),
    "show": (".show", "tell everything about one operation, its stack included"),
    "watch": (".watch", "look at one operation again and again"),
    "cancel": (".cancel", "call operations off, wait, and tell how each ended"),
    "serve": (".serve", "show what runs on a page in the browser, and call it off there"),
    "sweep": (".sweep", "cancel a function at every await and tell what breaks"),
    "completion": (".completion", "print what completes these words in bash, zsh or fish"),
}


#: those that run a program as it is, with the streams that it would have without us
_PROGRAMS = frozenset({"run", "timeout", "asgi"})
#: those of which nothing is left where standard output is closed
_TOLD = frozenset({"ps", "show", "watch", "completion"})


def main(argv: "list[str] | None" = None) -> int:
    """The console script: runs the verb that the first argument names and returns the exit status."""
    is_program = argv is None
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["help"] and len(argv) > 1:
        argv = [argv[1], "--help"]
    if argv[:1] and argv[0] in _PROGRAMS:
        status = _main(argv)
        if is_program and argv[0] == "timeout":
            if sys.stderr is not None:
                sys.stderr.flush()
            os._exit(status)  # to take the interpreter down as well would be a tenth of what this verb costs
        return status
    from ._told import Told

    with Told():
        return _main(argv)


def _main(argv: "list[str]") -> int:
    who = f"calloff {argv[0]}" if argv and argv[0] in VERBS else "calloff"
    try:
        status = _run(argv)
        if sys.stdout is not None:  # it may have been closed before we began
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output is gone
        _drop_stdout()
        return 125
    except Exception as error:
        from ._refusal import Refused

        if isinstance(error, Refused):
            from .._words.text import printable  # what was typed may hold anything

            lines = f"{who}: {error}".split("\n")
            sys.stderr.write("\n".join([printable(line) for line in lines]) + "\n")  # `map` is a module here
            return error.status
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) and not error.filename:
            _drop_stdout()
            sys.stderr.write(f"{who}: the output could not be written: {error.strerror}\n")
            return 125
        import traceback

        traceback.print_exc()
        sys.stderr.write(f"{who}: calloff itself failed: {error!r}\n")
        return 125
    return status


def _run(argv: "list[str]") -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        return _say(_help())
    verb, rest = argv[0], argv[1:]
    if verb in ("-V", "--version"):
        from importlib.metadata import version

        return _say(f"calloff {version('calloff')}")
    if verb not in VERBS:
        return _no_verb(verb)
    if sys.stdout is None and verb in _TOLD:
        sys.stderr.write(f"calloff {verb}: standard output is closed\n")
        return 125
    home = __import__("importlib").import_module(VERBS[verb][0], __name__)
    status: int = home.main(rest)
    return status


def _no_verb(word: str) -> int:
    from difflib import get_close_matches

    is_option = word.startswith("-")
    those = ("--help", "--version") if is_option else VERBS
    meant = "".join(f" (did you mean {close!r}?)" for close in get_close_matches(word, those, 1))
    what = "option" if is_option else "verb"
    sys.stderr.write(f"calloff: there is no {what} {word!r}{meant}: choose from {', '.join(those)}\n")
    return 2


def _drop_stdout() -> None:
    """What is still buffered can't be written: keep the interpreter from trying again at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _help() -> str:
    from ._help import environment

    listed = "\n".join(f"  {verb:<10} {what}" for verb, (_, what) in VERBS.items())
    return f"""\
Usage: calloff VERB [OPTION...] ...

Start work, look at it while it runs, and really stop it.

{listed}

  calloff run --timeout 10s script.py       a script with a limit; tells the line where it hung
  calloff run --timeout 5s jobs.py:load 7   a function, with an argument
  calloff ps                                what runs, and at which line
  calloff cancel 4312                       call it off, and wait until it has ended

{environment()}

calloff VERB --help, or calloff help VERB, tells more about one of them; calloff --version shows the version."""


def _say(text: str) -> int:
    if sys.stdout is None:
        sys.stderr.write("calloff: standard output is closed\n")
        return 125
    sys.stdout.write(text + "\n")
    return 0
