"""What several of these tests need."""

from dataclasses import replace

import pytest

from calloff._operation.operation import Operation


@pytest.fixture
def short_last(monkeypatch):
    """The last second of the ladder takes less than half of one. (That it is one second is tested on its own.)"""
    monkeypatch.setattr(Operation, "policy", replace(Operation.policy, last=0.4))
