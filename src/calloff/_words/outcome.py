"""The ending of an operation as a value: a closed union that ``match`` exhausts."""

from collections import deque
from collections.abc import Sequence
from itertools import repeat
from typing import Generic, NoReturn, TypeAlias, TypeVar

from .errors import ended_error
from .reason import Reason, why
from .ref import Ref
from .report import StopReport, how, places
from .text import clean, short
from .value import Value, dataclass, put

__all__ = ["Abandoned", "Cancelled", "Completed", "Failed", "Outcome", "completed", "completed_each", "verdict"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Completed(Value, Generic[T_co]):
    """The body returned. With a `report`, a stop was asked and the body returned all the same."""

    __slots__ = __match_args__ = ("value", "report")
    value: T_co
    report: StopReport | None

    def __init__(self, value: T_co, report: StopReport | None = None) -> None:
        put(self, "value", value)
        put(self, "report", report)

    def unwrap(self) -> T_co:
        """The value."""
        return self.value

    def __str__(self) -> str:
        return "; ".join((f"completed with {clean(short(self.value))}", *verdict(self)))

    def _repr_html_(self) -> str:
        return _table("completed", clean(short(self.value)), self.report)


_new = object.__new__
_set_value, _set_report = (vars(Completed)[name].__set__ for name in ("value", "report"))


def completed(value: T, report: StopReport | None = None) -> Completed[T]:
    """The same as `Completed(value, report)`, made in half the time."""
    made: Completed[T] = _new(Completed)
    _set_value(made, value)
    _set_report(made, report)
    return made


def completed_each(values: Sequence[T]) -> list[Completed[T]]:
    """`completed` of each, in C."""
    made: list[Completed[T]] = list(map(_new, repeat(Completed, len(values))))
    deque(map(_set_value, made, values), maxlen=0)
    deque(map(_set_report, made, repeat(None)), maxlen=0)
    return made


@dataclass(frozen=True)
class Failed(Value):
    """The body raised `error` itself. With a `report`, it did so after a stop was asked."""

    __slots__ = __match_args__ = ("error", "report")
    error: BaseException
    report: StopReport | None

    def __init__(self, error: BaseException, report: StopReport | None = None) -> None:
        put(self, "error", error)
        put(self, "report", report)

    def unwrap(self) -> NoReturn:
        """Raise the body's error."""
        raise self.error

    def __str__(self) -> str:
        return "; ".join((f"failed: {clean(short(self.error))}", *verdict(self)))

    def _repr_html_(self) -> str:
        return _table("failed", clean(short(self.error)), self.report)


@dataclass(frozen=True)
class Cancelled(Value):
    """The body was stopped and is known to be gone; the report says by whom, why and how."""

    __slots__ = __match_args__ = ("operation", "report")
    operation: Ref
    report: StopReport

    def __init__(self, operation: Ref, report: StopReport) -> None:
        put(self, "operation", operation)
        put(self, "report", report)

    @property
    def reason(self) -> Reason:
        """Why it was stopped."""
        return self.report.reason

    def unwrap(self) -> NoReturn:
        """Raise `TimedOut` for a deadline or stall, else `OperationCancelled`."""
        raise ended_error(self.operation, self.report)

    def __str__(self) -> str:
        return "; ".join(verdict(self, self.operation))

    def _repr_html_(self) -> str:
        return _table("cancelled", "", self.report, self.operation.name)


@dataclass(frozen=True)
class Abandoned(Value):
    """The body could not be stopped: control was taken back, the report says where the body is stuck."""

    __slots__ = __match_args__ = ("operation", "report")
    operation: Ref
    report: StopReport

    def __init__(self, operation: Ref, report: StopReport) -> None:
        put(self, "operation", operation)
        put(self, "report", report)

    @property
    def reason(self) -> Reason:
        """Why it was to be stopped."""
        return self.report.reason

    def unwrap(self) -> NoReturn:
        """Raise `TimedOut` for a deadline or stall, else `OperationCancelled`."""
        raise ended_error(self.operation, self.report)

    def __str__(self) -> str:
        return "; ".join(verdict(self, self.operation))

    def _repr_html_(self) -> str:
        return _table("abandoned", "", self.report, self.operation.name)


Outcome: TypeAlias = Completed[T] | Failed | Cancelled | Abandoned


def verdict(outcome: "Outcome[object]", ref: Ref | None = None) -> list[str]:
    """Say in words what ended an operation, how hard that was, and where it was: a line each.

    Nothing for an ending that nobody asked for: the value or the error says all. `ref` is the operation, to name it.
    """
    report = outcome.report
    if report is None:
        return []
    own_end = ""
    if isinstance(outcome, Completed):
        own_end = "came to its own end all the same,"
    elif isinstance(outcome, Failed):
        own_end = f"raised {type(outcome.error).__name__}"
    name = "it" if ref is None else repr(ref.name)
    return [clean(line) for line in (f"{name} {why(report.reason)}: {how(report, own_end)}", *places(report))]


def _table(word: str, said: str, report: StopReport | None, name: str = "it") -> str:
    from .html import table  # only notebooks want it

    return table(word, said, report, name)
