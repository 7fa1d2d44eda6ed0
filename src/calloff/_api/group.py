"""`group` and `race`: several operations as one."""

from asyncio import CancelledError
from typing import Any, Literal, TypeVar

from .._operation.group import Group
from .._operation.operation import Operation, current_operation
from .._operation.turns import Turns
from .._operation.waiting import changed, settled
from .._words.duration import count, delay, limit
from .._words.errors import TimedOut
from .._words.reason import Kind, Reason
from .start import AsyncWork, body_of, give_back, start

__all__ = ["group", "race"]

T = TypeVar("T")


def group(
    *,
    timeout: float | None = None,
    grace: float = 5.0,
    on_error: Literal["cancel", "collect"] = "cancel",
    jobs: int | None = None,
) -> Group:
    """Operations that end together: ``async with calloff.group(timeout=60) as g: g.start(work)``.

    Args:
        timeout: seconds until everything in it is stopped and `TimedOut` raised; ``None`` for no limit.
        grace: seconds between asking the children to stop and force.
        on_error: ``"cancel"``: the first failure stops the others, and an `ExceptionGroup` is raised at the end;
            ``"collect"``: failures stop nobody and are read from each operation's outcome; of one that nobody has read
            Python complains in the log, as of a task's.
        jobs: how many run at a time; the others wait for their turn in state `pending`, and their limits count from
            their begin. ``None`` for all at once.

    The block is left when every child has ended: at the latest grace + 1 s after a stop. When the code that runs the
    block is cancelled, the children are stopped and its `CancelledError` is raised when they have ended.

    What has ended is let go of, so a service may start operations in one group for as long as it runs: keep what `start`
    returns where its outcome is wanted.

    Raises:
        ValueError: a negative or NaN duration, an unknown `on_error`, `jobs` below 1. The caller's fault.
    """
    if on_error not in ("cancel", "collect"):
        raise ValueError(f"on_error must be 'cancel' or 'collect', not {on_error!r}")
    turns = None if jobs is None else Turns(count(jobs, "jobs"), body_of, give_back)
    return Group(start, limit(timeout, "timeout"), delay(grace, "grace"), on_error, turns)


async def race(*works: AsyncWork[T], stagger: float = 0.0, timeout: float | None = None, grace: float = 5.0) -> T:
    """The value of the first work that succeeds; the others are stopped and awaited.

    Args:
        works: the contenders, in order of preference.
        stagger: seconds to wait for those already running before the next is started; it is started at once when
            one of them fails. 0 starts all together. After RFC 8305, "Happy Eyeballs".
        timeout: seconds until all are stopped and `TimedOut` raised; ``None`` for no limit.
        grace: seconds between asking a loser to stop and force.

    Raises:
        ExceptionGroup: every contender failed; holds their errors in order.
        TimedOut: none succeeded within `timeout`.
        ValueError: no contenders, or a wrong duration. The caller's fault; nothing was started.
    """
    left = list(works)
    try:
        if not works:
            raise ValueError("race needs at least one work")
        delay(stagger, "stagger")
        limit(timeout, "timeout")
        delay(grace, "grace")
        return await _run(left, stagger, timeout, grace)
    finally:
        for work in left:
            give_back(work)


async def _run(left: list[AsyncWork[T]], stagger: float, timeout: float | None, grace: float) -> T:
    winner: Operation[T] | None = None
    contenders: list[Operation[T]] = []
    try:
        async with Group(start, timeout, grace, "collect", what="race") as racing:
            winner = await _first_success(racing, contenders, left, stagger)
            text = "every contender failed" if winner is None else f"{winner.name!r} won the race"
            caller = current_operation.get()
            reason = Reason(Kind.SIBLING, text, None if caller is None else str(caller.ref))
            losers = racing.operations
            for loser in losers:
                loser.cancel(reason)

            def hold(error: CancelledError) -> None:
                """The losers are being stopped already."""

            held = await settled(lambda: losers, hold)
            if held is not None:
                raise held
    except TimedOut:
        if winner is None:
            raise  # else it came while the losers were being stopped
    finally:  # each is marked as seen, also where nobody asks for it
        errors = [error for contender in contenders if contender.done() and (error := _error(contender)) is not None]
    if winner is None:
        raise BaseExceptionGroup("every contender of the race failed", errors)
    return winner.result()


async def _first_success(
    racing: Group, contenders: list[Operation[T]], left: list[AsyncWork[T]], stagger: float
) -> Operation[T] | None:
    failed = 0
    while True:
        running: list[Operation[T]] = []
        ended = 0
        for contender in contenders:
            if not contender.done():
                running.append(contender)
            elif not contender.cancelled() and contender.exception() is None:
                return contender
            else:
                ended += 1
        if left and (not contenders or stagger == 0 or not running or ended > failed):
            failed = max(failed, ended)
            contenders.append(racing.start(left.pop(0)))
            continue
        if not running:
            return None
        before = len(running)
        await changed(running, stagger if left else None)
        if left and all(not contender.done() for contender in running) and len(running) == before:
            contenders.append(racing.start(left.pop(0)))


def _error(contender: Operation[Any]) -> BaseException | None:
    """What a contender ended with, marked as seen."""
    try:
        return contender.exception()
    except CancelledError as error:
        return error
