"""Every example runs as its docstring says, and prints what it is there to show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"

CHECKED_EVERY_SECOND = [
    "Calling API...",
    "Task has not completed, checking again in a second",
    "Task has not completed, checking again in a second",
    "Task has not completed, checking again in a second",
    "Cancelling the task...",
    "Task has been cancelled.",
]

#: What each prints, line by line; a pattern where it starts with a caret.
PRINTED = {
    "check_every_second.py": CHECKED_EVERY_SECOND,
    "cancel_if_not_done.py": ["Cancelling the task...", "Task has been cancelled."],
    "seed_programs_asyncio_style.py": [
        "Cancelling the task...",
        "Task has been cancelled.",
        *CHECKED_EVERY_SECOND,
    ],
    "stubborn.py": [
        "Working, and not to be disturbed.",
        "^(Asked to stop, going on.\n)+Its finally block ran.",
        r"^'main' did not end within 2 s: at main \(examples/stubborn.py:\d+\): await asyncio.sleep\(3600\)",
        r"^Ended by FORCED after \d+ refusals.",
    ],
    "blocked_loop.py": [
        "Blocking the whole program for a minute...",
        r"^'careless' did not end within 1 s: at careless \(examples/blocked_loop.py:\d+\): time.sleep\(60\)",
        r"^Ended by INTERRUPTED after \d s.",
        "The event loop is well.",
    ],
    "agent_tool.py": [
        "search (query: str) -> str Search the archive.",
        "3",
        "search was called off: it did not end within 1 s. It was killed and does not run any more.",
        "build was called off: it did not end within 1 s. It was stopped and does not run any more.",
    ],
    "http_deadline.py": ["the server has 30 s", "the server has 10 s", "the server has no limit"],
    "web_service.py": [
        "quick: HTTP/1.1 200 OK",
        "GET /slow is called off: deadline",
        "one who waits 0.2 s: HTTP/1.1 504 Gateway Timeout",
        "GET /report is called off: disconnected",
        "GET /last is called off: shutdown",
        "one who is there at the end: HTTP/1.1 503 Service Unavailable",
    ],
    "cluster.py": ["[0, 1, 4, 9, 16]", "stubborn on local-1: KILLED"],
    "on_stop.py": [r"^Cancelled after \d s, by ASKED", "helped by Connection.interrupt"],
    "group.py": [
        "All go well:",
        "first is here",
        "second is here",
        "first and second",
        "One fails:",
        "slow was called off",
        "The group failed: third is broken",
        "They take too long:",
        "very slow was called off",
        "Timed out.",
    ],
    "map.py": [
        "7: deadline: within 3 s, at await asyncio.sleep(3600 if number % 1000 == 7 else 0.001)",
        "{'Cancelled': 10, 'Completed': 9980, 'Failed': 10}",
        "in order: [2, 4, '-']",
    ],
    "map_adaptive.py": ["500 answers; from the middle on never more than twenty at a time"],
    "see_and_stop.py": [
        "page-1, a task, is at: await asyncio.sleep(3600)",
        "page-2, a task, is at: await asyncio.sleep(3600)",
        "sleep, a command, is at: sleep 3600",
        "page-1: cancelled, ASKED",
        "page-2: cancelled, ASKED",
        "Cancelled",
    ],
    "pool.py": ["setup UNSAFE ['late']", "setup_mended SAFE []"],
    "sweep_ways.py": [
        "export UNSAFE ['early', 'late', 'double']",
        "export_mended SAFE []",
        "fetch UNSAFE ['early', 'late']",
        "fetch_mended SAFE []",
    ],
    "trace_in_processes.py": [
        "shrink-cat: resizing cat.png",
        "the same trace: True",
        "below the operation, not the request: True",
    ],
    "prometheus.py": [
        "calloff_operations_started_total task 6",
        "calloff_operation_duration_seconds_count completed task 3",
        "calloff_operation_duration_seconds_count cancelled task 2",
        "calloff_operations_ended_total completed task 3",
        "calloff_operations_ended_total cancelled task requested 1",
        "calloff_operations_ended_total cancelled task deadline 1",
        "calloff_operation_clean_up_seconds_count cancelled task requested ASKED 1",
        "calloff_operation_clean_up_seconds_count cancelled task deadline ASKED 1",
        "calloff_operations_running task running 1",
    ],
    "race.py": [
        "asking oak",
        "asking elm",
        "asking ash",
        "^(oak was too slow\nash was too slow|ash was too slow\noak was too slow)",
        "answer of elm",
    ],
    "thread.py": [
        r"^ASKED: 'careful' did not end within 1 s: at careful \(examples/thread.py:21\): calloff.checkpoint\(60\)",
        r"^FORCED: 'careless' did not end within 1 s: at careless \(examples/thread.py:\d+\): .*",
        "log: threads with work that could not be stopped: 1, at most 64",
        r"^log: operation \d+ 'deaf' could not be .*: stuck at deaf .*threading.Event\(\).wait\(\)",
        r"^ABANDONED: 'deaf' did not end within 1 s and could not .*: stuck at deaf .*threading.Event\(\).wait\(\)",
        "Threads left behind: 1",
    ],
    "process.py": [
        "2 + 3 = 5",
        "sleepy cleans up",
        r"^ASKED: 'sleepy' did not end within 1 s: at sleepy \(examples/process.py:24\): time.sleep\(60\)",
        r"^KILLED: 'deaf' did not end within 1 s: at deaf \(examples/process.py:33\): return sum.*",
        "The child of deaf is gone",
    ],
    "command.py": [
        "echo said: hello",
        "CommandFailed: 3 to stderr",
        "sleep: TERMINATED",
        "stubborn: KILLED",
        "Its daemon is gone",
    ],
    "watch_progress.py": [
        r"^(\d of 10 done after \d\.\d s, now at: await asyncio\.(sleep\(0\.2\)|Event\(\)\.wait\(\))\n)+",
        r"^'copy' made no progress for 1 s: at copy \(examples/watch_progress.py:\d+\): await asyncio.Event.*",
    ],
}


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def assert_printed(text: str, lines: list[str]) -> None:
    pattern = "".join(
        line[1:] + ("" if line.endswith(")+") else "\n") if line[0] == "^" else f"{re.escape(line)}\n" for line in lines
    )
    assert re.fullmatch(pattern, text), text


@pytest.mark.parametrize("name", PRINTED)
def test_run_as_a_script(name: str) -> None:
    done = run(f"examples/{name}")
    assert_printed(done.stdout, PRINTED[name])
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "status", "lines"),
    [
        (["examples/check_every_second.py:main"], 0, CHECKED_EVERY_SECOND),
        (["examples/cancel_if_not_done.py:main"], 0, PRINTED["cancel_if_not_done.py"]),
        (["examples/seed_programs_asyncio_style.py:check_every_second"], 0, CHECKED_EVERY_SECOND),
        (["examples/seed_programs_asyncio_style.py:cancel_if_not_done"], 0, PRINTED["cancel_if_not_done.py"]),
        (["--timeout", "2", "--grace", "1", "examples/stubborn.py:main"], 137, PRINTED["stubborn.py"][:2]),
        (["--timeout", "1", "examples/blocked_loop.py:careless"], 124, PRINTED["blocked_loop.py"][:1]),
        (["--every", "0.5s", "--stall", "1s", "examples/watch_progress.py:copy"], 124, []),
        (["examples/race.py:main"], 0, PRINTED["race.py"]),
        (["--in", "thread", "--timeout", "1", "examples/thread.py:careful"], 124, []),
        (["--in", "process", "--timeout", "2", "--grace", "1", "examples/process.py:deaf"], 137, []),
        (["--timeout", "1", "--", "sleep", "60"], 124, []),
        (["--timeout", "2", "--every", "0.5", "examples/hang.py"], 124, ["The connection was closed.", "Stopped."]),
    ],
)
def test_run_by_the_command_line(arguments: list[str], status: int, lines: list[str]) -> None:
    done = run("-m", "calloff", "run", *arguments)
    assert_printed(done.stdout, lines)
    assert done.returncode == status
    assert bool(done.stderr) == bool(status)


def test_the_line_where_it_was_stuck_is_told() -> None:
    done = run("-m", "calloff", "run", "--timeout", "1", "--grace", "0.5", "examples/stubborn.py:main")
    assert re.search(r"it was at main \(examples/stubborn.py:\d+\): await asyncio.sleep\(3600\)", done.stderr)


def test_every_example_is_tested_and_says_how_to_run_it() -> None:
    examples = {path.name: path.read_text() for path in EXAMPLES.glob("*.py")}
    assert set(PRINTED) <= set(examples)
    for name, text in examples.items():
        assert f"python examples/{name}" in text, name
    for name in ["hang.py", *PRINTED]:
        assert len(examples[name].splitlines()) < 70, f"{name} is longer than a page"


def test_the_asyncio_style_is_asyncio_but_for_two_names() -> None:
    """With the two names put back it is a program that needs no calloff, and prints the same."""
    text = (EXAMPLES / "seed_programs_asyncio_style.py").read_text()
    text = text.replace("calloff.start", "asyncio.create_task").replace("calloff.run", "asyncio.run")
    text = text.replace("import calloff\n", "")
    done = run("-c", text)
    assert_printed(done.stdout, PRINTED["seed_programs_asyncio_style.py"])
    assert done.stderr == ""
