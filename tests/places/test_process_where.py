"""Where a process is, also while it runs C code that hears nothing."""

import itertools
from typing import Any

import calloff


def counts_for_ever() -> int:
    calloff.progress("counting")
    return sum(itertools.repeat(1, 10**13))  # here


def test_the_line_that_called_c_is_named(arun: Any) -> None:
    async def main() -> None:
        op = calloff.start(calloff.process(counts_for_ever), grace=0)
        async for tick in op.watch(every=0.02):
            if tick.progress and "# here" in tick.where[-1].source:
                break
            assert tick.elapsed < 30, tick.where
        frame = op.where()[-1]
        assert (frame.function, frame.source) == ("counts_for_ever", "return sum(itertools.repeat(1, 10**13))  # here")
        assert isinstance(await op.stop(), calloff.Cancelled)

    arun(main)
