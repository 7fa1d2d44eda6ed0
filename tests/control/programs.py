"""Processes to look at: each is `calloff run` of a function in a file of its own, or that file as a plain program."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import calloff.cli
from calloff.control import Client, Overview, Query

PRELUDE = "import asyncio, os, signal, sys, time\nimport calloff\n"


class Program:
    """A process that is exposed, ended at the latest with the block.

    Args:
        folder: where its file and its output are.
        source: what the file holds; its function `main` is run.
        options: of `calloff run`.
        plain: run the file itself.
    """

    def __init__(self, folder: Path, source: str, *options: str, plain: bool = False, name: str = "work.py") -> None:
        self.file = folder / name
        self.file.write_text(PRELUDE + textwrap.dedent(source))
        run = [] if plain else ["-m", "calloff", "run", *options]
        target = str(self.file) if plain else f"{self.file}:main"
        self.output = folder / f"{name}.{time.monotonic_ns()}.out"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *run, target], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.pid = self.process.pid

    @property
    def said(self) -> str:
        return self.output.read_text()

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGCONT)
            self.process.kill()
            self.process.wait()

    def end(self, seconds: float = 30) -> int:
        return self.process.wait(seconds)


def eventually(
    condition: Callable[[Overview], bool], query: Query | None = None, seconds: float = 30, directory: str | None = None
) -> Overview:
    """The first overview that the condition holds for."""

    async def look() -> Overview:
        async with Client(directory) as client:
            end = time.monotonic() + seconds
            while True:
                overview = await client.list(query)
                if condition(overview):
                    return overview
                assert time.monotonic() < end, overview
                await asyncio.sleep(0.02)

    return asyncio.run(look())


def running(count: int) -> Callable[[Overview], bool]:
    """So many operations run, and nothing else is going on."""
    return lambda overview: overview.counts == {"running": count}


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def cli(*arguments: str) -> Done:
    """The command line, without the second that a process of its own would take."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = calloff.cli.main(list(arguments))
        except SystemExit as left:
            status = int(left.code or 0)
    told = []
    for stream in (out, err):
        stream.flush()
        told.append(stream.buffer.getvalue().decode())
    return Done(status, *told)
