"""The endings of a map in a file, and going on with it."""

import asyncio
import collections
import fcntl
import itertools
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

import calloff


async def one(item):
    if item == "bad":
        raise ValueError("bad")
    if item == "slow":
        await asyncio.sleep(3600)
    ran[item] += 1
    return {"item": item}


ran: collections.Counter[Any] = collections.Counter()


@pytest.fixture(autouse=True)
def _nothing_ran():
    ran.clear()


def lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def run(items, path, **options):
    return calloff.run(calloff.map(one, items, output=path, timeout=0.1, **options))


def test_a_line_for_each_ending(tmp_path):
    path = tmp_path / "out.jsonl"
    run([1, "bad", "slow"], path)
    found = sorted(lines(path), key=lambda line: line["n"])
    assert [line["n"] for line in found] == [0, 1, 2]
    assert [line["item"] for line in found] == [1, "bad", "slow"]
    assert [line["state"] for line in found] == ["completed", "failed", "cancelled"]
    assert found[0]["value"] == {"item": 1}
    assert found[1]["error"] == "ValueError: bad"
    assert found[2]["error"].startswith("TimedOut: 'one' did not end within 0.1 s")
    assert (found[2]["reason"], found[2]["rung"]) == ("deadline", "ASKED")
    assert all(line["seconds"] < 5 and line["attempts"] == 1 and line["key"] for line in found)


def test_items_that_are_sets_are_known_by_another_program(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import calloff\n"
        "items = [frozenset({'apple', 'pear', 'fig', 'plum'}), {'x': {'a', 'b', 'c'}}]\n"
        "with calloff.map(len, items, place=calloff.thread, output='j', resume=True) as results:\n"
        "    print(sum(1 for _ in results))\n"
    )
    for seed, ran_there in (("1", "2"), ("2", "0"), ("3", "0")):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
        )
        assert done.stdout.strip() == ran_there, done.stderr
    assert len(lines(tmp_path / "j")) == 2


def test_an_output_that_is_there_is_not_overwritten(tmp_path):
    path = tmp_path / "out.jsonl"
    run([1], path)
    with pytest.raises(FileExistsError, match="go on with it"):
        run([1], path)
    assert len(lines(path)) == 1


def test_going_on_runs_what_is_missing(tmp_path):
    path = tmp_path / "out.jsonl"
    run([1, "bad", 2], path)
    assert [o.unwrap() for o in run([1, "bad", 2, 3], path, resume=True)] == [{"item": 3}]
    assert ran == {1: 1, 2: 1, 3: 1}
    outcomes = run([1, "bad", 2, 3], path, resume="failed")
    assert [type(o) for o in outcomes] == [calloff.Failed]
    assert [line["n"] for line in lines(path)][-2:] == [3, 1]


@pytest.mark.parametrize("key", [None, str])
def test_what_did_not_complete_in_an_earlier_run_is_counted(key, tmp_path):
    path = tmp_path / "out.jsonl"

    def fails(item):
        raise ValueError(item)

    async def counts(fn, items, resume):
        async with calloff.map(fn, items, place=calloff.thread, output=path, resume=resume, key=key) as results:
            async for _ in results:
                pass
        return results.counts

    calloff.run(counts(fails, [1, 2, 3], False))
    before = calloff.run(counts(fails, [1, 2, 3, 4], True))
    assert (before.failed, before.skipped, before.failed_before) == (1, 3, 3)
    assert str(before) == "0 done, 1 failed, 0 running, 3 done before, of which 3 did not complete"


@pytest.mark.parametrize("key", [None, str])
def test_what_a_later_run_has_completed_is_not(key, tmp_path):
    path = tmp_path / "out.jsonl"

    def by_day(item):
        if day == "bad":
            raise ValueError(item)

    async def counts(resume):
        async with calloff.map(by_day, [1, 2], place=calloff.thread, output=path, resume=resume, key=key) as results:
            async for _ in results:
                pass
        return results.counts

    day = "bad"
    calloff.run(counts(False))
    day = "good"
    calloff.run(counts("failed"))
    again = calloff.run(counts(True))
    assert (again.skipped, again.failed_before) == (2, 0)


def test_an_item_that_was_changed_runs_again(tmp_path):
    path = tmp_path / "out.jsonl"
    run([1, 2], path)
    run([1, 5], path, resume=True)
    assert ran == {1: 1, 2: 1, 5: 1}


def test_the_same_item_twice_is_two_items(tmp_path):
    path = tmp_path / "out.jsonl"
    run([1, 1], path)
    run([1, 1, 1], path, resume=True)
    assert ran == {1: 3}


