"""Tools of an agent that answer in time, whatever they do, with a sentence that the model can read.

    python examples/agent_tool.py

A framework makes the schema that the model sees from the signature and the docstring: both are those of the original.
"""

import asyncio
import inspect
import subprocess
import time

import calloff


@calloff.tool(timeout=1, grace=0.5)
def search(query: str) -> str:
    """Search the archive."""
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass  # nothing stops it: but it runs in a process


@calloff.tool(timeout=1, grace=10, place="process")
async def build(target: str) -> str:
    """Build a target."""
    subprocess.Popen(["sleep", "3600"], start_new_session=True)  # a daemon, which dies with the call
    await asyncio.sleep(60)
    return "built"


@calloff.tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def main():
    print(search.__name__, inspect.signature(search), inspect.getdoc(search))
    print(await add(1, 2))
    print(await search("tea"))
    print(await build("all"))


if __name__ == "__main__":
    calloff.run(main())
