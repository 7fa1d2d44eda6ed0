"""What several of these tests need."""

import pytest

from calloff._operation.operation import Operation


@pytest.fixture
def short_last(monkeypatch):
    """The last second of the ladder takes less than half of one. (That it is one second is tested on its own.)"""
    monkeypatch.setattr(Operation, "policy", Operation.policy._replace(last=0.4))
