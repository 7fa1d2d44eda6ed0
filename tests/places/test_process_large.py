"""Large results are received in parts, between which the loop goes on, and are what was sent."""

import marshal
import socket
from pickle import PickleBuffer
from typing import cast

import pytest

import calloff
from calloff._child.wire import Reader, frame

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
    flood = Flood(frame((1, "value"), b"body" * 100, [PickleBuffer(value)]))
    reader = Reader(cast("socket.socket", flood))
    reader.is_last = all_of_it
    turns = 1
    while (found := reader.read()) is None:
        turns += 1
    assert turns == 1 if all_of_it else turns >= 5
    meta, body, buffers = found
    assert meta == (1, "value")
    assert bytes(body) == b"body" * 100
    assert [(type(each), each == value) for each in buffers] == [(kind, True)]


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