def test_by_a_key_of_ones_own_the_order_does_not_matter(tmp_path):
    path = tmp_path / "out.jsonl"
    run([3, 1], path, key=str)
    assert {line["key"] for line in lines(path)} == {"1", "3"}
    run([1, 2, 3], path, key=str, resume=True)
    assert ran == {1: 1, 2: 1, 3: 1}


def test_a_key_that_utf_8_does_not_know_is_known_again(tmp_path):
    """Names of files may be any bytes."""
    path, key = tmp_path / "out.jsonl", "\udcff-{}".format
    run([1, 2], path, key=key)
    assert run([1, 2, 3], path, key=key, resume=True) == [calloff.Completed({"item": 3})]


def test_a_torn_last_line_is_cut_off(tmp_path, caplog):
    path = tmp_path / "out.jsonl"
    run(range(5), path)
    whole = path.read_bytes()
    for size in range(1, 40):
        path.write_bytes(whole[:-size])
        ran.clear()
        run(range(5), path, resume=True)
        assert sum(ran.values()) == 1
        assert sorted(line["n"] for line in lines(path)) == [0, 1, 2, 3, 4]
    assert "cut off in the middle" in caplog.text


@pytest.mark.parametrize("end", [b"text", b'{"name": 1}', b"x\0\0"])
def test_what_is_no_line_of_a_map_is_not_cut_off(end, tmp_path):
    """Somebody has given the wrong file."""
    path = tmp_path / "notes.txt"
    path.write_bytes(b"the first line\n" + end)
    with pytest.raises(ValueError, match="that no map has written"):
        run([1], path, resume=True)
    assert path.read_bytes() == b"the first line\n" + end
    assert not ran


@pytest.mark.parametrize("end", [b"{", b'{"n', b'{"n":1,"key', b'{"n"\0\0\0', b"\0" * 70_000])
def test_what_is_left_of_a_line_is(end, tmp_path):
    path = tmp_path / "out.jsonl"
    run([1], path)
    whole = path.read_bytes()
    path.write_bytes(whole + end)
    assert run([1], path, resume=True) == []
    assert path.read_bytes() == whole


def test_results_of_two_functions_in_one_file(tmp_path):
    """Each of the two knows its own."""

    async def other(item):
        return await one(item)

    path = tmp_path / "out.jsonl"
    run([1, 2, 3], path)
    for items in ([1, 2, 3], [4, 2, 3], [1, 2, 3]):
        calloff.run(calloff.map(other, items, output=path, resume=True))
    assert ran == {1: 2, 2: 2, 3: 2, 4: 1}
    run([1, 2, 3], path, resume=True)
    assert sum(ran.values()) == 7
    assert len(lines(path)) == 7


