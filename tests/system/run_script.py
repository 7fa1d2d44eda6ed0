"""Programs for the tests of `calloff.run`: each is a real process with its own interpreter, exit and signals."""

import os
import queue
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import TracebackType

from places.process_table import wait_until_it_waits

#: seconds that a busy machine may add to what is bounded: whatever hangs in these programs, hangs for longer
LATE = 12.0

PRELUDE = """
import asyncio, atexit, logging, os, re, signal, socket, subprocess, sys, threading, time
import calloff

KIND = os.environ["LOOP_KIND"]

def loop_factory():
    if KIND == "uvloop":
        import uvloop
        return uvloop.new_event_loop()
    loop = asyncio.new_event_loop()
    if KIND == "eager":
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop

def say(*words):
    # in one piece: what is interrupted meanwhile has said the whole line or nothing of it; and in no buffer, for a
    # handler of signals may speak while another line is flushed. With the moment: who listens may have no turn for long
    os.write(1, (f"\\x1f{time.monotonic()}\\x1f" + " ".join(map(str, words)) + "\\n").encode())

logging.basicConfig(format="LOG %(message)s")
def run(main, **options):
    return calloff.run(main, loop_factory=loop_factory, **options)
"""


class Program:
    """A program that runs. Everything about it is bounded: a test never hangs on it."""

    def __init__(self, folder: Path, kind: str, source: str) -> None:
        self.file = folder / "prog.py"
        self.file.write_text(PRELUDE + textwrap.dedent(source))
        environment = {**os.environ, "LOOP_KIND": kind, "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(self.file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=folder,
        )
        self.pid = self._process.pid
        self.out: list[str] = []
        self.err: list[str] = []
        self._lines: queue.Queue[tuple[str, float]] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout, self.out, True), daemon=True),
            threading.Thread(target=self._read, args=(self._process.stderr, self.err, False), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: object, into: list[str], tell: bool) -> None:
        with stream:  # type: ignore[attr-defined]
            for line in stream:  # type: ignore[attr-defined]
                _, moment, text = (
                    line.rstrip("\n").split("\x1f", 2) if line[0] == "\x1f" else ("", "", line.rstrip("\n"))
                )
                into.append(text)
                if tell:
                    self._lines.put((text, float(moment or time.monotonic())))

    def wait_for(self, line: str, seconds: float = 20) -> float:
        """Wait until it has said `line`; returns the moment at which it did."""
        until = time.monotonic() + seconds
        while True:
            try:
                said, moment = self._lines.get(timeout=max(0.01, until - time.monotonic()))
                if said == line:
                    return moment
            except queue.Empty:
                raise AssertionError(f"it never said {line!r}: {self.out} {self.err}") from None

    def rest(self) -> None:
        """Wait until its main thread waits for something."""
        wait_until_it_waits(self.pid)

    def signal(self, number: int) -> float:
        """Send it a signal; returns the moment before, for it may be heard before we have a turn again."""
        moment = time.monotonic()
        os.kill(self.pid, number)
        return moment

    def is_running(self) -> bool:
        return self._process.poll() is None

    def end(self, seconds: float = 30) -> float:
        """Wait for its exit; returns the moment."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not exit within {seconds} s: {self.out} {self.err}") from None
        finally:
            moment = time.monotonic()
        for reader in self._readers:
            reader.join(10)
        return moment

    @property
    def status(self) -> int:
        """Its exit status; minus the signal that ended it."""
        return self._process.returncode

    @property
    def errors(self) -> str:
        """What it wrote to stderr."""
        return "\n".join(self.err)

    def line(self, text: str) -> int:
        """The number of the only line of its source that contains `text`."""
        numbers = [number for number, line in enumerate(self.file.read_text().split("\n"), 1) if text in line]
        assert len(numbers) == 1, numbers
        return numbers[0]

    def __enter__(self) -> "Program":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.end()
