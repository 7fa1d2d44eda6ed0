"""A directory of sockets for each test, so that it sees nothing but its own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "sockets"
    monkeypatch.setenv("CALLOFF_SOCKETS", str(place))
    monkeypatch.delenv("CALLOFF_EXPOSE", raising=False)
    monkeypatch.delenv("CALLOFF_HISTORY", raising=False)
    return place


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, nobody counts as silent, but where a test is about that."""
    for module in ("_client", "_stops"):
        monkeypatch.setattr(f"calloff.control.{module}.PATIENCE", 60.0)
