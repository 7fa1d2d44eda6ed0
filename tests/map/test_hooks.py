"""The program's own code around the items, `retry`, `key`, `progress`, `within`: whatever it does, the map stays whole."""

import asyncio
import contextlib
import logging
import threading
import time
from typing import Any

import pytest

import calloff
from calloff import Cancelled, Completed, Failed


async def odd_fail(item):
    await asyncio.sleep(0)
    if item % 2:
        raise ValueError(item)
    return item


class Blocks:
    """A hook that blocks the event loop, as one does that asks a database; soon somebody has had enough of that."""

    def __init__(self, enough=None):
        self.called = 0
        self.came_back = False
        self.enough = enough

    def __call__(self, *_):
        self.called += 1
        if self.enough is not None:
            threading.Timer(0.05, self.enough).start()
        time.sleep(60)
        self.came_back = True


@pytest.mark.parametrize("name", ["retry", "key", "progress"])
def test_one_that_blocks_the_loop_can_be_called_off(name, tmp_path):
    mains: list[Any] = []
    hook = Blocks(lambda: mains[0].cancel("enough"))
    hooks = {name: hook, **({"output": tmp_path / "out.jsonl"} if name == "key" else {})}

    async def one(item):
        await asyncio.sleep(0.3 if name == "progress" else 0)
        return await odd_fail(item)

    async def main():
        mains.append(calloff.current())
        async with calloff.map(one, range(8), jobs=2, grace=0.5, **hooks) as results:
            async for _ in results:
                pass

    with pytest.raises(calloff.OperationCancelled, match="enough"):
        calloff.run(main(), grace=0.5)
    assert hook.called
    assert not hook.came_back


def test_a_retry_has_the_time_of_an_item():
    hook = Blocks()
    text = r"'retry of odd_fail' did not end within 0\.2 s: at __call__ .*time\.sleep"
    with pytest.raises(calloff.TimedOut, match=text):
        calloff.run(calloff.map(odd_fail, range(8), jobs=2, timeout=0.2, retry=hook))
    assert hook.called == 1
    assert not hook.came_back


async def test_a_retry_that_is_called_off_by_hand_leaves_the_items_as_they_are():
    operations = []

    def retry(outcome, attempt):
        operations.append(calloff.current())
        operations[-1].cancel("by hand")
        calloff.checkpoint()

    outcomes = await calloff.map(odd_fail, range(6), jobs=2, retry=retry)
    assert [type(outcome) for outcome in outcomes] == [Completed, Failed] * 3
    assert {operation.name for operation in operations} == {"retry of odd_fail"}


class Held:
    """Notes what it hears; with `leaves`, how it is let go."""

    def __init__(self, heard, item, leaves=None, at=()):
        self.heard, self.item, self.leaves, self.at = heard, item, leaves, at

    async def __aenter__(self):
        self.heard[self.item] = "held"

    async def __aexit__(self, kind, error, traceback):
        self.heard[self.item] = kind
        if self.leaves is not None and self.item in self.at:
            return await self.leaves()
        return None


async def test_what_is_held_hears_how_its_item_has_ended():
    heard: dict[Any, Any] = {}

    async def one(item):
        if item == 2:
            calloff.current().cancel("by hand")
        return await odd_fail(item)

    outcomes = await calloff.map(one, range(4), within=lambda item: Held(heard, item))
    assert heard == {0: None, 1: ValueError, 2: calloff.OperationCancelled, 3: ValueError}
    assert [type(outcome) for outcome in outcomes] == [Completed, Failed, Cancelled, Failed]
    traceback = outcomes[1].error.__traceback__
    names = []
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert "_held" not in names


@pytest.mark.parametrize("at", [0, 1], ids=["completed", "failed"])
@pytest.mark.parametrize("way", ["swallows", "raises", "refuses"])
async def test_letting_go_is_bounded_and_told(way, at, caplog):
    """The value of an item whose transaction could not be committed is none, but it is told; a failure stays what it is."""

    async def leaves():
        if way == "swallows":
            return True
        if way == "raises":
            raise KeyError("commit")
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    def within(item):
        return Held({}, item, leaves, {at})

    with caplog.at_level(logging.WARNING, "calloff"):
        outcomes = await calloff.map(odd_fail, range(4), jobs=1, grace=0.1, within=within)
    wanted = [Completed, Failed, Completed, Failed]
    error = getattr(outcomes[at], "error", None)
    if at == 1:
        assert isinstance(error, ValueError)
        assert ("let go" in caplog.text) is (way != "swallows")
    elif way != "swallows":
        wanted[0] = Failed
        assert isinstance(error, KeyError if way == "raises" else calloff.TimedOut)
        assert "odd_fail had returned 0" in error.__notes__[0]
    assert [type(outcome) for outcome in outcomes] == wanted
