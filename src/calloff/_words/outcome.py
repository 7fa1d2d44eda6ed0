"""The ending of an operation as a value: a closed union that ``match`` exhausts."""

from dataclasses import dataclass
from typing import Generic, NoReturn, TypeAlias, TypeVar

from .errors import ended_error
from .reason import Reason
from .ref import Ref
from .report import StopReport

__all__ = ["Abandoned", "Cancelled", "Completed", "Failed", "Outcome"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Completed(Generic[T_co]):
    """The body returned. With a `report`, a stop was asked and the body returned all the same."""

    value: T_co
    report: StopReport | None = None

    def unwrap(self) -> T_co:
        """The value."""
        return self.value


@dataclass(frozen=True, slots=True)
class Failed:
    """The body raised `error` itself. With a `report`, it did so after a stop was asked."""

    error: BaseException
    report: StopReport | None = None

    def unwrap(self) -> NoReturn:
        """Raise the body's error."""
        raise self.error


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The body was stopped and is known to be gone; the report says by whom, why and how."""

    operation: Ref
    report: StopReport

    @property
    def reason(self) -> Reason:
        """Why it was stopped."""
        return self.report.reason

    def unwrap(self) -> NoReturn:
        """Raise `TimedOut` for a deadline or stall, else `OperationCancelled`."""
        raise ended_error(self.operation, self.report)


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The body could not be stopped: control was taken back, the report says where the body is stuck."""

    operation: Ref
    report: StopReport

    @property
    def reason(self) -> Reason:
        """Why it was to be stopped."""
        return self.report.reason

    def unwrap(self) -> NoReturn:
        """Raise `TimedOut` for a deadline or stall, else `OperationCancelled`."""
        raise ended_error(self.operation, self.report)


Outcome: TypeAlias = Completed[T] | Failed | Cancelled | Abandoned
