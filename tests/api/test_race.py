"""`race`: the first success wins, the rest is stopped and awaited."""

import asyncio
import gc
from typing import Any

import pytest
from operation import virtual_time
from operation.virtual_time import now

import calloff


class Mine(Exception):
    pass


def contender(name, log, lasts, *, fails=False, clean_up=0.0):
    """A runner that notes when it starts and ends."""

    async def run():
        log.append((name, "starts", now()))
        try:
            await asyncio.sleep(lasts)
        except asyncio.CancelledError:
            await asyncio.sleep(clean_up)
            log.append((name, "is off", now()))
            raise
        if fails:
            log.append((name, "fails", now()))
            raise Mine(name)
        return name

    return run()


def test_the_first_success_wins_and_the_rest_is_gone():
    async def main():
        log: list[Any] = []
        before = calloff.operations()
        won = await calloff.race(contender("slow", log, 5), contender("quick", log, 1), contender("slower", log, 9))
        assert won == "quick"
        assert calloff.operations() == before
        return log

    assert virtual_time.run(main) == [
        ("slow", "starts", 0.0),
        ("quick", "starts", 0.0),
        ("slower", "starts", 0.0),
        ("slow", "is off", 1.0),
        ("slower", "is off", 1.0),
    ]


def test_losers_are_awaited():
    async def main():
        log: list[Any] = []
        assert await calloff.race(contender("a", log, 1), contender("b", log, 5, clean_up=2)) == "a"
        return now(), log[-1]

    assert virtual_time.run(main) == (3.0, ("b", "is off", 3.0))


def test_a_failure_is_no_success():
    async def main():
        log: list[Any] = []
        assert await calloff.race(contender("a", log, 1, fails=True), contender("b", log, 2)) == "b"

    virtual_time.run(main)


def test_all_fail():
    async def main():
        log: list[Any] = []
        with pytest.raises(ExceptionGroup, match="every contender of the race failed") as caught:
            await calloff.race(contender("a", log, 2, fails=True), contender("b", log, 1, fails=True))
        assert [str(error) for error in caught.value.exceptions] == ["a", "b"], "in order of preference"

    virtual_time.run(main)


def test_a_stagger_gives_a_head_start():
    async def main():
        log: list[Any] = []
        assert await calloff.race(*(contender(name, log, 0.5) for name in "abc"), stagger=0.2) == "a"
        return log

    assert virtual_time.run(main) == [
        ("a", "starts", 0.0),
        ("b", "starts", 0.2),
        ("c", "starts", 0.4),
        ("b", "is off", 0.5),
        ("c", "is off", 0.5),
    ]


def test_the_next_one_starts_at_once_when_one_fails():
    async def main():
        log: list[Any] = []
        won = await calloff.race(
            contender("a", log, 0.1, fails=True),
            contender("b", log, 0.1, fails=True),
            contender("c", log, 1),
            contender("d", log, 1),
            stagger=0.3,
        )
        assert won == "c"
        return [entry for entry in log if entry[1] == "starts"]

    assert virtual_time.run(main) == [
        ("a", "starts", 0.0),
        ("b", "starts", 0.1),
        ("c", "starts", 0.2),
        ("d", "starts", 0.5),
    ]


def test_one_that_was_never_needed_is_never_started(recwarn):
    async def main():
        log: list[Any] = []
        assert await calloff.race(contender("a", log, 0.1), contender("b", log, 0.1), stagger=5) == "a"
        return log

    assert virtual_time.run(main) == [("a", "starts", 0.0)]
    gc.collect()
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


def test_alone():
    async def main():
        assert await calloff.race(contender("a", [], 1)) == "a"
        assert await calloff.race(lambda_free) == "function"

    async def lambda_free():
        return "function"

    virtual_time.run(main)


def test_a_deadline():
    async def main():
        log: list[Any] = []
        with pytest.raises(calloff.TimedOut, match="within 3 s"):
            await calloff.race(contender("a", log, 10), contender("b", log, 10), timeout=3)
        return now(), [entry[1] for entry in log]

    assert virtual_time.run(main) == (3.0, ["starts", "starts", "is off", "is off"])


def test_a_winner_in_time_wins_even_if_the_losers_take_longer_to_go():
    async def main():
        log: list[Any] = []
        return await calloff.race(contender("a", log, 2.9), contender("b", log, 10, clean_up=2), timeout=3)

    assert virtual_time.run(main) == "a"


async def test_the_value_may_be_none_or_an_error_object():
    async def nothing():
        return None

    async def error():
        return Mine("returned, not raised")

    assert await calloff.race(nothing()) is None
    assert isinstance(await calloff.race(error()), Mine)


async def test_in_real_time():
    async def runs(seconds):
        await asyncio.sleep(seconds)
        return seconds

    assert await calloff.race(runs(60), runs(0.01), runs(30), stagger=0.005) == 0.01
    assert asyncio.current_task().cancelling() == 0


async def test_why_the_losers_were_stopped():
    seen = []

    async def loser():
        seen.append(calloff.current())
        await asyncio.sleep(3600)

    async def winner():
        await asyncio.sleep(0)

    await calloff.race(loser(), winner())
    assert (seen[0].reason.kind, seen[0].reason.text) == ("sibling", "'winner' won the race")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"stagger": -1}, ValueError, "^stagger must be 0 or more"),
        ({"stagger": None}, TypeError, "^stagger must be"),
        ({"timeout": float("nan")}, ValueError, "^timeout must be"),
        ({"grace": True}, TypeError, "^grace must be"),
    ],
)
async def test_bad_input_starts_nothing(recwarn, options, error, text):
    log = []

    async def body():
        log.append(True)

    with pytest.raises(error, match=text):
        await calloff.race(body(), body(), **options)
    assert log == []
    gc.collect()
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


async def test_no_contenders():
    with pytest.raises(ValueError, match="^race needs at least one work$"):
        await calloff.race()


async def test_something_that_is_no_work_among_them(recwarn):
    started = []

    async def body():
        started.append(calloff.current())
        await asyncio.sleep(3600)

    before = calloff.operations()
    with pytest.raises((TypeError, ExceptionGroup)):
        await calloff.race(body(), print, body())  # type: ignore[arg-type]  # no work
    assert calloff.operations() == before
    assert all(op.done() for op in started)
    gc.collect()
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]
