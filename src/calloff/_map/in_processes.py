"""Several items in one job of a worker: `_child/batch.py` runs them and writes each result into memory that we read."""

import pickle
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from .._child.batch import MOST, run
from .._operation.operation import Operation
from .._places.process.packing import Packed, error_may_block, unpack_error
from .._places.process.unpickling import blamed, load, may_block, unpickle_aside
from .._words.errors import CalloffError
from .._words.outcome import Abandoned, Completed, Failed, Outcome, completed
from .batches import Batch, Batches
from .flight import Flight
from .sent import Call, Sent, Unsealed
from .spool import Spool, has_children
from .window import Window

if TYPE_CHECKING:
    from .sealing import Sealing

__all__ = ["InProcesses", "ProcessBatch"]


class InProcesses(Batches):
    """The lane of a blocking function in processes."""

    def __init__(
        self,
        window: Window,
        start: Callable[..., Operation[Any]],
        sent: Sent,
        batch: int | Literal["auto"],
        make: Callable[[Batches, list[Any], list[Any]], Batch] | None = None,
    ) -> None:
        super().__init__(window, start, batch if batch == "auto" else min(batch, MOST), make or _SpooledBatch)
        self.limit = window.plan.timeout
        self.sent = sent
        self.spools: list[Spool] = []
        self._sealing: Sealing | None = None
        if window.journal is not None:
            window.journal.hold()

    def not_started(self, items: list[Any], who: list[Any], error: Exception) -> None:
        """Those that run code of the program when they are pickled are pickled aside, and the others go on without them."""
        if not isinstance(error, Unsealed):
            super().not_started(items, who, error)
            return
        odd = set(error.numbers)
        good = [number for number in range(len(items)) if number not in odd]
        self.window.back([items[number] for number in good], [who[number] for number in good])
        if self._sealing is None:
            from .sealing import Sealing

            self._sealing = Sealing(self.window, self.start, self.sent.name, self.sent.seal)
        self._sealing.launch_these(
            [items[number] for number in error.numbers], [who[number] for number in error.numbers]
        )

    def stop(self, text: str, grace: float | None = None) -> None:
        """Call off every operation that is in flight."""
        super().stop(text, grace)
        if self._sealing is not None:
            self._sealing.owner = self.owner
            self._sealing.stop(text, grace)

    def running(self) -> tuple[Operation[Any], ...]:
        """Those of the batches that run."""
        own = super().running()
        return own if self._sealing is None else own + self._sealing.running()

    def close(self) -> None:
        """Give back the memory."""
        while self.spools:
            self.spools.pop().close()


class Results(Protocol):
    """Where a batch reads how far it is: a spool, or what a node tells of one."""

    def first(self) -> float:
        """Since when the first item ran; 0 before."""
        ...

    def began(self) -> float:
        """Since when an item runs; 0 between two items."""
        ...

    def has_more(self) -> bool:
        """Whether there are results that were not read."""
        ...

    def read(self, *, all_of_it: bool) -> tuple[list[float], list[Any]]:
        """The results that have come since the last look: when the items ended, and what came of them (see `Spool`)."""
        ...


class _Raised(NamedTuple):
    """What an item has raised, unpickled in a thread."""

    error: BaseException


