"""What belongs to an operation beside its coroutine: child tasks are asked again and forced with it, and told of truly."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from operation import virtual_time

import calloff
from calloff import Abandoned, Cancelled, Completed, Rung, StopForced
from calloff._places.task.forcing import force_task

Way = Callable[..., Coroutine[Any, Any, Any]]


pytestmark = pytest.mark.usefixtures("short_last")


class Child:
    """A child task of each kind, and what became of it."""

    def __init__(self) -> None:
        self.asked = 0
        self.ended = False
        self.release = asyncio.Event()

    async def refuses(self) -> None:
        """Swallow every cancel; force ends it."""
        try:
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.asked += 1
        finally:
            self.ended = True

    async def refuses_and_uncancels(self) -> None:
        """Swallow every cancel as the documentation of asyncio asks those who do to."""
        try:
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.asked += 1
                    task = asyncio.current_task()
                    assert task is not None
                    task.uncancel()
        finally:
            self.ended = True

    async def outlives(self) -> None:
        """Swallow everything until it is released."""
        while not self.release.is_set():
            try:
                await self.release.wait()
            except BaseException:
                self.asked += 1
        self.ended = True

    async def obeys_after_force(self) -> None:
        """Swallow every cancel and the first force, and obey what comes then."""
        forced = False
        while not forced:
            try:
                await asyncio.sleep(60)
            except BaseException as error:
                forced = isinstance(error, StopForced)
        try:
            await asyncio.sleep(60)
        finally:
            self.ended = True

    async def cleans(self) -> None:
        """Obey, and take its time."""
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.15)
            self.ended = True

    async def spawns(self) -> None:
        """Start another one that refuses whenever it is asked."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.asked += 1
            await asyncio.create_task(self.refuses())


async def in_a_task(*work: Any) -> None:
    for other in work[1:]:
        other.close()
    await asyncio.create_task(work[0])


async def in_a_gather(*work: Awaitable[Any]) -> None:
    await asyncio.gather(*work)


async def in_a_wait_for(*work: Awaitable[Any]) -> None:
    await asyncio.wait_for(in_a_gather(*work), 60)


