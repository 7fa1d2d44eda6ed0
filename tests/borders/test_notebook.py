"""In a real kernel of Jupyter: what is shown, and what the stop button does.

The stop button is a SIGINT to the kernel, which cancels the task of the cell when its event loop turns next.
"""

import os
import queue
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("ipykernel", reason="the kernel of Jupyter is not installed here")
from jupyter_client.manager import start_new_kernel

LONGEST = 60.0
SHOWN = ("stream", "display_data", "update_display_data", "execute_result", "error")
FIRST = """
import asyncio, calloff, contextlib, time

async def stubborn():
    print("BEGUN", flush=True)
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)

def spin(said=None):
    while True:
        pass

async def double(number):
    await asyncio.sleep(0.01)
    return 2 * number
"""


class Notebook:
    """Runs cells one after the other."""

    def __init__(self, manager, client):
        self.manager = manager
        self.client = client

    def run(self, code, *, at_begin=None):
        """Run a cell to its end; call a function when it prints BEGUN. Returns what it shows as (kind, content)."""
        cell = self.client.execute(code)
        until = time.monotonic() + LONGEST
        said: list[Any] = []
        while time.monotonic() < until:
            try:
                message = self.client.get_iopub_msg(timeout=0.2)
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return said
            if kind in SHOWN:
                said.append((kind, content))
            if kind == "stream" and "BEGUN" in content["text"] and at_begin is not None:
                at_begin()
                at_begin = None
        raise AssertionError(f"the cell did not end: {code}\n{said}")

    def stop_button(self):
        """Press it."""
        self.manager.interrupt_kernel()

    def value(self, code):
        """The text of a cell's value."""
        return next(content["data"]["text/plain"] for kind, content in self.run(code) if kind == "execute_result")


@contextmanager
def kernel(sockets):
    environment = {**os.environ, "CALLOFF_EXPOSE": "1", "CALLOFF_SOCKETS": str(sockets)}
    manager, client = start_new_kernel(kernel_name="python3", env=environment, startup_timeout=LONGEST)
    try:
        yield Notebook(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def sockets(tmp_path_factory):
    return tmp_path_factory.mktemp("seen", numbered=True)


@pytest.fixture(scope="module")
def notebook(sockets):
    with kernel(sockets) as found:
        assert found.run(FIRST) == []
        yield found


def errors(said):
    return [content["ename"] for kind, content in said if kind == "error"]


def test_an_outcome_is_a_table_with_its_stack(notebook):
    said = notebook.run("await calloff.start(stubborn(), timeout=0.3, grace=0.3).outcome()")
    shown = next(content["data"]["text/html"] for kind, content in said if kind == "execute_result")
    assert shown.startswith("<table>")
    assert "stubborn did not end within 0.3 s" in shown
    assert "<details><summary>" in shown
    assert "await asyncio.sleep(3600)" in shown


def test_the_progress_of_a_map_is_drawn_over_itself(notebook):
    said = notebook.run(
        "async with calloff.map(double, range(100), jobs=2, progress=True) as results:\n"
        "    async for item, outcome in results:\n"
        "        pass\n"
    )
    kinds = {kind for kind, _ in said}
    assert kinds == {"display_data", "update_display_data"}, said
    assert "100% of 100  100 done" in said[-1][1]["data"]["text/plain"]


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param("await calloff.call(stubborn(), grace=0.3)", id="a coroutine, while the loop sleeps"),
        pytest.param("op = calloff.start(stubborn(), grace=0.3)\nawait op", id="a handle"),
        pytest.param("await calloff.call(calloff.thread(spin, print('BEGUN', flush=True)), grace=0.3)", id="a thread"),
        pytest.param(
            "await calloff.call(calloff.process(spin, print('BEGUN', flush=True)), grace=0.3)", id="a process"
        ),
        pytest.param(
            "async with calloff.group() as group:\n"
            "    op = group.start(stubborn(), grace=0.3)\n"
            "    async for tick in op.watch(every=0.1):\n"
            "        pass",
            id="what is watched in a group",
        ),
        pytest.param(
            "print('BEGUN', flush=True)\n"
            "async with calloff.map(lambda _: stubborn(), range(10), jobs=2, grace=0.3) as results:\n"
            "    async for item, outcome in results:\n"
            "        pass",
            id="a map",
        ),
    ],
)
def test_the_stop_button_stops_it(notebook, cell):
    """The cell ends, which it never did by itself, and nothing of it runs on."""
    assert errors(notebook.run(cell, at_begin=notebook.stop_button)) == ["CancelledError"]
    assert notebook.value("calloff.operations()") == "()"


def test_a_map_is_watched_from_outside(notebook, sockets):
    found = []

    def look():
        environment = {**os.environ, "CALLOFF_SOCKETS": str(sockets)}
        words = [sys.executable, "-m", "calloff", "ps"]
        found.append(subprocess.run(words, env=environment, capture_output=True, text=True, timeout=LONGEST).stdout)
        notebook.stop_button()

    notebook.run(
        "async with calloff.map(lambda _: stubborn(), range(10), jobs=2, grace=0.3) as results:\n"
        "    async for item, outcome in results:\n"
        "        pass",
        at_begin=look,
    )
    assert "await asyncio.sleep(3600)" in found[0], found
