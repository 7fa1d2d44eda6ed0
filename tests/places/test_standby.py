"""A guard whose command has ended waits for the next one: nobody sees that, and what has happened to it goes to nobody."""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys

import pytest
from places.process_table import gone, until

import calloff
from calloff._places import keepers

#: how often a command comes too late for a guard that waits, on a busy machine
TRIES = 200
#: how often it has to come in time
ENOUGH = 40


async def said(*line, **options):
    return (await calloff.call(calloff.command(*line, **options), timeout=60)).text


async def guard_of_a_command():
    return int(await said("sh", "-c", "echo $PPID"))


async def one_that_waits():
    """The number of a guard that was used twice."""
    for _ in range(TRIES):
        guard = await guard_of_a_command()
        if await guard_of_a_command() == guard:
            return guard
    raise AssertionError("no guard was ever used again")


async def test_a_guard_is_used_again_and_waits_for_a_moment_only():
    guard = await one_that_waits()
    assert until(lambda: gone(guard)), "it must not stay"


async def test_one_that_waits_is_not_where_its_command_was(tmp_path):
    """What is mounted there can be taken away."""
    seen = 0
    for _ in range(TRIES):
        guard = int(await said("sh", "-c", "echo $PPID", cwd=str(tmp_path)))
        with contextlib.suppress(FileNotFoundError):  # it did not wait, or no more
            assert until(lambda: os.readlink(f"/proc/{guard}/cwd") != str(tmp_path))
            seen += 1
        if seen == ENOUGH:
            break
    assert seen


async def test_commands_that_run_at_the_same_time_have_a_guard_each():
    await one_that_waits()
    ops = [calloff.start(calloff.command("sh", "-c", "echo $PPID; sleep 0.2")) for _ in range(4)]
    guards = {(await op).text for op in ops}
    assert len(guards) == 4


async def test_what_the_next_command_inherits_is_that_of_its_start(tmp_path):
    line = "pwd; umask; cat"
    for _ in range(3):
        before = os.umask(0o027)
        try:
            there = await said("sh", "-c", line, cwd=str(tmp_path), stdin=b"one")
        finally:
            os.umask(before)
        here = await said("sh", "-c", line, stdin=b"two")
        assert there.split() == [str(tmp_path), "0027", "one"]
        assert here.split() == [os.getcwd(), f"{before:04o}", "two"]


CHANGES = {
    "niceness": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 7)",
    "files": "resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (77, 77))",
    "processors": "os.sched_setaffinity(os.getppid(), {min(os.sched_getaffinity(0))})",
    "policy": "os.sched_setscheduler(os.getppid(), os.SCHED_BATCH, os.sched_param(0))",
}
LOOK = (
    "import os, resource; print(os.getpriority(os.PRIO_PROCESS, 0), resource.getrlimit(resource.RLIMIT_NOFILE),"
    " sorted(os.sched_getaffinity(0)), os.sched_getscheduler(0))"
)


@pytest.mark.parametrize("change", [pytest.param(code, id=name) for name, code in CHANGES.items()])
async def test_a_guard_that_its_command_has_changed_is_not_used_again(change):
    def now():
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        scheduling = sorted(os.sched_getaffinity(0)), os.sched_getscheduler(0)
        return " ".join(str(each) for each in (os.getpriority(os.PRIO_PROCESS, 0), limits, *scheduling)) + "\n"

    python = sys.executable, "-S", "-I", "-c"
    for _ in range(5):
        await said(*python, f"import os, resource; {change}")
        assert await said(*python, LOOK) == now()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_one_that_is_hit_while_it_waits(number):
    guards = set()
    for _ in range(20):
        guard = await guard_of_a_command()
        guards.add(guard)
        with contextlib.suppress(ProcessLookupError):  # it was not wanted any more
            os.kill(guard, number)
        assert await said("echo", "x") == "x\n"
    assert until(lambda: all(gone(guard) for guard in guards))


async def test_those_that_wait_end_with_their_keeper():
    for _ in range(5):
        guard = await guard_of_a_command()
        os.kill(keepers._keeper.pid, signal.SIGKILL)
        assert until(lambda guard=guard: gone(guard))
        assert await said("echo", "x") == "x\n"


