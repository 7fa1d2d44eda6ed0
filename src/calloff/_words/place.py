"""What an operation and the place that runs its body expect of each other.

The operation decides (when to ask, to insist, to force, to give up); the body carries it out and says how it ended.
Neither imports the other: a new place is a new `Body`, nothing else changes.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from .frame import RawStack
from .reason import Reason
from .ref import Ref
from .report import Rung

__all__ = ["AsyncWork", "Body", "Sink", "Work"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Sink(Protocol):
    """The operation as its body sees it. All calls are made on the thread of the event loop, unless said otherwise."""

    def entered(self) -> None:
        """The body is about to run its first step, in the current context, which becomes the operation's own."""

    def located(self, where: RawStack, /) -> None:
        """The request has arrived; the body was there."""

    def refused(self) -> None:
        """The body was asked and went on; for a place that hears of it by itself."""

    def returned(self, value: Any, /) -> None:
        """The body ended with a value."""

    def raised(self, error: BaseException, /) -> None:
        """The body ended with an error of its own."""

    def stopped(self, rung: Rung | None = None, /, survivors: tuple[str, ...] = ()) -> None:
        """The body ended because it was stopped; `rung` where the place knows better than the ladder."""

    def blocked(self, now: float, /) -> None:
        """The body blocks the loop, so that no timer runs: take the steps that are due."""

    def progressed(self, value: Any, /) -> None:
        """The body reported progress."""

    # What places in other processes tell theirs, and may ask in their name.

    @property
    def ref(self) -> Ref:
        """Id and name."""
        ...

    @property
    def reason(self) -> Reason | None:
        """Why it was asked to stop."""
        ...

    @property
    def deadline(self) -> float | None:
        """When it is stopped, on the clock of the loop."""
        ...

    @property
    def force_at(self) -> float | None:
        """When force is due at the latest, as things stand, on the clock of the loop."""
        ...

    def cancel(self, reason: str | None = None, *, grace: float | None = None) -> bool:
        """Ask for the stop."""
        ...


class Body(Protocol):
    """One piece of work at a place. Every method returns at once."""

    @property
    def place(self) -> str:
        """The word for where it runs."""
        ...

    @property
    def name(self) -> str:
        """The name of the function or program."""
        ...

    @property
    def insists(self) -> bool:
        """Whether asking again after a refusal means anything here."""
        ...

    @property
    def reached(self) -> bool:
        """Whether the latest request has arrived in the body."""
        ...

    def begin(self, sink: Sink, /) -> None:
        """Start the work; exactly one of `returned`, `raised`, `stopped` follows in time."""

    def ask(self, text: str, /) -> RawStack | None:
        """Ask politely, once, at the request.

        Returns:
            The stack at the request; ``None`` when the body reports it with `Sink.located` as the request arrives.
        """

    def insist(self) -> bool:
        """Ask again; ``False`` when the body is obeying already (it is in its clean-up) and was let alone."""
        ...

    def force(self) -> bool:
        """Use force; ``False`` when the body was obeying and only took too long."""
        ...

    def abandon(self) -> bool:
        """The ladder is at its end; ``True`` when the body refused force, ``False`` when it was still unwinding."""
        ...

    def where(self) -> RawStack:
        """The stack of the body now, outermost first; empty when it has none."""
        ...


class Work(Generic[T_co]):
    """What `thread`, `process` and `command` return: work with its place, not started yet; `T_co` is what it returns.

    Attributes:
        place: the word for where it runs.
    """

    __slots__ = ()
    place: str

    def open(self) -> Body:
        """Make the body. Called once, with a running loop."""
        raise NotImplementedError


#: what can be started: a coroutine, an async function that needs no arguments, or work with its place
AsyncWork = Coroutine[Any, Any, T] | Callable[[], Coroutine[Any, Any, T]] | Work[T]
