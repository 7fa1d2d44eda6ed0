"""A function in a worker process as the body of an operation."""

import logging
import pickle
from asyncio import CancelledError, get_running_loop
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from ..._child.short import SHORT, load_value, short_call
from ..._words.bears import bears
from ..._words.errors import CalloffError, WorkerDied
from ..._words.frame import RawStack
from ..._words.luggage import Luggage, luggage_of
from ..._words.place import Body, Sink, Work
from ..._words.report import Rung
from ..._words.untouched import is_a
from .facts import Stamp, stamp_of
from .packing import FOUND, Packed, error_may_block, out_of_reach, pack, unpack_error
from .pool import Pool, pool_of
from .unpickling import attempt, blamed, load, may_block, unpickle_aside

if TYPE_CHECKING:
    from .worker import Worker

__all__ = ["ProcessBody", "ProcessWork"]

T = TypeVar("T")
_logger = logging.getLogger("calloff")
#: up to how many bytes a call is kept, to be given to another worker when the first one died before it began
_LARGE = 1 << 20
_TRIES = 3


class ProcessWork(Work[T]):
    """A call for a process that was not started yet; made by `calloff.process`."""

    __slots__ = ("_args", "_function", "_kwargs", "name")
    place = "process"

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> None:
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self.name: str = name

    @bears
    def open(self) -> "ProcessBody":
        """The body; `TypeError` when something can't be sent."""
        function = self._function
        short = short_call(function, self._args, self._kwargs)
        if short is not None and (function.__module__ in FOUND or out_of_reach(function) is None):
            packed: Packed = (short, [])
        else:
            packed = pack(function, self._args, self._kwargs, self.name)
        return ProcessBody(packed, self.name, _first_line(function), stamp_of(function))

    def __repr__(self) -> str:
        return f"<calloff.process {self.name}>"


def _first_line(function: Any) -> RawStack:
    """Where the function is, for when nothing nearer can be known."""
    kind = type(function)
    if kind is BuiltinFunctionType:
        return (("<built-in>", 0, function.__qualname__),)
    if kind is not FunctionType:
        while isinstance(function, partial):
            function = function.func
    code = getattr(function, "__code__", None) or getattr(getattr(function, "__wrapped__", None), "__code__", None)
    if code is None:
        return (("<built-in>", 0, getattr(function, "__qualname__", type(function).__qualname__)),)
    return ((code.co_filename, code.co_firstlineno, code.co_name),)


