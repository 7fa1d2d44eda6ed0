"""The middleware itself is swept: called off at every await, it leaves nothing behind and the next request is served."""

import asyncio

import pytest
from asgi import sweep_targets as targets

from calloff.testing import VirtualLoop, sweep


@pytest.mark.parametrize("name", ["request", "limited_request", "two_requests"])
def test_called_off_at_every_await_it_is_safe(name):
    target = getattr(targets, name)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:  # where timers fall into the same turn in each run
        report = runner.run(sweep(target, setup=targets.setup, check=targets.check, isolate=False, timeout=10))
    assert report.verdict == "SAFE", "\n".join(str(finding) for finding in report.findings)
    assert report.points > 1
