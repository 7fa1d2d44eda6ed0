"""The page that a guard shares with its worker, and the bell on it."""

import errno
import os

import pytest
from places.process_table import until

import calloff
from calloff._child.page import Page
from calloff._os import fds
from calloff._places import keepers
from calloff._places.process.pool import SETTINGS


@pytest.fixture
def loop_kind():
    return "asyncio"  # nothing here depends on the kind of loop


def files_of(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.parametrize("place", ["command", "process"])
async def test_a_keeper_keeps_no_file_for_what_it_has_forked(monkeypatch, place):
    """It is one process for the whole life of a program: one file for each start, and soon there are no more."""
    monkeypatch.setattr(SETTINGS, "max_jobs", 1)
    monkeypatch.setattr(SETTINGS, "spares", 0)
    for number in range(8):
        await calloff.call(calloff.command("true") if place == "command" else calloff.process(len, "abc"))
        if number == 2:
            before = files_of(keepers._keeper.pid)
    assert until(lambda: files_of(keepers._keeper.pid) <= before)


@pytest.mark.parametrize("missing", ["name", "call"])
def test_a_bell_where_the_system_has_no_files_for_events(monkeypatch, missing):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "not here")

    if missing == "name":
        monkeypatch.delattr(os, "eventfd")
    else:
        monkeypatch.setattr(os, "eventfd", refuse)
    page = Page()
    assert not fds.is_readable(page.bell, 0)
    page.ring()
    page.ring()
    assert fds.is_readable(page.bell, 0)
    page.hush()
    page.hush()
    page.hush()
    assert not fds.is_readable(page.bell, 0)
    page.leave_bell()


def test_a_bell_that_can_not_be_had_is_an_error_of_the_start(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMFILE, "no more")

    monkeypatch.setattr(os, "eventfd", refuse)
    with pytest.raises(OSError, match="no more"):
        Page()