def test_a_torn_only_line(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_bytes(b'{"n":' + b" " * 200_000)
    run([1], path, resume=True)
    assert [line["n"] for line in lines(path)] == [0]


def test_a_damaged_line_is_named_and_its_item_runs_again(tmp_path, caplog):
    path = tmp_path / "out.jsonl"
    run(range(5), path, jobs=1)
    text = path.read_bytes().splitlines(keepends=True)
    text[2] = b"\0\0 {]\n"
    path.write_bytes(b"".join(text))
    ran.clear()
    with caplog.at_level(logging.WARNING, "calloff"):
        run(range(5), path, resume=True)
    assert ran == {2: 1}
    assert f"{path}, line 3: damaged" in caplog.text


@pytest.mark.parametrize("number", [-2, 1 << 60])
def test_a_number_that_no_item_can_have_is_damage(number, tmp_path, caplog):
    path = tmp_path / "out.jsonl"
    run(range(5), path, jobs=1)
    path.write_bytes(path.read_bytes().replace(b'"n":2,', b'"n":%d,' % number))
    ran.clear()
    with caplog.at_level(logging.WARNING, "calloff"):
        run(range(5), path, resume=True)
    assert ran == {2: 1}
    assert f"{path}, line 3: damaged" in caplog.text


def test_what_was_in_flight_when_the_block_was_left_is_missing(tmp_path):
    path = tmp_path / "out.jsonl"

    async def main():
        async with calloff.map(one, [1, *["slow"] * 5], output=path, jobs=6) as results:
            async for _ in results:
                break

    calloff.run(main())
    assert [line["n"] for line in lines(path)] == [0]


def test_two_maps_on_one_file(tmp_path):
    path = tmp_path / "out.jsonl"

    async def main():
        async with calloff.map(one, ["slow"], output=path):
            with pytest.raises(calloff.CalloffError, match="another map writes"):
                async with calloff.map(one, ["slow"], output=path, resume=True):
                    pass
            with open(path, "rb") as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        async with calloff.map(one, [1], output=path, resume=True):
            pass

    calloff.run(main())


@pytest.mark.parametrize(
    ("path", "error", "text"),
    [
        ("/nowhere/out", FileNotFoundError, "/nowhere/out"),
        ("/", IsADirectoryError, "/"),
        ("/dev/null", ValueError, "regular file"),
    ],
)
def test_what_can_not_be_written(path, error, text):
    with pytest.raises(error, match=text):
        run([1], path)
    assert not ran


def test_a_full_disk_loses_nothing_of_what_is_there(tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"
    real = os.write
    written = itertools.count()

    def write(file, data):
        if next(written) < 3:
            return real(file, data)
        if len(data) > 10:
            return real(file, bytes(data)[:10])  # what still fits
        raise OSError(28, "No space left on device")

    async def main():
        async with calloff.map(one, range(100), output=path, jobs=1) as results:
            monkeypatch.setattr("calloff._map.journal.os.write", write)
            async for _ in results:
                pass

    with pytest.raises(OSError, match="No space left on device; what is done is in the file"):
        calloff.run(main())
    assert [line["n"] for line in lines(path)] == [0, 1, 2]


@pytest.mark.parametrize("value", [{1, 2}, object, {(1, 2): 3}, float("nan"), b"x", 1 << 80, "\ud800"], ids=repr)
def test_values_that_json_does_not_know(tmp_path, value):
    path = tmp_path / "out.jsonl"

    async def gives(item):
        return value

    calloff.run(calloff.map(gives, [1], output=path))
    assert lines(path)[0]["state"] == "completed"


@dataclass
class Point:
    x: float
    y: float | None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ({"a": [1, (2.5, float("inf"))], "b": None}, "{'a': [1, (2.5, inf)], 'b': None}"),
        (Point(1.5, float("nan")), "Point(x=1.5, y=nan)"),
        ({"a": [1, None]}, {"a": [1, None]}),
        (Point(1.5, None), {"x": 1.5, "y": None}),
        ("null", "null"),
    ],
)
def test_a_float_that_is_no_number_is_not_written_as_null(tmp_path, value, text):
    path = tmp_path / "out.jsonl"

    async def gives_back(item):
        return item

    calloff.run(calloff.map(gives_back, [value, None], output=path))
    assert [(line["item"], line["value"]) for line in lines(path)] == [(text, text), (None, None)]
    assert len({line["key"] for line in lines(path)}) == 2
    calloff.run(calloff.map(gives_back, [None, value, None], output=path, resume=True))
    assert [line["n"] for line in lines(path)] == [0, 1, 0, 1, 2], "of the earlier run the items have other numbers"


@pytest.mark.parametrize("depth", [900, 5000])
def test_a_value_that_is_nested_deeply_ends_no_map(tmp_path, depth):
    async def nested(item):
        value: list[Any] = [None]
        for _ in range(depth):
            value = [value]
        return value

    calloff.run(calloff.map(nested, [1], output=tmp_path / "out"))
    assert lines(tmp_path / "out")[0]["state"] == "completed"


def test_an_output_that_is_removed_ends_the_map_in_a_sentence(tmp_path):
    async def main():
        async with calloff.map(removes, range(1000), jobs=2, output=tmp_path / "out") as results:
            async for _ in results:
                pass

    async def removes(item):
        if item == 10:
            (tmp_path / "out").unlink()

    with pytest.raises(FileNotFoundError, match="the output was removed while the map wrote it: .*out"):
        calloff.run(main())


def test_items_that_json_does_not_know_need_a_key(tmp_path):
    path = tmp_path / "out.jsonl"

    async def gives(item):
        return 1

    with pytest.raises(TypeError, match="item 0 has no JSON by which it could be known in the output: give key="):
        calloff.run(calloff.map(gives, [object()], output=path))
    calloff.run(calloff.map(gives, [object()], output=path, key=lambda item: "a"))
    assert lines(path)[0]["key"] == "a"


def test_retries_are_counted(tmp_path):
    path = tmp_path / "out.jsonl"
    run(["bad"], path, retry=lambda outcome, attempt: 0 if attempt < 3 else None)
    assert [line["attempts"] for line in lines(path)] == [3]
