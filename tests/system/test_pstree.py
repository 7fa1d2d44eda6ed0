"""`python -m asyncio ps` and `pstree` (Python 3.14) on a program with an operation of each kind."""

import os
import re
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="python -m asyncio ps came with 3.14")

PROGRAM = """
import asyncio, threading, time
import calloff

async def leaf(started):
    started()
    await asyncio.Event().wait()

async def middle(started):
    await leaf(started)

def blocks(started):
    started()
    threading.Event().wait()

async def main():
    running = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()
    def started():
        loop.call_soon_threadsafe(running.release)
    async with calloff.TaskGroup() as tasks:
        tasks.create_task(middle(started), name="in-a-task-group")
        async with calloff.group() as group:
            group.start(middle(started), name="in-a-group")
            group.start(calloff.thread(blocks, started), name="in-a-thread", grace=0)
            group.start(calloff.process(time.sleep, 60), name="in-a-process", grace=0)
            group.start(calloff.command("sleep", "60"), name="a-command", grace=0)
            for _ in range(3):
                await running.acquire()
            print("ready", flush=True)
            await calloff.call(middle(lambda: None), timeout=600)

calloff.run(main())
"""


def look(verb: str, **environment: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            tool = [sys.executable, "-m", "asyncio", verb, str(program.pid)]
            done = subprocess.run(tool, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout
        finally:
            program.kill()


def parent_of(name: str, tree: str) -> str:
    """The nearest task above, by the indentation."""
    lines = tree.splitlines()
    at = next(number for number, line in enumerate(lines) if re.search(rf"\(T\) {name}$", line))
    depth = lines[at].index("(T)")
    for line in reversed(lines[:at]):
        if "(T)" in line and line.index("(T)") < depth:
            return line.partition("(T) ")[2]
    return ""


def test_names_and_who_waits_for_whom() -> None:
    tree = look("pstree")
    for name in ("in-a-task-group", "in-a-group", "middle"):
        assert parent_of(name, tree) == "main", tree


def test_with_the_stacks_of_all_operations() -> None:
    tree = look("pstree", CALLOFF_PSTREE="1")
    for name in ("in-a-group", "in-a-thread", "in-a-process", "a-command", "middle"):
        assert parent_of(name, tree) == "main", tree
    lines = [re.sub(r"^[ │├└─]*(\(T\) )?", "", line) for line in tree.splitlines()]
    for name, functions in {
        "in-a-group": ["middle", "leaf", "Event.wait"],
        "middle": ["middle", "leaf", "Event.wait"],
        "in-a-thread": ["calloff.thread"],
        "in-a-process": ["calloff.process"],
        "a-command": ["calloff.command"],
    }.items():
        at = lines.index(name) + 1
        found = [line.split()[0] for line in lines[at : at + len(functions)]]
        assert found == functions, tree
    table = look("ps", CALLOFF_PSTREE="1")
    assert re.search(r"in-a-group +Event.wait -> leaf -> middle +.* main ", table), table


def test_stand_ins_are_seen_by_nobody_else() -> None:
    source = """
    import asyncio, gc, warnings
    import calloff
    warnings.simplefilter("error")

    async def main():
        async def work():
            await asyncio.sleep(0)
            return sorted(task.get_name() for task in asyncio.all_tasks())
        seen = await calloff.start(work())
        stopped = calloff.start(asyncio.sleep(60))
        unbegun = calloff.start(asyncio.sleep(60))
        unbegun.cancel()
        thread = calloff.start(calloff.thread(pow, 2, 3))
        await asyncio.sleep(0)
        await stopped.stop()
        await thread
        gc.collect()
        return seen

    print(calloff.run(main()))
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(source)]
    environment = {**os.environ, "CALLOFF_PSTREE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.stdout == "['main (its task)', 'work (its task)']\n", done.stderr
    assert done.stderr == ""
