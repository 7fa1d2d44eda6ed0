"""``calloff run``: a function, a script, or a program, with limits; how it ended is told by the exit status and on stderr.

Everything that can be wrong with the command line is found before anything is started. The result goes to stdout, every
word of ours to stderr.
"""

import argparse
import asyncio
import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .._operation.operation import Operation
from .._words.errors import CalloffError, CommandFailed
from .._words.outcome import Abandoned, Completed, Failed, Outcome, verdict
from .._words.ref import Ref
from ._live import LiveLine, describe, looks_live
from ._options import Parser, duration, meant_by, parser, time_limit
from ._refusal import Refused
from ._terminal import Terminal
from ._traceback import traceback_text
from ._verdict import as_json, exit_status, line_of, plain_value
from ._work import PLACES, Form, is_script, make_work

__all__ = ["main"]

_logger = logging.getLogger("calloff")

USAGE = """\
calloff run [OPTION...] TARGET [ARG...] [NAME=VALUE...]
       calloff run [OPTION...] SCRIPT.py [ARG...] | -m MODULE [ARG...]
       calloff run [OPTION...] -- PROGRAM [ARG...]"""

EPILOG = """\
TARGET is package.module:function or path/to/file.py:function. An argument is read as JSON where it parses as JSON and
as text elsewhere. The result is printed as JSON, or as Python shows it where JSON can't hold it; None prints nothing.
Everything after TARGET belongs to the function, so options go before it. Importing TARGET is not limited in time.

SCRIPT.py, or -m MODULE, runs as python runs it, in an interpreter of its own: nothing in it needs to know of calloff. It is
asked to stop with SIGINT, and everything it has started ends with it.

A PROGRAM runs in a process group of its own, without the terminal. With --foreground it stays in that of calloff: it can
read from the terminal, Ctrl-C reaches it directly, and only it, not what it has started, is asked to stop.

Durations: 3, 3s, 500ms, 1m30s, 2h. A stop is asked for politely; after the grace, force is used; what still runs one
second later is given up. A first SIGINT or SIGTERM asks for the stop, a second one forces it.

Exit status:
    0  completed, also when it had been asked to stop (a program: its own status)
    1  the function raised (traceback on stderr), or cancelled itself
    2  the command line was wrong
  124  stopped by its timeout or stall
  125  calloff itself failed
  126  TARGET can't be imported, or the program can't be executed
  127  TARGET, something that it imports, or the program was not found
  130  stopped by SIGINT
  143  stopped by SIGTERM
  137  needed force after the grace or could not be stopped, whatever had asked for the stop"""


def main(argv: list[str]) -> int:
    """The verb: returns the exit status, or ends the process at once where something that is stuck would hold it up."""
    return _Run(*_read(argv)).run()


# --- the command line


def _parser() -> Parser:
    about = "Run a function, a script or a program with limits, look at it while it runs, and tell how it ended."
    reader = parser("run", USAGE, about, EPILOG)
    add = reader.add_argument
    add("-t", "--timeout", metavar="D", help="stop it after this long")
    add("-g", "--grace", metavar="D", default="5", help="from asking to force (5s)")
    add("-s", "--stall", metavar="D", help="stop it after this long without a report of progress")
    add("-e", "--every", metavar="D", help="tell that often how far it is and where; on a terminal in one live line")
    add("--in", metavar="PLACE", dest="place", help="where to run a function: task, thread or process")
    add("-f", "--foreground", action="store_true", help="let PROGRAM have the terminal, to ask for a password at")
    add("--json", action="store_true", help="tell the ending as one JSON document on stdout")
    return reader


_WITH_VALUE = ("--timeout", "-t", "--grace", "-g", "--stall", "-s", "--every", "-e", "--in")


def _read(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str], Form]:
    """The options, the words after them, and of what these are."""
    end = 0
    while end < len(argv) and argv[end].startswith("-") and argv[end] not in ("-", "--", "-m"):
        end += 2 if argv[end] in _WITH_VALUE else 1
    mark = argv[end] if end < len(argv) and argv[end] in ("--", "-m") else ""
    options = _parser().parse_args(argv[:end])
    words = list(argv[end + bool(mark) :])
    for name in ("timeout", "grace", "stall", "every"):
        if getattr(options, name) is not None:
            read = time_limit if name in ("timeout", "stall") else duration
            setattr(options, name, read(name, getattr(options, name)))
    if options.every == 0:
        raise Refused("--every must be more than 0")
    if not words:
        what = {"--": "PROGRAM is missing after --", "-m": "MODULE is missing after -m"}.get(mark, "TARGET is missing")
        raise Refused(f"{what}; see calloff run --help")
    form: Form = "program" if mark == "--" else "module" if mark else "file" if is_script(words[0]) else "function"
    if options.foreground and form != "program":
        raise Refused("--foreground is for a PROGRAM behind --; a script on a terminal has it anyway")
    strayed = [
        word for word in words[1:] if word.startswith("--") and word.partition("=")[0] in (*_WITH_VALUE, "--json")
    ]
    if strayed and form == "function":
        raise Refused(
            f"options go before TARGET: {strayed[0]} (as an argument it is written in double quotes, as JSON)"
        )
    if options.place is not None and options.place not in PLACES:
        raise Refused(
            f"--in must be one of {', '.join(PLACES)}, not {options.place!r}{meant_by(options.place, PLACES)}"
        )
    if options.place is not None and form != "function":
        what = {"file": f"{words[0]} runs", "module": f"-m {words[0]} runs"}.get(form, "what follows -- runs")
        raise Refused(f"--in {options.place} is for functions; {what} as a program")
    return options, words, form