async def test_one_ends_with_its_keeper_though_another_that_was_forked_later_does_not():
    for _ in range(5):
        first, second = (calloff.start(calloff.command("cat", stdin="pipe")) for _ in range(2))
        while not (first.body.pid and second.body.pid):
            await asyncio.sleep(0.001)
        guard = first.body._guarded._guard
        first.cancel(grace=0)
        await first.outcome()
        os.kill(keepers._keeper.pid, signal.SIGKILL)
        assert until(lambda guard=guard: gone(guard))
        assert not second.done()
        second.cancel(grace=0)
        await second.outcome()


async def test_one_that_was_asked_does_not_tell_so_of_the_next_command():
    again = 0
    for _ in range(TRIES):
        op = calloff.start(calloff.command("sh", "-c", "trap 'exit 3' TERM; echo $PPID; read -r line", stdin="pipe"))
        while not op.body.pid:
            await asyncio.sleep(0.001)
        former = op.body._guarded._guard
        outcome = await op.stop("enough", grace=20)
        assert isinstance(outcome, calloff.Cancelled)
        op = calloff.start(calloff.command("sleep", "1000"))
        while not op.body.pid:
            await asyncio.sleep(0.001)
        guard = op.body._guarded._guard
        os.kill(guard, signal.SIGKILL)
        outcome = await asyncio.wait_for(op.outcome(), 30)
        assert isinstance(outcome, calloff.Failed), "nobody has asked this one"
        again += guard == former
        if again == 2:
            break
    assert again == 2


async def test_one_leaves_nothing_open_however_many_commands_it_has_guarded(tmp_path):
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF no program")
    broken.chmod(0o700)
    counts: dict[str, set[int]] = {}
    again = 0
    for number in range(TRIES):
        guard, count = (await said("sh", "-c", "echo $PPID $(ls /proc/$PPID/fd | wc -l)")).split()
        again += guard in counts
        counts.setdefault(guard, set()).add(int(count))
        if number % 3 == 0:
            with pytest.raises(OSError, match="xec"):
                await said(str(broken))
        if again == ENOUGH:
            break
    found = set().union(*counts.values())
    assert max(found) - min(found) <= 4, "its command may look before it has closed three files and the handle of that"
    assert again == ENOUGH, "few were used again"


async def test_one_that_has_told_the_end_is_not_asked_what_lives_below_it():
    """It may have another command by then, before a loop that is held up has heard of the end."""
    work = calloff.command("cat", stdin="pipe")
    op = calloff.start(work)
    while not op.body.pid:
        await asyncio.sleep(0.001)
    assert not op.body._guarded.is_over()
    assert op.body.survivors()
    work.stdin.end()  # and from here on the loop is held up
    assert until(op.body._guarded.is_over)
    op.body._guarded._guard = os.getpid()  # as if that had other work
    other = subprocess.Popen(["sleep", "1000"])
    try:
        assert op.body.survivors() == ()
    finally:
        other.kill()
        other.wait()
    assert (await op).status == 0


async def test_many_at_once_leave_the_keeper_its_files():
    """Each line to a guard takes one: there are few of them where few may be open."""
    code = """
    import asyncio, os, resource, time, calloff
    from calloff._places import keepers
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    most = 10 + 100 // 8
    async def main():
        for _ in range(3):
            works = [calloff.command("cat", stdin="pipe", stdout=None, stderr=None) for _ in range(20)]
            ops = []
            for work in works:
                ops.append(calloff.start(work))
                while not ops[-1].body.pid:
                    await asyncio.sleep(0.001)
            until = time.monotonic() + 20
            while (files := len(os.listdir(f"/proc/{keepers._keeper.pid}/fd"))) > most and time.monotonic() < until:
                await asyncio.sleep(0.01)  # it has forked a guard, which was quicker, and closes what that has got
            for work, op in zip(works, ops):
                work.stdin.end()
                await op
        print(files)
    asyncio.run(main())
    """
    done = await said(sys.executable, "-c", "\n".join(line[4:] for line in code.splitlines()))
    assert int(done) <= 10 + 100 // 8