async def in_a_group(*work: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for each in work:
            group.create_task(each)


async def in_the_block_of_a_group(*work: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for each in work:
            group.create_task(each)
        await asyncio.sleep(60)


async def in_a_group_of_ours(*work: Any) -> None:
    async with calloff.TaskGroup() as group:
        for each in work:
            group.create_task(each)


async def in_a_group_of_anyio(*work: Any) -> None:
    async def run(each: Awaitable[Any]) -> None:
        await each

    async with anyio.create_task_group() as group:
        for each in work:
            group.start_soon(run, each)


async def deep(*work: Any) -> None:
    await in_a_gather(in_a_group(in_a_gather(*work)), asyncio.sleep(60))


async def in_a_wait(*work: Any) -> None:
    await asyncio.wait([asyncio.create_task(each) for each in work])


async def in_as_completed(*work: Any) -> None:
    for each in asyncio.as_completed(work):
        await each


WAYS = [
    in_a_task,
    in_a_wait,
    in_as_completed,
    in_a_gather,
    in_a_wait_for,
    in_a_group,
    in_the_block_of_a_group,
    in_a_group_of_ours,
    in_a_group_of_anyio,
    deep,
]
ways = pytest.mark.parametrize("way", WAYS)


async def stopped(work: Coroutine[Any, Any, Any], grace: float = 0.2) -> tuple[Any, "calloff.Operation[Any]"]:
    op = calloff.start(work, grace=grace)
    await asyncio.sleep(0.05)
    return await op.stop(), op


@ways
async def test_a_child_that_refuses_is_asked_again_and_forced(way: Way) -> None:
    child = Child()
    outcome, op = await stopped(way(child.refuses(), asyncio.sleep(60)))
    assert child.ended
    assert isinstance(outcome, Cancelled)
    assert outcome.report.rung is Rung.FORCED
    assert outcome.report.survivors == ()
    assert child.asked > 1
    assert op not in calloff.operations()


@ways
async def test_one_that_gives_its_cancels_back_is_asked_again(way: Way) -> None:
    child = Child()
    outcome, _ = await stopped(way(child.refuses_and_uncancels()))
    assert child.ended
    assert child.asked > 1
    assert outcome.report.rung is Rung.FORCED


@ways
def test_the_clean_up_of_one_child_is_let_alone_while_another_refuses(way: Way) -> None:
    if way is in_a_task or way is in_a_group_of_anyio:  # one child only; anyio itself cancels clean-up all the time
        return
    polite, child = Child(), Child()

    async def main() -> None:  # on a busy machine the grace may be over before a clean-up that takes half of it
        outcome, _ = await stopped(way(polite.cleans(), child.refuses()), grace=0.4)
        assert polite.ended
        assert child.ended
        assert child.asked > 1
        assert outcome.report.rung is Rung.FORCED

    virtual_time.run(main)


@ways
async def test_a_child_that_outlives_force_is_named_and_listed(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    child = Child()
    outcome, op = await stopped(way(child.outlives()), grace=0.1)
    assert isinstance(outcome, Abandoned)
    assert outcome.report.rung is Rung.ABANDONED
    assert not child.ended
    assert len(outcome.report.survivors) == 1
    assert "task " in outcome.report.survivors[0]
    assert " in outlives (" in outcome.report.survivors[0]
    assert any(frame.function == "outlives" for frame in outcome.report.stuck_at)
    assert op in calloff.operations()
    assert any(frame.function == "outlives" for frame in op.where())
    child.release.set()
    while op in calloff.operations():
        await asyncio.sleep(0)
    assert child.ended
    assert any("ended" in record.getMessage() for record in caplog.records)


@ways
async def test_what_a_child_starts_when_it_is_asked_belongs_to_it(way: Way) -> None:
    child = Child()
    outcome, op = await stopped(way(child.spawns()))
    assert child.ended or way is in_a_group_of_anyio  # which cancels that one before its first step
    assert isinstance(outcome, Cancelled)
    assert op not in calloff.operations()


async def test_force_at_once() -> None:
    for way in WAYS:
        child = Child()
        outcome, _ = await stopped(way(child.refuses()), grace=0)
        assert child.ended
        assert outcome.report.rung is Rung.FORCED


async def test_a_body_that_waits_for_one_deaf_to_force_is_forced_itself() -> None:
    child = Child()
    cleaned: list[str] = []

    async def body() -> None:
        try:
            await asyncio.create_task(child.outlives())
        except calloff.StopForced:
            cleaned.append("forced")
            raise

    outcome, op = await stopped(body(), grace=0.1)
    assert cleaned == ["forced"]
    assert isinstance(outcome, Abandoned)  # since the child goes on
    child.release.set()
    while op in calloff.operations():
        await asyncio.sleep(0)


async def in_gathers(*work: Awaitable[Any]) -> None:
    await asyncio.gather(asyncio.gather(*work))


@pytest.mark.parametrize("turns", [0, 1, 2])
@pytest.mark.parametrize("around", [in_a_gather, in_gathers, in_a_group, in_a_group_of_ours, in_a_group_of_anyio])
async def test_a_body_that_has_not_been_told_of_the_end_of_its_children_is_not_asked_again(
    around: Way, turns: int
) -> None:
    """They end in a turn of the loop, and it is told in the next one; the time for asking again may come between."""
    op = calloff.start(around(asyncio.sleep(60), asyncio.sleep(60)), grace=20)
    await asyncio.sleep(0.01)
    op.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    time.sleep(0.03)
    outcome = await op.outcome()
    assert isinstance(outcome, Cancelled)
    assert (outcome.report.rung, outcome.report.refusals) == (Rung.ASKED, 0)


async def test_no_shield_is_passed() -> None:
    for shield in (asyncio.shield, calloff.shield):
        child = Child()
        work = asyncio.create_task(child.outlives())

        async def body(shield: Any = shield, work: Any = work) -> None:
            await shield(work)

        op = calloff.start(body(), grace=60)  # from force on it is passed
        await asyncio.sleep(0.05)
        op.cancel()
        await asyncio.sleep(0.05)
        assert child.asked == 0
        child.release.set()
        await asyncio.wait([work])
        assert isinstance(await op.outcome(), Cancelled)


async def in_a_task_group(work: Coroutine[Any, Any, Any]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(work)


@pytest.mark.parametrize("deeper", [False, True])
async def test_what_a_shield_of_ours_holds_back_is_forced_and_told_of(deeper: bool) -> None:
    def shielded(work: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        body = calloff.shield(work, timeout=None)
        return in_a_task_group(body) if deeper else body

    child = Child()
    outcome, _ = await stopped(shielded(child.refuses()), grace=0.1)
    assert child.ended
    assert isinstance(outcome, Cancelled)
    assert outcome.report.rung is Rung.FORCED

    child = Child()
    outcome, op = await stopped(shielded(child.outlives()), grace=0.1)
    assert isinstance(outcome, Abandoned)
    assert "outlives" in outcome.report.survivors[-1]
    assert not child.ended
    child.release.set()
    while op in calloff.operations():
        await asyncio.sleep(0)
    assert child.ended


async def test_a_sibling_that_nobody_has_cancelled_is_cancelled_with_the_body() -> None:
    """A gather ends with the first error and lets the others run on: not so when it is a stop that has ended it."""
    polite = Child()

    async def obeys_at_once() -> None:
        await asyncio.sleep(60)

    async def body() -> None:
        others = [asyncio.ensure_future(obeys_at_once()), asyncio.ensure_future(polite.cleans())]
        await asyncio.gather(*others)

    outcome, _ = await stopped(body(), grace=1)
    assert polite.ended
    assert outcome.report.rung is Rung.ASKED
    assert outcome.report.refusals == 0


async def test_a_value_in_spite_of_the_stop_names_what_goes_on() -> None:
    release = threading.Event()

    async def body() -> int:
        try:
            await asyncio.to_thread(release.wait)
        except asyncio.CancelledError:
            pass
        return 5

    outcome, _ = await stopped(body())
    release.set()
    assert isinstance(outcome, Completed)
    assert outcome.value == 5
    assert outcome.report is not None
    assert len(outcome.report.survivors) == 1


async def test_no_complaint_about_forced_tasks() -> None:
    """Whoever waited for them may have ended before: their error is the stop itself, which is told elsewhere."""
    import gc

    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
    for way in WAYS:
        child = Child()
        await stopped(way(child.refuses(), asyncio.sleep(60)), grace=0.05)
        assert child.ended
    child = Child()  # the gather ends with it, when the body was torn off from the gather
    await stopped(in_a_gather(child.obeys_after_force()), grace=0.05)
    while not child.ended:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_children_that_are_about_to_hear_of_the_stop_have_not_refused() -> None:
    """They wait for operations, by which the cancel of their group comes to them: in the next turn of the loop."""

    async def child() -> None:
        await calloff.start(asyncio.sleep(60))

    async def body() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(child())

    asked_again: list[bool] = []

    def insist() -> None:
        if op.body is not None:
            asked_again.append(op.body.insist())

    op = calloff.start(body(), grace=20)
    for _ in range(3):
        await asyncio.sleep(0)
    op.cancel()
    asyncio.get_running_loop().call_soon(insist)
    outcome = await op.outcome()
    assert isinstance(outcome, Cancelled)
    assert asked_again == [False]


async def waits_beside_a_child() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        await calloff.start(asyncio.sleep(60))


async def waits_for_a_child() -> None:
    async def child() -> None:
        await calloff.start(asyncio.sleep(60))

    await asyncio.gather(child(), asyncio.sleep(60))


@pytest.mark.parametrize("body", [waits_beside_a_child, waits_for_a_child])
async def test_a_body_with_children_that_is_about_to_hear_of_the_stop_has_not_refused(body: Any) -> None:
    op = calloff.start(body(), grace=20)
    for _ in range(3):
        await asyncio.sleep(0)
    op.cancel()
    assert op.body is not None
    assert not op.body.reached
    assert not op.body.insist()
    assert isinstance(await op.outcome(), Cancelled)


async def test_tasks_that_a_body_only_watches_are_part_of_it_if_it_has_started_them() -> None:
    """`asyncio.wait` may be given anybody's task: that one goes on."""
    shared = asyncio.create_task(asyncio.sleep(60))
    child = Child()

    async def body() -> None:
        await asyncio.wait([shared, asyncio.create_task(child.refuses())])

    outcome, _ = await stopped(body())
    assert isinstance(outcome, Cancelled)
    assert outcome.report.rung is Rung.FORCED
    assert child.ended
    assert not shared.done()
    assert not shared.cancelling()
    shared.cancel()


def test_a_look_that_fails_does_not_keep_the_asking_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a look")

    async def main() -> None:  # telling of a look takes a busy machine longer than the first asking is given
        for work in (in_a_gather(asyncio.sleep(60)), in_a_wait_for(asyncio.sleep(60)), asyncio.sleep(60)):
            outcome, _ = await stopped(work, grace=60)
            assert isinstance(outcome, Cancelled)
            assert outcome.report.rung is Rung.ASKED

    monkeypatch.setattr("calloff._places.task.climbing.look_at", fails)
    virtual_time.run(main)


def test_a_function_of_the_program_that_is_named_as_a_wait_is_none() -> None:
    from calloff._places.task.stack import kind_of

    async def outcome() -> None: ...

    async def wait_for() -> None: ...

    assert [kind_of(function.__code__) for function in (outcome, wait_for)] == [0, 0]
    assert [kind_of(function.__code__) for function in (calloff.wait_for, asyncio.wait_for)] == [2, 2]


def test_functions_that_were_made_for_once_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    from calloff._places.task import stack

    monkeypatch.setattr(stack, "_MOST", 100)
    for number in range(1000):
        scope: dict[str, Any] = {}
        exec(f"async def made_for_once_{number}(): ...", scope)
        assert stack.kind_of(scope[f"made_for_once_{number}"].__code__) == 0
    assert max(len(stack.kinds), len(stack.plain)) < 110


async def test_a_timer_of_force_is_none_of_the_program() -> None:
    """It has a context of its own: it keeps nothing of the program alive, and a sweep does not hold it against that."""
    here: ContextVar[bool] = ContextVar("here", default=False)
    here.set(True)
    child = Child()

    async def parent() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child.refuses())

    op = calloff.start(parent())
    await asyncio.sleep(0.01)
    stopped = asyncio.create_task(op.stop(grace=0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    handles: list[Any] = getattr(asyncio.get_running_loop(), "_scheduled", [])  # uvloop shows none
    ours = [handle for handle in handles if str(getattr(handle._callback, "__module__", "")).startswith("calloff.")]
    assert not [handle for handle in ours if here in handle._context]
    await stopped


@pytest.mark.parametrize("later", [False, True])
async def test_force_in_a_child_that_is_cancelled_in_the_same_turn_is_not_lost(*, later: bool) -> None:
    """The cancel takes the place of what is raised: as when the end of a sibling calls off a group in that moment."""
    heard: list[str] = []

    async def refuses() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                heard.append("asked")

    task = asyncio.ensure_future(refuses())
    await asyncio.sleep(0)
    if later:
        asyncio.get_running_loop().call_soon(force_task, task, StopForced)
        asyncio.get_running_loop().call_soon(task.cancel)
    else:
        force_task(task, StopForced)
        task.cancel()
    await asyncio.wait({task}, timeout=30)
    assert heard
    assert task.done(), "it refuses all but force"
    with pytest.raises(StopForced):
        task.result()
