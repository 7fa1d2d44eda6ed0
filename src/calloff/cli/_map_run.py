"""One run of ``calloff map``: endings as they come, how far it is, and what the last line says."""

import argparse
import asyncio
import errno
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import calloff

from .._api.run import run_outcome
from .._map.bar import LINES, LIVE, width_of
from .._map.drawn import drawn
from .._map.flight import Counts, Flight, error_of
from .._map.journal import Output, line_of, output_of
from .._map.results import Map
from .._words.durations_text import spoken
from .._words.errors import CalloffError, CommandFailed, StopForced
from .._words.outcome import Abandoned, Cancelled, Completed, Failed, Outcome
from .._words.reason import Kind
from ._live import LiveLine, looks_live
from ._map_input import as_they_come
from ._put import put
from ._refusal import Refused
from ._text import clean
from .map import parted, pauses, places

__all__ = ["run"]

#: characters of the error of an item, and of what its command has printed, that are told
_LONG, _SHORT = 500, 200
#: how the call of an item looks, given its number from 1
Shown = Callable[[Any, int], str]


def run(options: argparse.Namespace, work: Any, place: str, shown: Shown, argv: Sequence[str]) -> int:
    """Run it and return the exit status."""
    return _Run(options, work, place, shown, argv).run()


class _Rate:
    """Lets items begin at most so often."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = 0.0

    def __call__(self, item: Any) -> "_Rate":
        return self

    async def __aenter__(self) -> None:
        now = time.monotonic()
        begin = max(now, self._next)
        self._next = begin + self._seconds
        await asyncio.sleep(begin - now)

    async def __aexit__(self, *_: object) -> None:
        pass


class _Run:
    def __init__(self, options: argparse.Namespace, work: Any, place: str, shown: Shown, argv: Sequence[str]) -> None:
        self._options = options
        self._argv = argv
        self._shown = shown
        self._place = place
        self._output = None if options.output in (None, "-") else options.output
        self._began = time.monotonic()
        self._results: Map[Any, Any] | None = None
        self._joblog = self._open_joblog(options.joblog)
        is_live = looks_live(sys.stderr)
        wants = is_live if options.progress is None else options.progress
        self._live = LiveLine(sys.stderr) if wants and is_live else None
        self._lines = wants and not is_live
        #: whether what a command printed has left the last line on stderr without an end
        self._is_mid_line = False
        if place == "process":
            calloff.process.configure(size=options.jobs)
        elif place == "thread":
            calloff.thread.configure(size=max(256, options.jobs))
        resume: Any = {None: False, "missing": True, "failed": "failed"}[options.resume]
        over: Any = calloff.map  # which of its forms, only the command line tells
        try:
            self._map: Map[Any, Any] = self._mapped(over, options, work, resume)
        except (FileNotFoundError, PermissionError) as error:  # the program
            raise Refused(_told(error), 127 if isinstance(error, FileNotFoundError) else 126) from None
        self._map._total = options.total

    def _mapped(self, over: Any, options: argparse.Namespace, work: Any, resume: Any) -> Any:
        place = self._place
        return over(
            work,
            as_they_come(options.input, options.items),
            place=places(place),
            jobs=options.jobs,
            timeout=options.timeout,
            stall=options.stall,
            grace=options.grace,
            ordered=options.ordered,
            batch=options.batch or "auto",
            within=None if options.rate is None else _Rate(options.rate),
            retry=pauses(options.retry, options.backoff) if options.retry else None,
            max_failures=options.max_failures,
            output=self._output,
            resume=resume if self._output else False,
            memory=options.memory,
        )

    def run(self) -> int:
        """Run to the end, and tell it."""
        broken: BaseException | None = None
        signum = None
        try:
            if self._live is None:
                outcome, signum = self._outcome()
            else:
                with self._live.beside_prints():
                    outcome, signum = self._outcome()
        except (FileExistsError, ValueError) as error:
            raise Refused(str(error)) from None
        if isinstance(outcome, Failed):
            broken = outcome.error
            if self._results is None and isinstance(broken, (OSError, ValueError, CalloffError)):
                raise Refused(self._unwritable(broken) if isinstance(broken, OSError) else str(broken))
            if not isinstance(broken, (OSError, CalloffError)):
                raise broken
        return self._tell(outcome, broken, signum)

    def _outcome(self) -> tuple[Outcome[Any], int | None]:
        return run_outcome(self._main, name="calloff map", grace=self._options.grace + 3, expose=None)

    async def _main(self) -> None:
        try:
            await self._each()
        except (asyncio.CancelledError, StopForced):  # what had ended, or ended meanwhile, is told all the same
            for flight, outcome in self._map.left():
                await self._one(flight, outcome)
            raise

    async def _each(self) -> None:
        self._map.in_full = True
        async with self._map as results:
            self._results = results
            telling = asyncio.create_task(self._look()) if self._live or self._lines else None
            try:
                async for flight, outcome in results.flights():
                    await self._one(flight, outcome)
            finally:
                if telling is not None:
                    telling.cancel()
                if self._live is not None:
                    self._live.erase()

    # --- one ending

    async def _one(self, flight: Flight, outcome: Outcome[Any]) -> None:
        output = output_of(flight, outcome)
        if self._joblog is not None:
            self._log(flight, outcome, output)
        if self._output is None and self._place != "command":
            await self._put(sys.stdout, line_of(flight, outcome))
        elif self._output is None and output is not None:
            await self._put(sys.stdout, output.stdout)
            with suppress(OSError, AttributeError):  # it is closed, full, or nobody reads it: that changes nothing
                await self._put(sys.stderr, output.stderr)
        if not isinstance(outcome, Completed) and not self._was_called_off(outcome):
            self._say(f"item {flight.number + 1}: {_why(outcome)}")

    async def _put(self, stream: Any, data: bytes) -> None:
        """Write to stdout or stderr, as it is."""
        if not data:
            return
        if stream is None:
            raise OSError(errno.EBADF, "standard output is closed")
        if self._live is not None:
            self._live.erase()
        try:
            await put(stream.buffer, data)
        except BrokenPipeError:
            raise OSError(errno.EPIPE, "nobody reads the standard output any more") from None
        if stream is sys.stderr or (self._live is not None and stream.isatty()):
            self._is_mid_line = not data.endswith(b"\n")
            if self._live is not None:
                self._live.printed(data[-1:].decode(errors="replace"))

    def _was_called_off(self, outcome: Outcome[Any]) -> bool:
        """Whether it is one of those that were called off with all the rest, of which the last lines tell."""
        assert self._results is not None
        is_stop = isinstance(outcome, (Cancelled, Abandoned)) and outcome.reason.kind is Kind.PARENT
        return is_stop and self._results._window is not None and self._results._window.closed

    def _open_joblog(self, path: str | None) -> Any:
        if path is None:
            return None
        try:
            file = open(path, "a", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115  # closed with the process
        except OSError as error:
            raise Refused(f"--joblog: {path!r} can't be written: {error.strerror}") from None
        if not file.tell():
            file.write("Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n")
        return file

    def _log(self, flight: Flight, outcome: Outcome[Any], output: Output | None) -> None:
        status = signal = 0
        received = 0 if output is None else len(output.stdout)
        if isinstance(outcome, Failed):
            status = 1
            if isinstance(outcome.error, CommandFailed):
                status = outcome.error.status
                if status < 0:
                    status, signal = 0, -status
        elif not isinstance(outcome, Completed):
            status = -1  # as GNU parallel has it for what was ended by --timeout
        try:
            command = self._shown(flight.item, flight.number + 1)
        except ValueError:  # the item lacks a field, and nothing ran
            command = repr(flight.item)
        at = time.time() - (time.monotonic() - flight.since)
        fields = (flight.number + 1, ":", f"{at:.3f}", f"{flight.seconds:10.3f}", 0, received, status, signal, command)
        self._joblog.write("\t".join(map(str, fields)) + "\n")
        self._joblog.flush()

    # --- how far it is

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LIVE if self._live is not None else LINES)
            assert self._results is not None
            progress = self._results.progress
            if self._live is not None:
                self._live.draw_over(drawn("map", progress, width_of(self._live.stream)))
            else:
                self._say(progress.text())

    def _say(self, text: str) -> None:
        if self._live is not None:
            self._live.erase()
        begin = "\n" if self._is_mid_line else ""
        self._is_mid_line = False
        print(f"{begin}calloff map: {text}", file=sys.stderr, flush=True)

    # --- the end

    def _tell(self, outcome: Outcome[Any], broken: BaseException | None, signum: int | None) -> int:
        counts = Counts() if self._results is None else self._results.counts
        was_stopped = isinstance(outcome, (Cancelled, Abandoned))
        if broken is not None:
            self._say(_told(broken))
        in_words = f"{counts.completed} completed, {counts.failed} did not"
        if counts.skipped:
            in_words += f", {counts.skipped} were done before"
        if counts.failed_before:
            in_words += f" ({counts.failed_before} of them did not complete)"
        in_words += f", in {spoken(time.monotonic() - self._began)}"
        stopped = was_stopped or broken is not None
        failed = counts.failed + counts.failed_before
        if stopped or failed or self._live is not None or self._lines:
            self._say(("stopped: " if stopped else "") + in_words)
        if self._output is not None and (stopped or failed):
            if isinstance(broken, OSError) and self._map._journal is not None:
                self._say(f"{self._map._journal.written} of them are in {self._output}, the others are to run again")
            if self._options.input == "-":
                self._say(f"what is done is in {self._output}: go on with --resume and the same input")
            else:
                self._say(f"to go on: {self._again('--resume' if stopped else '--resume=failed')}")
        if isinstance(broken, OSError):
            return 125
        if was_stopped:
            return 128 + (signum or 2)
        return 1 if failed or broken is not None else 0

    def _unwritable(self, error: OSError) -> str:
        if self._output is None or error.strerror is None:
            return str(error)
        return f"--output: {self._output!r} can't be written: {error.strerror}"

    def _again(self, resume: str) -> str:
        head, tail = parted(self._argv)
        words = [word for word in head if not word.startswith("--resume=")]
        return shlex.join(["calloff", "map", resume, *words, *tail])


def _told(error: BaseException) -> str:
    """An error in one line, without its number."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.strerror}: {error.filename!r}"


def _why(outcome: Outcome[Any]) -> str:
    """Why an item did not complete, in one line."""
    error = error_of(outcome)
    if isinstance(error, CommandFailed):  # the rest of what it printed is elsewhere
        return clean(str(CommandFailed(error.argv, error.status, _end(error.stderr))))
    text, kind = str(error), type(error).__name__
    return clean(text if isinstance(error, CalloffError) else f"{kind}: {text}" if text else kind)[:_LONG]


def _end(text: str) -> str:
    """The last lines of a text, or the end of the last one if that is long."""
    text = text.strip()
    if len(text) <= _SHORT:
        return text
    end = text[-_SHORT:]
    _, is_parted, whole = end.partition("\n")
    return f"… {whole if is_parted else end}"
