"""So many at a time: what waits for its turn in a group is an operation all the same, in state `pending`."""

from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from .._words.frame import RawStack
from .._words.place import Body, Sink, Work
from .._words.report import Rung
from .operation import Operation

__all__ = ["Turns"]


class Turns:
    """Lets at most `jobs` bodies run at a time, first come, first served."""

    def __init__(self, jobs: int, body_of: Callable[[Any], Body], give_back: Callable[[Any], object]) -> None:
        self.jobs = jobs
        self.free: int = jobs
        self.body_of = body_of
        self.give_back = give_back
        self.waiting: deque[_Turn] = deque()
        self.running: set[object] = set()

    def work(self, work: Any) -> "Work[Any]":
        """The same work, which waits for its turn.

        Raises:
            TypeError, RuntimeError: it is no work, or was awaited.
        """
        return _Waiting(self, self.body_of(work))

    def ended(self, operation: object) -> None:
        """One is over; told when the group has heard of it, which may have called off what waits."""
        if operation not in self.running:
            return  # it never had its turn
        self.running.discard(operation)
        self.free += 1
        while self.free and self.waiting:
            self.free -= 1
            self.waiting.popleft().come()


class _Waiting(Work[Any]):
    def __init__(self, turns: Turns, body: Body) -> None:
        self.place = body.place
        self._turns = turns
        self._body = body

    def open(self) -> "_Turn":
        return _Turn(self._turns, self._body)


class _Turn(Body):
    """Stands in the place of a body until its turn comes."""

    __slots__ = ("_body", "_context", "_operation", "_turns", "name", "place")
    queued = True

    def __init__(self, turns: Turns, body: Body) -> None:
        self._turns = turns
        self._body = body
        self.place: str = body.place
        self.name: str = body.name

    def begin(self, sink: Sink) -> None:
        """At once, if there is room."""
        assert isinstance(sink, Operation)
        self._operation = sink
        self._context = copy_context()
        turns = self._turns
        if turns.free:
            turns.free -= 1
            turns.running.add(sink)
            sink.take_turn(self._body)
        else:
            turns.waiting.append(self)

    def come(self) -> None:
        """It is its turn."""
        operation, turns = self._operation, self._turns
        turns.running.add(operation)
        try:
            self._context.run(operation.take_turn, self._body)
        except Exception as error:  # no thread or process is to be had
            if not operation.done():
                operation.raised(error)

    def ask(self, text: str) -> RawStack | None:
        """It never runs."""
        self._turns.waiting.remove(self)
        self._turns.give_back(self._body.coro)
        self._operation.stopped(Rung.ASKED)
        return ()

    def force(self) -> bool:
        """It has ended when it was asked."""
        return True

    def abandon(self) -> bool:
        """It has ended when it was asked."""
        return False

    def where(self) -> RawStack:
        """Nowhere."""
        return ()
