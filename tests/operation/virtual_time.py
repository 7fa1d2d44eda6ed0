"""Short words for tests on `calloff.testing.VirtualLoop`."""

import asyncio

from calloff.testing._virtual import START, VirtualLoop

__all__ = ["START", "VirtualLoop", "block", "now", "run"]


def run(work, *args):
    """Run an async function to its end, in no time."""

    async def main():
        return await work(*args)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


def block(seconds):
    """As if the running step took that long."""
    _loop().block(seconds)


def now():
    """Seconds since the loop was made."""
    return _loop().elapsed


def _loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
