"""What an operation and the place that runs its body expect of each other.

The operation decides (when to ask, to insist, to force, to give up); the body carries it out and says how it ended.
Neither imports the other: a new place is a new `Body`, nothing else changes.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from .frame import RawStack
from .reason import Reason
from .ref import Ref
from .report import Rung

if TYPE_CHECKING:
    from asyncio import Task

__all__ = ["AsyncWork", "Body", "Sink", "Work"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Sink(Protocol):
    """The operation as its body sees it. All calls are made on the thread of the event loop, unless said otherwise."""

    def entered(self, since: float = 0.0) -> None:
        """The body is about to run its first step, in the current context, which becomes the operation's own.

        For a body that is `queued` the limits count from here, or from `since` seconds ago, where that comes to light
        only now: the deadline is known when this returns.
        """

    def entered_elsewhere(self, since: float = 0.0) -> None:
        """The same for a body that runs in another process: no context is its own here, so none need be made for it."""

    def located(self, where: RawStack, /) -> None:
        """The request has arrived; the body was there."""

    def refused(self) -> None:
        """The body was asked and went on; for a place that hears of it by itself."""

    def returned(self, value: Any, /, survivors: tuple[str, ...] = ()) -> None:
        """The body ended with a value; `survivors` go on all the same, each in words."""

    def raised(self, error: BaseException, /, survivors: tuple[str, ...] = ()) -> None:
        """The body ended with an error of its own; `survivors` go on all the same."""

    def stopped(
        self, rung: Rung | None = None, /, survivors: tuple[str, ...] = (), error: BaseException | None = None
    ) -> None:
        """The body ended because it was stopped; `rung` where the place knows better than the ladder.

        `error` is what it ended with: where nobody has asked it to stop, that tells where this came from.

        With `survivors`, which could not be ended, the operation is abandoned, and stays listed until this is called a
        second time: when these have ended, too.
        """

    def blocked(self, now: float, /) -> None:
        """The body blocks the loop, so that no timer runs: take the steps that are due."""

    def is_over(self, now: float, /) -> bool:
        """Whether the body, which blocks the loop, has had all the grace of each that waits for it."""
        ...

    def progressed(self, value: Any, /) -> None:
        """The body reported progress."""

    # What places in other processes tell theirs, and may ask in their name.

    def helped(self, name: str, /) -> None:
        """A function of that name was run there, to ask the body."""

    @property
    def ref(self) -> Ref:
        """Id and name."""
        ...

    @property
    def reason(self) -> Reason | None:
        """Why it was asked to stop."""
        ...

    @property
    def elapsed(self) -> float:
        """Seconds since its start."""
        ...

    @property
    def deadline(self) -> float | None:
        """When it is stopped, on the clock of the loop."""
        ...

    @property
    def allowed(self) -> tuple[float | None, float]:
        """The seconds that it may take from its first step on, if they are limited, and the grace after these."""
        ...

    @property
    def force_at(self) -> float | None:
        """When force is due at the latest, as things stand, on the clock of the loop."""
        ...

    def cancel(self, reason: str | None = None, *, grace: float | None = None) -> bool:
        """Ask for the stop."""
        ...


class Body:
    """One piece of work at a place: all that an operation may say to it and ask of it. Every method returns at once.

    A new place derives from this class. It has to write the methods that raise `NotImplementedError`; the others have an
    answer that is right for work which knows nothing better.

    Attributes:
        place: the word for where it runs.
        name: the name of the function or program.
        insists: whether asking again after a refusal means anything here.
        queued: whether it may have to wait before it begins, for a worker, say. Its limits then count from `Sink.entered`.
        coro: the coroutine that it drives, if it does: where stack walkers go on.
        task: the task that drives it.
        pid: the number of the process that the work runs in, if that is not this one.
        argv: the program and its arguments, for a command.
        node: the name of the machine that it runs on, if that is not this one.
    """

    __slots__ = ()
    place: str
    name: str
    insists: bool = False
    queued: bool = False

    coro: Any = None
    task: "Task[Any] | None" = None
    pid: int | None = None
    argv: tuple[str, ...] = ()
    node: str = ""

    #: whether the latest request has arrived in the body
    reached: bool = False

    # --- the ladder

    def begin(self, sink: Sink, /) -> None:
        """Start the work; exactly one of `returned`, `raised`, `stopped` follows in time."""
        raise NotImplementedError

    def ask(self, text: str, /) -> RawStack | None:
        """Ask politely, once, at the request.

        Returns:
            The stack at the request; ``None`` when the body reports it with `Sink.located` as the request arrives.
        """
        raise NotImplementedError

    def insist(self) -> bool:
        """Ask again; ``False`` when the body is obeying already (it is in its clean-up) and was let alone."""
        return False

    def force(self) -> bool:
        """Use force; ``False`` when the body was obeying and only took too long."""
        raise NotImplementedError

    def tear(self) -> bool:
        """The ladder is at its end: whether it has ended, or does in a moment, as force that nothing can catch is used."""
        return False

    def abandon(self) -> bool:
        """The ladder is at its end; ``True`` when the body refused force, ``False`` when it was still unwinding."""
        raise NotImplementedError

    def survivors(self) -> tuple[str, ...]:
        """What goes on although everything was tried, each in words, with its line: read when it is abandoned."""
        return ()

    # --- evidence

    def where(self) -> RawStack:
        """The stack of the body now, outermost first; empty when it has none."""
        raise NotImplementedError

    def known_where(self) -> RawStack:
        """The stack as far as it is known without waiting for another thread or process: what a stop notes of it."""
        return self.where()

    def look(self) -> None:
        """`where` is about to be called of this body and of others: prepare it, so that nobody waits for one by one."""

    def let_in(self) -> None:
        """Have a program of its own open a door through which its tasks are seen; from any thread."""

    def is_here(self) -> bool:
        """Whether the calling code runs in the body itself, not in a further task or thread of its making."""
        return False

    # --- while it runs

    def noted(self, error: BaseException, /) -> bool:
        """A checkpoint raises `error` in the body: whether one did before and was swallowed."""
        return False

    def interrupt(self, act: Callable[[], object], /) -> BaseException | None:
        """Run `act` in the middle of the body's own step; returns what is to be raised there, if `act` asked the body."""
        act()
        return None

    def holds_up(self, task: "Task[Any]", /, *, through_shields: bool = True) -> bool:
        """Whether `task` waits, at whatever distance, for this body, which runs now and blocks the event loop."""
        return False

    def limited(self) -> None:
        """The deadline was changed, or what will be it; for places that keep it in another process, too."""


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


#: what can be started: a coroutine or other awaitable, an async function that needs no arguments, or work with its place
AsyncWork = Coroutine[Any, Any, T] | Awaitable[T] | Callable[[], Coroutine[Any, Any, T]] | Work[T]
