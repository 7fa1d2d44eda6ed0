"""Everything calloff raises, as a map::

    CalloffError (Exception)
    ├── TimedOut (also TimeoutError)   a deadline or stall ended it: the work's fault, or the limit was too short
    ├── WorkerDied                     the process that ran it died: the work's fault (segfault, memory, os._exit)
    └── CommandFailed                  the command ended with a status other than 0: the command's fault
    asyncio.CancelledError
    └── OperationCancelled             anything else called the operation off: whoever asked, see .reason
    BaseException
    └── StopForced                     raised *in* a body that ignored its cancel until grace was over

Their texts are made when they are read: cancelling a hundred thousand operations renders none of them. Each says of
itself that it is at home in ``calloff``, so that tracebacks show the path that a program imports it from.
"""

from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

from .frame import Frame, RawStack, at_line, develop
from .reason import LIMITS, Kind, Reason, why
from .ref import Ref
from .report import Rung, StopReport
from .untouched import cause_of, fields_of, is_a

__all__ = [
    "CalloffError",
    "CommandFailed",
    "OperationCancelled",
    "StopForced",
    "TimedOut",
    "WorkerDied",
    "carry",
    "ended_error",
    "is_cancel",
    "raise_carried",
]


#: what is noted at a cancel whose cause goes on with it
_CARRIED = "_calloff_carried"


class CalloffError(Exception):
    """Base of what calloff raises as an ordinary error."""

    __module__ = "calloff"


class _Ended:
    """What the two endings by a stop have in common: evidence, a text made from it, and pickling."""

    operation: Ref | None
    reason: Reason

    def __init__(
        self,
        operation: Ref | None,
        reason: Reason,
        report: StopReport | Callable[[], StopReport] | None = None,
        text: str = "",
        raw: RawStack = (),
    ) -> None:
        super().__init__()
        self.operation = operation
        self.reason = reason
        self._report = report
        self._text = text
        self._raw = raw

    def __reduce__(self) -> tuple[Any, ...]:
        told = tuple(tuple(frame) for frame in develop(self._raw))  # code can't be pickled
        return type(self), (self.operation, self.reason, self.report, self._text, told)

    def __str__(self) -> str:
        if self._text:
            return self._text + _where(None, develop(self._raw))
        name = repr(self.operation.name) if self.operation else "the block"
        return f"{name} {self._verb()}{_where(self.report, self.where)}"

    def __repr__(self) -> str:  # in lists of results, where nobody reads its text
        return f"{type(self).__name__}({str(self)!r})"

    @property
    def report(self) -> StopReport | None:
        """How the stop went; ``None`` for a block."""
        if callable(self._report):
            self._report = self._report()
        return self._report

    @property
    def where(self) -> tuple[Frame, ...]:
        """The stack of the body when it was stopped, outermost first."""
        return develop(self._raw) if self.report is None else self.report.where

    def _verb(self) -> str:
        raise NotImplementedError


class TimedOut(_Ended, CalloffError, TimeoutError):
    """A deadline or a stall stopped the operation or the block.

    Attributes:
        operation: id and name of the operation, or ``None`` for a block outside any.
        reason: kind `deadline` or `stalled`, and the limit in words.
        report: how the stop went; ``None`` for a block, and for a group, whose text names one that was running.
    """

    __module__ = "calloff"

    def _verb(self) -> str:
        return why(self.reason)


class OperationCancelled(_Ended, CancelledError):
    """The operation was called off by something other than its own limits.

    The cancel of the code that awaits it is never an `OperationCancelled` of that operation.

    Attributes:
        operation: id and name of the operation.
        reason: who asked and why.
        report: how the stop went.
    """

    __module__ = "calloff"

    def _verb(self) -> str:
        words = "was cancelled"
        if self.reason.kind is not Kind.REQUESTED:
            words += f" ({self.reason.kind})"
        if self.reason.text:
            words += f": {self.reason.text}"
        if self.reason.by:
            words += f" (asked by {self.reason.by})"
        return words


class StopForced(BaseException):
    """Raised in the body of an operation, in place of `asyncio.CancelledError`, once its grace is over.

    Not an `Exception` and not a `CancelledError`: code that swallows those does not swallow this. ``finally`` blocks
    run and may await. Let it pass. What puts things in order in an ``except CancelledError`` and raises again gets a
    subclass of both.
    """

    __module__ = "calloff"


def is_cancel(error: object) -> bool:
    """Return whether an exception is a cancel that is not force at the same time."""
    return is_a(error, CancelledError) and not is_a(error, StopForced)


def carry(cancel: BaseException, failure: BaseException) -> None:
    """Have a cancel, as its cause, carry an error that it goes before: whoever swallows the cancel raises the error."""
    cancel.__cause__ = failure
    fields_of(cancel)[_CARRIED] = True


def raise_carried(cancel: BaseException) -> None:
    """Raise the error that a cancel which is swallowed now has gone before, if it carries one."""
    failure = cause_of(cancel)
    if failure is None or not fields_of(cancel).pop(_CARRIED, False):
        return
    former = failure.__context__
    cancel.__cause__ = None  # what is raised holds the cancel, by its frames
    try:
        raise failure
    finally:
        failure.__context__ = former
        del failure, former, cancel


class WorkerDied(CalloffError):
    """The process that ran the work died without an answer.

    Attributes:
        signal: the number of the signal that killed it, or ``None``.
        status: its exit status, or ``None``.
    """

    __module__ = "calloff"

    def __init__(self, text: str, *, signal: int | None = None, status: int | None = None) -> None:
        super().__init__(text)
        self.signal = signal
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        return _worker_died, (str(self), self.signal, self.status)


def _worker_died(text: str, signal: int | None, status: int | None) -> WorkerDied:
    return WorkerDied(text, signal=signal, status=status)


class CommandFailed(CalloffError):
    """A command ended with a status other than 0.

    Attributes:
        argv: the program and its arguments.
        status: its exit status; minus the signal number when a signal ended it.
        stderr: the tail of what it wrote to standard error, if that was captured.
        stdout: what it wrote to standard output, if that was captured.
    """

    __module__ = "calloff"

    def __init__(self, argv: tuple[str, ...], status: int, stderr: str = "", stdout: bytes = b"") -> None:
        super().__init__(argv, status, stderr, stdout)
        self.argv = argv
        self.status = status
        self.stderr = stderr
        self.stdout = stdout

    def __str__(self) -> str:
        how = f"was ended by signal {-self.status}" if self.status < 0 else f"ended with status {self.status}"
        tail = f": {self.stderr.strip()}" if self.stderr.strip() else ""
        return f"{self.argv[0]!r} {how}{tail}"


def ended_error(operation: Ref, report: StopReport) -> TimedOut | OperationCancelled:
    """The exception for an operation that was stopped: `TimedOut` for its limits, else `OperationCancelled`."""
    if report.reason.kind in LIMITS:
        return TimedOut(operation, report.reason, report)
    return OperationCancelled(operation, report.reason, report)


def _where(report: StopReport | None, frames: tuple[Frame, ...]) -> str:
    if report is not None and report.rung is Rung.ABANDONED:
        line = at_line(report.stuck_at) or at_line(report.where)
        return f" and could not be stopped: stuck at {line}" if line else " and could not be stopped"
    line = at_line(frames)
    return f": at {line}" if line else ""