class ProcessBatch(Batch):
    """A batch in a worker, here or elsewhere: what its results mean."""

    results: Results

    def __init__(self, lane: Batches, items: list[Any], who: list[Any]) -> None:
        super().__init__(lane, items, who)
        assert isinstance(lane, InProcesses)
        self._sent: Sent = lane.sent
        #: results that are unpickled in a thread, since that may take long
        self._aside: dict[Flight, Any] = {}

    def first(self) -> float:
        return self.results.first()

    def began(self) -> float:
        return self.results.began()

    def has_more(self) -> bool:
        return self.results.has_more()

    def read(self, *, all_of_it: bool) -> tuple[list[float], list[Any], bool]:
        ends, found = self.results.read(all_of_it=all_of_it)
        return ends, found, tuple not in map(type, found)

    def outcome_of(self, flight: Flight, found: Any, report: Any) -> Outcome[Any] | None:
        if type(found) is not tuple:
            return completed(found, report)
        is_value, data = found
        try:
            if (may_block if is_value else error_may_block)(data):
                self._unpickle_aside(flight, partial(self._unpickle, is_value, data), report)
                return None
            if not is_value:
                return Failed(unpack_error(data, self._sent.name), report)
            return completed(pickle.loads(data), report)
        except BaseException as problem:  # a pickle runs what it likes
            return Failed(blamed(problem, self._sent.name), report)

    def _unpickle(self, is_value: bool, data: bytes) -> Any:
        return load(data) if is_value else _Raised(unpack_error(data, self._sent.name))

    def _unpickle_aside(self, flight: Flight, unpickle: Callable[[], Any], report: Any) -> None:
        """In a thread: a pickle that names classes runs their code, and nobody else is to wait for that."""
        lane = self._lane
        loop = lane.window.loop
        self._aside[flight] = report

        def told(value: Any, problem: BaseException | None) -> None:
            loop.call_soon(self._unpickled, flight, value, problem, context=lane.window.context)

        unpickle_aside(unpickle, loop, told)
        if lane.limit is not None:
            patience = lane.limit + lane.grace + 1
            text = f"its result was not unpickled within {patience:g} s"
            loop.call_later(patience, self._unpickled, flight, None, CalloffError(text), context=lane.window.context)

    def _unpickled(self, flight: Flight, value: Any, problem: BaseException | None) -> None:
        if flight not in self._aside:
            return
        report = self._aside.pop(flight)
        if type(value) is _Raised:
            self._lane.window.ended(flight, Failed(value.error, report))
        elif problem is None:
            self._lane.window.ended(flight, Completed(value, report))
        else:
            self._lane.window.ended(flight, Failed(blamed(problem, self._sent.name), report))
        if not self._aside:
            self._lane.complete(self)

    def is_late(self) -> bool:
        return bool(self._aside)

    def wait_no_longer(self, why: str) -> None:
        for flight in tuple(self._aside):
            self._unpickled(flight, None, CalloffError(f"its result was not unpickled: {why}"))


class _SpooledBatch(ProcessBatch):
    """A batch in a worker of this machine, which writes into memory that we read."""

    def __init__(self, lane: Batches, items: list[Any], who: list[Any]) -> None:
        super().__init__(lane, items, who)
        assert isinstance(lane, InProcesses)
        sent = lane.sent
        sealed = sent.sealed(items, who)
        self._spools = lane.spools
        self._spool = lane.spools.pop() if lane.spools else Spool()
        self.results = self._spool
        self._spool.clear()
        try:
            args = sent.data, sealed, self._spool.path, lane.limit, sent.name, sent.memory
            work = Call(sent, partial(_packed, args), self.heard)
            self.operation = lane.start(work, grace=lane.grace, patience=lane.window.plan.patience)
        except BaseException:
            self._spool.close()
            raise
        self.look_if_it_begins()

    def may_tell_all(self) -> bool:
        return not has_children(self.operation.body)

    def take_back(self) -> int:
        behind = len(self._items) - self._told - self._spool.untold() - 1
        return behind if behind > 0 and self._spool.end_here() else 0

    def land(self, outcome: Outcome[Any]) -> None:
        super().land(outcome)
        if isinstance(outcome, Abandoned):
            self._spool.close()  # something may still write to it
        else:
            self._spools.append(self._spool)


def _packed(args: tuple[Any, ...]) -> Packed:
    """The call of a batch: plain values, bytes and buffers that were pickled before."""
    buffers: list[pickle.PickleBuffer] = []
    return pickle.dumps((run, args, {}), 5, buffer_callback=buffers.append), buffers
