"""anyio finds its root task under `calloff.run`: its worker threads live as long as the program, not as a request."""

import asyncio
import logging
import threading
from typing import Any

import anyio.to_thread
import pytest
from conftest import loop_factory

import calloff


def test_its_worker_threads_are_used_again(loop_kind: str, caplog: pytest.LogCaptureFixture) -> None:
    seen: set[int] = set()

    def request() -> None:
        seen.add(threading.get_ident())

    async def main() -> str:
        loop = asyncio.get_running_loop()
        for _ in range(50):
            await loop.create_task(anyio.to_thread.run_sync(request))
        return "done"

    before: Any = set(threading.enumerate())
    with caplog.at_level(logging.WARNING, "calloff"):
        assert calloff.run(main(), loop_factory=loop_factory(loop_kind)) == "done"
    assert len(seen) == 1
    assert caplog.records == []  # they are told to go with the main task, and are not taken for a hindrance
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
