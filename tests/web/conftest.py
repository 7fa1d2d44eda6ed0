"""One server for all tests, each with a world of its own: starting and ending one takes a moment."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from web.fake import FakeSource
from web.serving import Served, served


class _Worlds:
    """Passes on to the source of the current test."""

    source = FakeSource()

    @asynccontextmanager
    async def connect(self) -> "AsyncIterator[_Worlds]":
        yield self

    def __getattr__(self, name: str) -> object:
        return getattr(self.source, name)


@pytest.fixture(scope="session")
def worlds() -> _Worlds:
    return _Worlds()


@pytest.fixture(scope="session")
def the_server(worlds: _Worlds) -> Iterator[Served]:
    with served(worlds.connect) as server:  # type: ignore[arg-type]
        yield server


@pytest.fixture
def source(worlds: _Worlds, monkeypatch: pytest.MonkeyPatch) -> FakeSource:
    monkeypatch.setattr("calloff.web._stream._FRESH", -1)  # nothing that another test was told
    monkeypatch.setattr("calloff.web._stream.EVERY", 0.1)
    worlds.source = FakeSource()
    return worlds.source


@pytest.fixture
def page(the_server: Served, source: FakeSource) -> Iterator[Served]:
    yield the_server
    the_server.until_nobody_looks()  # else the next test's source would be asked