class ProcessBody(Body):
    """Runs a function in a worker for an operation."""

    __slots__ = (
        "_asked_at",
        "_first_line",
        "_known",
        "_pool",
        "luggage",
        "name",
        "packed",
        "reached",
        "sink",
        "stamp",
        "tries",
        "unpickling",
        "worker",
    )
    place = "process"
    queued = True

    def __init__(self, packed: Packed, name: str, first_line: RawStack, stamp: Stamp | None) -> None:
        self.name: str = name
        self._first_line = first_line
        #: where it was seen last; until then its first line
        self._known: RawStack = first_line
        self._asked_at: RawStack = ()
        self.packed: Packed | None = packed
        self.stamp: Stamp | None = stamp
        self.luggage: Luggage | None = None
        self.reached: bool = False
        self.tries: int = 0
        self.unpickling: bool = False
        self.worker: Worker | None = None

    @property
    def pid(self) -> int | None:  # type: ignore[override]  # computed when it is read
        """Of the worker that it runs in."""
        worker = self.worker
        return None if worker is None else worker.pid

    # --- what the operation asks for

    def begin(self, sink: Sink) -> None:
        """Give it to a free worker, or have it wait its turn."""
        self.sink: Sink = sink
        if self.luggage is None:
            self.luggage = luggage_of(sink)
        self._pool: Pool = pool_of(get_running_loop())
        self._pool.submit(self)

    def ask(self, text: str) -> RawStack | None:
        """The worker raises `CancelledError` in the function; what waits for a worker never runs."""
        worker = self.worker
        if worker is None:
            if self.unpickling:  # which nobody can stop; it may yet end in time
                return self._first_line
            self._pool.withdraw(self)
            self.sink.stopped(Rung.ASKED)
            return ()
        worker.ask(self.sink)
        return None

    def insist(self) -> bool:
        """A function that refused is not asked again."""
        return False

    def force(self) -> bool:
        """Kill the worker and everything below it."""
        if self.worker is not None:
            self.worker.kill()
        return True

    def abandon(self) -> bool:
        """Something is out of reach of SIGKILL (it waits inside the kernel); the guard goes on trying."""
        return False

    def survivors(self) -> tuple[str, ...]:
        """The thread that unpickles the result, or what lives below a guard that has not come to tell in time."""
        if self.unpickling:
            return (f"the thread that unpickles the result of {self.name}",)
        return () if self.worker is None else self.worker.guarded.survivors()

    def limited(self) -> None:
        """The deadline was changed."""
        if self.worker is not None:
            self.worker.limit(self.sink)

    def look(self) -> None:
        """Somebody is about to call `where` of this and of others: so that they need not wait for one after another."""
        worker = self.worker
        if worker is not None:
            worker.look()

    def where(self) -> RawStack:
        """The stack of the function in its worker; asked there, and waited for at most 60 ms. From any thread."""
        worker = self.worker
        if worker is None:
            return ()
        self._known = worker.where() or self._known  # a worker that is given no turn does not answer in time
        return self._known

    def known_where(self) -> RawStack:
        """Where the function was seen last, without asking the worker; at first that is its first line."""
        return () if self.worker is None else self._known

    # --- what the worker tells

    def entered(self, worker: "Worker") -> None:
        """The function is on its way to a worker."""
        self.worker, self._known = worker, self._first_line
        assert self.packed is not None
        if len(self.packed[0]) > _LARGE or self.packed[1]:
            self.packed = None

    def located(self, stack: RawStack) -> None:
        """Where the function was when it was asked."""
        self._asked_at = self._known = stack or self._known
        self.sink.located(self._asked_at)

    def finish(self, kind: str, data: Any, buffers: list[Any], reached: bool, survivors: tuple[str, ...] = ()) -> None:
        """The function has ended.

        Args:
            kind: ``plain``, ``value``, ``error`` or ``cancelled``.
            data: the value itself where it is plain, else the pickle of it.
            buffers: the large buffers of that.
            reached: whether the asking had arrived in the function and was not counted as refused yet.
            survivors: what it has left behind and could not be killed.
        """
        self.worker = None
        self.reached = reached
        sink = self.sink
        if survivors and kind != "cancelled":
            self._warn(survivors)
        if kind == "plain":
            sink.returned(data)
        elif kind == "cancelled":
            self._stopped(Rung.ASKED, survivors)
        elif kind != "value":
            if error_may_block(data):
                self._unpickle_aside(partial(unpack_error, data, self.name), kind)
            else:
                self._deliver(kind, *attempt(unpack_error, data, self.name))
        elif data[:1] == SHORT:
            sink.returned(load_value(data))
        elif may_block(data):
            self._unpickle_aside(partial(load, data, buffers), kind)
        else:
            try:
                value = pickle.loads(data, buffers=buffers)
            except BaseException as problem:
                sink.raised(blamed(problem, self.name))
            else:
                sink.returned(value)

    def _unpickle_aside(self, unpickle: Callable[[], Any], kind: str) -> None:
        self.unpickling = True
        unpickle_aside(unpickle, get_running_loop(), partial(self._unpickled, kind))

    def _unpickled(self, kind: str, found: Any, problem: BaseException | None) -> None:
        self.unpickling = False
        self._deliver(kind, found, problem)

    def _deliver(self, kind: str, found: Any, problem: BaseException | None) -> None:
        sink = self.sink
        if problem is not None:
            sink.raised(blamed(problem, self.name))
        elif kind == "value":
            sink.returned(found)
        elif is_a(found, CancelledError):  # it raised that by itself
            sink.stopped(None, (), found)
        else:
            sink.raised(found)

    def killed(self, survivors: tuple[str, ...], rung: Rung = Rung.KILLED, *, nobody_knows: bool = False) -> None:
        """Everything is dead and reaped, but for `survivors`; whether these ever end, perhaps nobody will come to know."""
        self.worker = None
        self._stopped(rung, survivors)
        if nobody_knows:
            self.sink.stopped(Rung.ABANDONED)

    def _stopped(self, rung: Rung, survivors: tuple[str, ...]) -> None:
        self.sink.stopped(rung, survivors=survivors)
        if self._asked_at:  # of a limit that the loop was late for, the stop begins only now
            self.sink.located(self._asked_at)

    def died(self, status: int | None, why: str, begun: bool, survivors: tuple[str, ...] = ()) -> None:
        """The worker ended by itself; nothing is lost when it had not begun with the function."""
        self.worker = None
        if survivors:
            self._warn(survivors)
        if not begun and self.packed is not None and self.tries < _TRIES and self.sink.reason is None:
            try:
                self._pool.submit(self)
            except (OSError, CalloffError) as error:
                self.failed(error)
            return
        if not begun and self.sink.reason is not None:  # it was called off, and never ran
            self.sink.stopped(Rung.ASKED, survivors=survivors)
            return
        signum = -status if status is not None and status < 0 else None
        why = why if begun else f"{why}, before it had begun with {self.name}"
        self.sink.raised(WorkerDied(why, signal=signum, status=status if signum is None else None))

    def _warn(self, survivors: tuple[str, ...]) -> None:
        _logger.warning("%s left behind what could not be killed: %s", self.name, "; ".join(survivors))

    def failed(self, error: Exception) -> None:
        """There is no worker for it."""
        self.worker = None
        self.sink.raised(error)
