"""Whether a process is a fork of the one that has set a mark."""

import mmap
import os

import pytest

from calloff._os import forks


@pytest.fixture
def loop_kind():
    return "asyncio"  # nothing here depends on the kind of loop


@pytest.fixture(autouse=True)
def no_page(monkeypatch):
    monkeypatch.setattr(forks, "_page", [])


def in_a_fork(test):
    """What the test says in a fork of this process."""
    pid = os.fork()
    if not pid:
        answer = 2
        try:
            answer = 0 if test() else 1
        finally:
            os._exit(answer)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, 1)
    return status == 0


def test_a_mark_is_gone_in_each_fork():
    forks.prepare()

    def tell():
        mark = forks.mark()
        assert type(mark) is mmap.mmap
        assert mark[0]
        assert not in_a_fork(lambda: mark[0])
        assert not in_a_fork(lambda: in_a_fork(lambda: mark[0]))
        return mark[0]

    assert in_a_fork(tell)


@pytest.mark.parametrize("why", ["not prepared", "not wiped", "an old kernel"])
def test_where_memory_can_not_tell_the_number_does(why, monkeypatch):
    if why == "an old kernel":
        monkeypatch.setattr(forks, "_WIPE_ON_FORK", 9999)
    if why != "not prepared":
        forks.prepare()  # and here nobody has forked
    mark = forks.mark()
    assert type(mark) is forks.Mark
    assert mark[0]
    assert not in_a_fork(lambda: mark[0])
    assert mark[0]
