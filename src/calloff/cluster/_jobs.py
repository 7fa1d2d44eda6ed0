"""What runs at an agent: each job stands for an operation of the owner's, and passes on whatever its body tells.

Nothing of the functions' is unpickled here, so nobody's code holds the agent up.
"""

import contextlib
import pickle
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

from .._child.lease import now
from .._child.short import short_value
from .._places.process.body import ProcessBody
from .._words.frame import RawStack, develop
from .._words.place import Sink
from .._words.reason import Kind, Reason
from .._words.ref import Ref
from .._words.report import Rung

if TYPE_CHECKING:
    from ._agent import Agent

__all__ = ["Job", "Jobs"]


class Jobs:
    """All that runs at an agent, by the tokens of its owner."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent
        self._jobs: dict[int, Job] = {}
        self._early: set[int] = set()
        self._highest = 0

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def start(
        self,
        token: int,
        ref: tuple[str, str],
        valid: float,
        left: float | None,
        force: float | None,
        stamp: Any,
        luggage: Any = None,
        *,
        data: bytes,
        buffers: list[Any],
        kind: "type[Job] | None" = None,
    ) -> None:
        """Begin it, unless it was begun before, was called off meanwhile, or comes too late."""
        agent = self._agent
        if token in self._jobs:  # the wire brought it twice; what is told of the first is told of both
            return
        if token <= self._highest:
            agent.tell("refused-start", token, "it came twice, or behind a later one")
            return
        self._highest = token
        if token in self._early:
            self._early.discard(token)
            agent.tell("stopped", token, int(Rung.ASKED), ())
            return
        if agent.is_over() or now() > valid:
            agent.tell("refused-start", token, "it came when the lease was over")
            return
        job = self._jobs[token] = (kind or Job)(agent, token, ref)
        job.limit(left, force)
        body = job.body = _Relayed((job.packed(data), [PickleBuffer(each) for each in buffers]), ref[1], (), stamp)
        body.luggage = luggage
        try:
            body.begin(job)
        except Exception as error:
            job.raised(error)

    def ask(
        self, token: int, kind: str, text: str, by: str | None, ago: float, left: float | None, force: float | None
    ) -> None:
        """Ask it to end; remembered when it comes before the start."""
        job = self._jobs.get(token)
        if job is None:
            if token > self._highest:
                self._early.add(token)
            return
        job.limit(left, force)
        if job.reason is None:
            job.reason = Reason(Kind(kind), text, by, self._agent.loop.time() - ago)
            job.body.ask(text)
        else:
            job.body.limited()

    def limit(self, token: int, left: float | None, force: float | None) -> None:
        """Its deadline was changed."""
        if (job := self._jobs.get(token)) is not None:
            job.limit(left, force)
            job.body.limited()

    def force(self, token: int) -> None:
        """Kill it."""
        if (job := self._jobs.get(token)) is not None:
            job.body.force()

    def spool(self, token: int, what: int, number: int, limit: float | None, grace: float) -> None:
        """Look at how far a batch is, and do something about it if that holds here."""
        if (job := self._jobs.get(token)) is not None:
            job.spool(what, number, limit, grace)

    def look(self, token: int) -> None:
        """Tell where it is."""
        if (job := self._jobs.get(token)) is not None:
            self._agent.loop.run_in_executor(None, self._seen, job)

    def _seen(self, job: "Job") -> None:
        agent, stack = self._agent, _plain(job.body.where())
        with contextlib.suppress(RuntimeError):
            agent.loop.call_soon_threadsafe(lambda: agent.tell("seen", job.token, stack))

    def drop(self, token: int) -> None:
        """Nothing of it lives any more."""
        self._jobs.pop(token, None)

    def stop_for_lease(self) -> None:
        """The owner is given up: the guards kill."""
        for job in tuple(self._jobs.values()):
            job.stop_for_lease()


class Job(Sink):
    """What stands for the operation here: whatever its body tells is passed on."""

    def __init__(self, agent: "Agent", token: int, ref: tuple[str, str]) -> None:
        self._agent = agent
        self.token: int = token
        self.body: _Relayed
        self._ref = Ref(*ref)
        self._deadline: float | None = None
        self._force_at: float | None = None
        self._reason: Reason | None = None
        self._since: float = agent.loop.time()

    def packed(self, data: bytes) -> bytes:
        """The call for the worker."""
        return data

    def spool(self, what: int, number: int, limit: float | None, grace: float) -> None:
        """Asked of batches only."""

    def limit(self, left: float | None, force: float | None) -> None:
        """The deadline, and when force is due, in seconds from now."""
        here = self._agent.loop.time()
        self._deadline = None if left is None else here + left
        self._force_at = None if force is None else here + force

    def stop_for_lease(self) -> None:
        """The owner is given up."""
        if self._reason is None:
            self._reason = Reason(Kind.DISCONNECTED, "the lease of its owner is over", None, self._agent.loop.time())
        if self.body.worker is None:
            self.body.ask("")
        else:
            self.body.force()

    @property
    def ref(self) -> Ref:
        return self._ref

    @property
    def reason(self) -> Reason | None:
        return self._reason

    @reason.setter
    def reason(self, reason: Reason) -> None:
        self._reason = reason

    @property
    def elapsed(self) -> float:
        return self._agent.loop.time() - self._since

    @property
    def deadline(self) -> float | None:
        return self._deadline

    @property
    def allowed(self) -> tuple[float | None, float]:
        return None, 0.0  # the owner counts

    @property
    def force_at(self) -> float | None:
        return self._force_at

    def entered(self, since: float = 0.0) -> None:
        """The owner has counted from the moment at which it was sent."""

    entered_elsewhere = entered

    def located(self, where: RawStack, /) -> None:
        self._agent.tell("located", self.token, _plain(where))

    def refused(self) -> None:
        self._agent.tell("refused", self.token)

    def progressed(self, value: Any, /) -> None:
        self._pass_on("progressed", value)

    def helped(self, name: str, /) -> None:
        self._agent.tell("helped", self.token, name)

    def blocked(self, now: float, /) -> None:
        """No body in a process blocks this loop."""

    def is_over(self, now: float, /) -> bool:
        return False

    def cancel(self, reason: str | None = None, *, grace: float | None = None) -> bool:
        self._agent.tell("cancel", self.token, reason, grace)
        return True

    def returned(self, value: Any, /, survivors: tuple[str, ...] = ()) -> None:
        raise AssertionError("results are passed on as they are")

    def raised(self, error: BaseException, /, survivors: tuple[str, ...] = ()) -> None:
        if self._agent.is_over():
            self.stopped(Rung.KILLED, survivors)
            return
        self._ended(survivors)
        self._pass_on("raised", error, survivors)

    def stopped(
        self, rung: Rung | None = None, /, survivors: tuple[str, ...] = (), error: BaseException | None = None
    ) -> None:
        self._ended(survivors)
        if self._agent.is_over() and not survivors:
            self._agent.tell("lost", self.token)
            return
        self._agent.tell("stopped", self.token, None if rung is None else int(rung), survivors)

    def done(self, kind: str, data: Any, buffers: list[Any], reached: bool, survivors: tuple[str, ...]) -> None:
        """The function has ended, and this is the pickle of its result."""
        self._ended(())
        self._agent.tell("done", self.token, kind, reached, survivors, data=data, buffers=buffers)

    def _ended(self, survivors: tuple[str, ...]) -> None:
        if not survivors:
            self._agent.jobs.drop(self.token)

    def _pass_on(self, kind: str, value: Any, *more: Any) -> None:
        try:
            data = pickle.dumps(value, 5)
        except Exception:
            data = pickle.dumps(repr(value) if kind == "progressed" else RuntimeError(repr(value)), 5)
        self._agent.tell(kind, self.token, *more, data=data)


class _Relayed(ProcessBody):
    """A function in a worker, whose result nobody unpickles here."""

    __slots__ = ()

    def finish(self, kind: str, data: Any, buffers: list[Any], reached: bool, survivors: tuple[str, ...] = ()) -> None:
        """Pass the result on."""
        self.worker = None
        self.reached = reached
        sink = self.sink
        assert isinstance(sink, Job)
        if kind == "plain":
            kind, data = "value", short_value(data)
        sink.done(kind, bytes(data), buffers, reached, survivors)


def _plain(stack: RawStack) -> tuple[tuple[str, int, str, str], ...]:
    return tuple((each.file, each.line, each.function, each.source) for each in develop(stack))
