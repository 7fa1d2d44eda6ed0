"""The detector of calls that block an event loop, which is on in every test, finds them."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import blocking_calls
import pytest


def code_of(file: str, source: str) -> Callable[[], Any]:
    """A function `block` as if it stood in that file."""
    names: dict[str, Any] = {"time": time, "socket": socket, "subprocess": subprocess}
    exec(compile(source, file, "exec"), names)
    function: Callable[[], Any] = names["block"]
    return function


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(
            "time.sleep(0.001)",
            marks=pytest.mark.skipif(sys.version_info < (3, 13), reason="Python tells nobody of it before 3.13"),
        ),
        "subprocess.run(['true'])",
        "socket.create_connection(('127.0.0.1', 1))",
    ],
)
def test_code_of_ours_that_blocks_is_told(call: str) -> None:
    block = code_of(blocking_calls.OURS + "x.py", f"def block(): {call}")

    async def main() -> None:
        with contextlib.suppress(OSError):
            block()

    with pytest.raises(AssertionError, match=r"blocks the event loop: \S+ in block \(x\.py:1\)"):
        with blocking_calls.nothing_blocks():
            asyncio.run(main())


def test_a_test_that_blocks_on_purpose_is_not() -> None:
    async def main() -> None:
        time.sleep(0.001)
        subprocess.run(["true"])

    with blocking_calls.nothing_blocks():
        asyncio.run(main())


def test_nor_is_what_waits_without_a_loop() -> None:
    with blocking_calls.nothing_blocks():
        code_of(blocking_calls.OURS + "x.py", "def block(): time.sleep(0.001)")()
