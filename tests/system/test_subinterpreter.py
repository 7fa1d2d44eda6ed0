"""A program in a subinterpreter (Python 3.14): no signals, no daemon threads, all the rest."""

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="concurrent.interpreters came with 3.14")

INSIDE = """
import asyncio, time, calloff

async def main():
    slow = calloff.start(asyncio.sleep(60), timeout=0.01)
    return (
        await calloff.call(calloff.thread(pow, 2, 3)),
        await asyncio.to_thread(pow, 3, 2),
        type(await slow.outcome()).__name__,
    )

print(calloff.run(main()))
"""


def test_run_in_a_subinterpreter() -> None:
    outside = f"""
        from concurrent import interpreters
        inner = interpreters.create()
        inner.exec({INSIDE!r})
        inner.close()
        print("closed")
    """
    command = [sys.executable, "-c", textwrap.dedent(outside)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "(8, 9, 'Cancelled')\nclosed\n", done.stderr
    assert done.stderr == ""