# --- the run


class _Run:
    """One run, from the command line to the exit status."""

    def __init__(self, options: argparse.Namespace, words: Sequence[str], form: Form) -> None:
        self._options = options
        self._operation: Operation[Any] | None = None
        self._place = "task"
        self._showing: asyncio.Task[None] | None = None
        self._is_program = form != "function"
        # a program of its own prints when it likes, and would print into a live line
        is_live = options.every is not None and not self._is_program and looks_live(sys.stderr)
        self._live = LiveLine(sys.stderr) if is_live else None
        self._make = make_work(form, words, options.place, foreground=options.foreground)

    def run(self) -> int:
        """Run to the end, tell how it was, and return the exit status."""
        if self._is_program:
            terminal = Terminal()
            ended = False
            try:
                outcome, signum = self._outcome()
                ended = isinstance(outcome, Completed) and outcome.report is None  # then it has set what it has set
            finally:
                terminal.close(restore=not ended)
        elif self._live is None:
            outcome, signum = self._outcome()
        else:
            with self._live.beside_prints():
                outcome, signum = self._outcome()
        status = exit_status(outcome, signum)
        try:
            self._tell(outcome, status)
            if sys.stdout is not None:  # it may have been closed before we began
                sys.stdout.flush()
        except (OSError, ValueError) as error:
            print(f"calloff run: the result could not be written: {error}", file=sys.stderr)
            _drop_stdout()
            status = status or 125
        disturbed = outcome.report is not None or signum is not None
        if isinstance(outcome, Abandoned) or (disturbed and _lingering()):
            _leave(status)
        return status

    def _outcome(self) -> tuple[Outcome[Any], int | None]:
        from .._api.run import run_outcome

        options = self._options
        log = _Log(self._told)
        _logger.addHandler(log)
        try:
            return run_outcome(
                self._make(),
                timeout=options.timeout,
                stall=options.stall,
                grace=options.grace,
                expose=None,
                on_start=self._started,
            )
        except OSError as error:
            if not self._is_program or self._operation is not None:
                raise
            status = 127 if isinstance(error, FileNotFoundError) else 126
            raise Refused(f"{error.strerror}: {error.filename!r}", status) from None
        except CalloffError as error:
            raise Refused(str(error), 125) from None
        finally:
            _logger.removeHandler(log)

    def _told(self) -> Ref | None:
        """The operation whose ending the verdict tells."""
        return self._operation.ref if self._operation else None

    def _started(self, operation: Operation[Any]) -> None:
        """Called on the loop as soon as there is a handle."""
        self._operation = operation
        self._place = operation.place
        if self._options.every is not None:
            self._showing = asyncio.get_running_loop().create_task(self._show(operation))

    async def _show(self, operation: Operation[Any]) -> None:
        async for tick in operation.watch(self._options.every):
            limit = self._options.timeout
            if self._live is not None:
                self._live.draw(describe(tick, limit, bar=True))
            else:
                _say(describe(tick, limit))
        if self._live is not None:
            self._live.erase()

    def _tell(self, outcome: Outcome[Any], status: int) -> None:
        operation = self._operation
        ref, seconds = (operation.ref, operation.elapsed) if operation else (Ref("0", "run"), 0.0)
        if isinstance(outcome, Failed):
            _explain(outcome.error)
        for line in verdict(outcome, ref):
            _say(line)
        if self._options.json:
            if self._is_program and sys.stdout is not None and not sys.stdout.isatty():
                print()  # what the program wrote last there need not have ended its line
            print(line_of(as_json(outcome, ref, self._place, seconds, status), True))
        elif isinstance(outcome, Completed) and outcome.value is not None and not self._is_program:
            print(line_of(*plain_value(outcome.value)))


class _Log(logging.Handler):
    """What the library logs, as lines of ours, unless the program has a log of its own or the verdict says the same."""

    def __init__(self, told: Callable[[], Ref | None]) -> None:
        super().__init__(logging.WARNING)
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        about = record.args[0] if isinstance(record.args, tuple) and record.args else None
        if not logging.getLogger().handlers and (about is None or about != self._told()):
            _say(self.format(record))


def _explain(error: BaseException) -> None:
    """Why it failed, where that is for people to know."""
    if isinstance(error, SystemExit):
        if error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
    elif type(error) is CalloffError:  # ours, and no line of the function's
        _say(str(error))
    elif not isinstance(error, CommandFailed):  # the program has told itself
        sys.stderr.write(traceback_text(error))


def _lingering() -> list[threading.Thread]:
    """The threads that the interpreter would wait for at its exit."""
    return [t for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]


def _leave(status: int) -> NoReturn:
    """End the process now, whatever still runs in it; `atexit` functions get one second."""

    def cut_short() -> None:
        time.sleep(1)
        os._exit(status)

    for thread in _lingering():
        _say(f"the process ends without waiting for thread {thread.name!r}")
    threading.Thread(target=cut_short, daemon=True).start()
    try:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(status)


def _drop_stdout() -> None:
    """What is still buffered can't be written: keep the interpreter from trying again at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass


def _say(line: str) -> None:
    print(f"calloff: {line}", file=sys.stderr)
