"""Large results are received in parts, between which the loop goes on, and are what was sent."""

import asyncio
import marshal
import pickle
import socket
import sys
from pickle import PickleBuffer
from typing import cast

import cloudpickle
import pytest

import calloff
from calloff._child.wire import Reader, parts_of
from calloff._places.process.body import ProcessBody
from calloff._places.process.steps import load_in_steps

PART = 1 << 18


class Flood:
    """A socket in which there always is more, as fast as it is read."""

    def __init__(self, parts):
        self.data = b"".join(map(bytes, parts))
        self.at = 0

    def gettimeout(self):
        return 0.0

    def recv(self, size):
        part = self.data[self.at : self.at + min(size, 1000)]
        self.at += len(part)
        return part

    def recv_into(self, target):
        part = self.data[self.at : self.at + min(len(target), PART)]
        target[: len(part)] = part
        self.at += len(part)
        return len(part)


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize("all_of_it", [False, True])
def test_others_have_their_turn_while_a_large_one_comes(kind, all_of_it):
    value = kind(range(256)) * (1 << 17)
    flood = Flood(parts_of((1, "value"), b"body" * 100, [PickleBuffer(value)]))
    reader = Reader(cast("socket.socket", flood))
    reader.is_last = all_of_it
    turns = 1
    while (found := reader.read()) is None:
        turns += 1
    assert turns == 1 if all_of_it else turns >= 5
    *meta, body, buffers = found
    assert meta == [1, "value"]
    assert bytes(body) == b"body" * 100
    assert [(type(each), each == value) for each in buffers] == [(kind, True)]


@pytest.mark.parametrize("body", [b"short", b"long" * 2000, b"longer" * 20000])
@pytest.mark.parametrize("changes", [None, {"env": {"NAME" * 10: "value" * 9000}}])
@pytest.mark.parametrize("blocks", [True, False])
def test_frames_that_come_in_pieces_are_what_was_sent(body, changes, blocks):
    whole = b"".join(map(bytes, parts_of((7, "id", "name", None, (1.5, 2.5), changes), body)))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(blocks)
        reader = Reader(theirs)
        for cut in [*range(1, 40), len(whole) // 2, len(whole) - 1]:
            ours.sendall(whole[:cut])
            if not blocks:
                assert reader.read() is None
            ours.sendall(whole[cut:])
            found = reader.read()
            assert found is not None
            *meta, data, buffers = found
            assert meta == [7, "id", "name", None, (1.5, 2.5), changes]
            assert bytes(data) == body
            assert not buffers
        if blocks:
            ours.sendall(whole[:-1])
            ours.close()
            with pytest.raises(EOFError):
                reader.read()


def pattern(kind, size):
    data = marshal.dumps(list(range(size // 5)))
    return kind(data)


def text(data):
    return bytes(data).hex()


def pair(data):
    return bytes(data), bytearray(data)


@pytest.mark.parametrize("kind", [bytes, bytearray, text, pair])
async def test_a_large_result_is_what_the_function_returned(kind):
    wanted = pattern(kind, 6_000_000)
    assert await calloff.call(calloff.process(pattern, kind, 6_000_000)) == wanted


ASCII, LATIN, WIDE, WIDEST = "plain text ", "caf\xe9 au lait ", "\u20ac 5 ", "\U0001f600 "
HALVES = "\ud83d\ude00 \udcff "


@pytest.mark.parametrize("ctypes", [True, False])
@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
@pytest.mark.parametrize("part", [ASCII, LATIN, WIDE, WIDEST, HALVES])
def test_a_large_text_is_made_in_steps_and_is_what_it_was(part, dumps, ctypes, monkeypatch):
    if not ctypes:
        monkeypatch.setitem(sys.modules, "ctypes", None)
    text = part * ((3 << 20) // len(part)) + "the end"
    mixed = ASCII * 200_000 + part
    value = {
        "one": text,
        "again": text,
        "short": part,
        "many": [part] * 1000,
        "other": (mixed, b"x" * (2 << 20)),
        7: 1 << 3000,
        8: 1 << (12 << 20),
    }
    found = load_in_steps(dumps(value, 5))
    assert found == value
    assert found["again"] is found["one"], "one object stays one"
    assert found["one"].isascii() == text.isascii()
    assert sys.getsizeof(found["one"]) == sys.getsizeof("".join(list(text))), "as narrow as it can be"


@pytest.mark.parametrize("data", [pickle.dumps("x" * (2 << 20), 5)[:-5], b"\x80\x05\x8d", b"\x80\x05X\xff\xff\xff\xff"])
def test_a_pickle_that_breaks_off_raises(data):
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        load_in_steps(data)


LARGE = 128 << 20


def raise_large(part):
    raise ValueError(part * (LARGE // len(part)))


def return_large(part):
    return part * (LARGE // len(part))


@pytest.mark.parametrize("part", ["x", b"x"])
@pytest.mark.parametrize("function", [raise_large, return_large])
async def test_while_a_large_result_or_error_is_unpickled_the_loop_goes_on(function, part):
    """The loop turns again and again meanwhile. (Bytes as a result lie beside their pickle: there is nothing to do.)"""
    turns = 0

    async def turn(operation):
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            body = operation.body
            turns += isinstance(body, ProcessBody) and body.unpickling

    for _ in range(4):  # a busy machine may have the other thread go on alone
        operation = calloff.start(calloff.process(function, part))
        turns = 0
        turning = asyncio.create_task(turn(operation))
        outcome = await operation.outcome()
        turning.cancel()
        if turns > 10 or (function is return_large and part == b"x"):
            break
    if function is return_large:
        assert isinstance(outcome, calloff.Completed)
        assert len(outcome.value) == LARGE
    else:
        assert isinstance(outcome, calloff.Failed)
        assert isinstance(outcome.error, ValueError)
        assert len(outcome.error.args[0]) == LARGE
        cause = str(outcome.error.__cause__)
        assert len(cause) < 1 << 19
        assert "in raise_large" in cause
        assert "left out" in cause
    assert turns > 10 or (function is return_large and part == b"x")
