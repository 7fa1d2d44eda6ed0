"""The chaos test: thousands of operations at random, owners killed at random moments, and what was left of them.

`chaos_mix.py` runs the operations of one program and compares each verdict with what a process that knows nothing of
calloff sees in `/proc`. This one starts such programs, one after the other on different event loops, looks for what they
leave behind at their end, kills others with SIGKILL in the midst of it, and prints the summary. The exit status is 1
when anything survived, hung, or was said that is not true. Started by `scripts/chaos`.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import chaos_database
from chaos_hits import Hitter
from chaos_observer import alive, lives, noted
from chaos_outside import OUTSIDE, can_be_had, wrapped
from chaos_worlds import WORLDS

MIX = str(Path(__file__).with_name("chaos_mix.py"))
ROUND = 500
NOTHING = {"operations": 0, "begun": 0, "endings": {}, "longest": 0.0, "lost": []}
EAGER = ["eager"] if sys.version_info >= (3, 12) else []
UVLOOP = ["uvloop"] if importlib.util.find_spec("uvloop") else []
LOOPS = ["asyncio", *EAGER, *UVLOOP, *WORLDS]


def left_of(run: str, lost: Sequence[str]) -> list[str]:
    known = [token.encode() for token in lost]
    return [shown for _, text, shown in alive(run.encode()) if not any(token in text for token in known)]


def wait_until_gone(run: str, seconds: float, lost: Sequence[str] = ()) -> tuple[float, list[str]]:
    """How long it took until nothing of the run was left, and what is left after that time all the same.

    What carries a token of the `lost` may be left: so it was told.
    """
    began = time.monotonic()
    while (left := left_of(run, lost)) and time.monotonic() - began < seconds:
        time.sleep(0.005)
    return time.monotonic() - began, left


def clear_away(run: str) -> None:
    """What survived has been told: it shall not stay."""
    for pid, _, _ in alive(run.encode()):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def environment(run: str) -> dict[str, str]:
    return {**os.environ, "CALLOFF_CHAOS_RUN": run}


def operations(
    run: str,
    seed: int,
    first: int,
    count: int,
    at_once: int,
    loop: str,
    hits: Counter[str] | None,
    pause: float,
    outside: str,
) -> dict[str, Any]:
    """One program, to its end."""
    numbers = ["--seed", str(seed), "--first", str(first), "--operations", str(count), "--at-once", str(at_once)]
    argv = [sys.executable, MIX, "--run", run, "--loop", loop, "--outside", outside, *numbers]
    argv = wrapped(outside, [*argv, *([] if hits is None else ["--hit"])])
    found: dict[str, Any]
    with (
        tempfile.TemporaryFile() as output,
        contextlib.nullcontext() if hits is None else Hitter(run, seed, hits, pause),
    ):  # no pipe, which a survivor would hold open
        program = subprocess.Popen(argv, env=environment(run), stdout=output)
        try:
            program.wait(timeout=120 + count)
            output.seek(0)
            found = json.loads(output.read())
        except (subprocess.TimeoutExpired, ValueError) as error:
            program.kill()
            text = f"the program of {first} to {first + count - 1} on {loop}: {error!r}, status {program.wait()}"
            found = {**NOTHING, "findings": [{"sort": "hung", "text": text}]}
    _, left = wait_until_gone(run, 1.0, found["lost"])
    found["findings"] += [{"sort": "survivor", "text": f"after the program's end: {one}"} for one in left]
    clear_away(run)
    return found


def kill_owner(run: str, seed: int, at_once: int, loop: str, after: float) -> tuple[float, list[str]]:
    """Start a program, kill it after a while; how long something of it lived, and what is alive after a second."""
    argv = [sys.executable, MIX, "--run", run, "--seed", str(seed), "--operations", "1000000", "--unobserved"]
    argv += ["--at-once", str(at_once), "--loop", loop]
    program = subprocess.Popen(argv, env=environment(run), stdout=subprocess.PIPE)
    assert program.stdout is not None
    folder = program.stdout.readline().decode().strip()
    if not folder:
        return 0.0, [f"the owner did not begin: status {program.wait()}"]
    time.sleep(after)
    program.kill()
    program.wait()
    seconds, left = wait_until_gone(run, 1.0)
    for name in os.listdir(folder):
        forked = {(pid, started) for pid, started, _ in noted(os.path.join(folder, name))}
        left += [f"{pid} (operation {name})" for pid, started in forked if lives(pid, started)]
    clear_away(run)
    shutil.rmtree(folder)
    program.stdout.close()
    return seconds, left


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--operations", type=int, default=1000, help="how many in all (1000)")
    parser.add_argument("--owner-kills", type=int, default=20, help="how many programs are killed (20)")
    parser.add_argument("--seed", type=int, default=None, help="repeats a run, as far as chaos can be repeated")
    parser.add_argument("--first", type=int, default=0, help="the number of the first operation (0)")
    parser.add_argument("--at-once", type=int, default=12, help="operations in flight (12)")
    parser.add_argument("--hit-helpers", action="store_true", help="kill and stop keepers and guards meanwhile")
    parser.add_argument("--hit-pause", type=float, default=0.6, help="seconds between two of them, at most (0.6)")
    parser.add_argument(
        "--outside", default="plain", choices=[*OUTSIDE, "each"], help="what the programs live in, one after the other"
    )
    parser.add_argument("--database", action="store_true", help="with SQLAlchemy on a PostgreSQL of its own")
    parser.add_argument("--details", action="store_true", help="tell how operations ended, by place and body")
    options = parser.parse_args()
    if not options.database:
        return run(options)
    with chaos_database.server() as port:
        os.environ[chaos_database.PORT] = str(port)
        return run(options)


def run(options: argparse.Namespace) -> int:
    seed = SystemRandom().randrange(10**6) if options.seed is None else options.seed
    random = Random(seed)
    began_at = time.monotonic()
    worlds = [each for each in OUTSIDE if can_be_had(each)] if options.outside == "each" else [options.outside]
    endings: Counter[str] = Counter()
    findings: list[dict[str, Any]] = []
    hits: Counter[str] | None = Counter() if options.hit_helpers else None
    done, begun, longest, slowest = 0, 0, 0.0, 0.0
    print(f"seed {seed}, Python {sys.version.split()[0]}", flush=True)
    for number, first in enumerate(range(options.first, options.first + options.operations, ROUND)):
        count = min(ROUND, options.first + options.operations - first)
        token, loop = f"chaos-{os.getpid()}-{seed}-{first}", LOOPS[(seed + number) % len(LOOPS)]
        outside = worlds[number % len(worlds)]
        if outside == "closed" and loop == "uvloop":  # libuv aborts when it closes a number of a standard stream
            loop = "asyncio"
        found = operations(token, seed, first, count, options.at_once, loop, hits, options.hit_pause, outside)
        done += found["operations"]
        begun += found["begun"]
        longest = max(longest, found["longest"])
        endings.update(found["endings"])
        findings += found["findings"]
        print(
            f"{done} operations, {len(findings)} findings, {outside}, {loop}, {time.monotonic() - began_at:.0f} s",
            flush=True,
        )
        for finding in found["findings"]:
            print(json.dumps(finding), flush=True)
    for number in range(options.owner_kills):
        token, loop = (f"chaos-{os.getpid()}-{seed}-owner-{number}", LOOPS[(seed + number) % len(LOOPS)])
        after = random.choice([random.uniform(0, 0.2), random.uniform(0, 1.5)])
        seconds, left = kill_owner(token, random.randrange(10**6), options.at_once, loop, after)
        slowest = max(slowest, seconds)
        text = f"a second after the owner was killed, {after:.3f} s after its start, on {loop}: "
        for one in left:
            findings.append({"sort": "survivor", "text": text + one})
            print(json.dumps(findings[-1]), flush=True)
    summary(endings, options.details)
    if hits is not None:
        print(f"hit meanwhile: {', '.join(f'{what} {count}' for what, count in sorted(hits.items()))}")
    sorts = Counter(finding["sort"] for finding in findings)
    print(f"{done} operations, {begun} of them got to run")
    print(f"the longest wait for a verdict was {longest:.3f} s beyond the grace")
    print(f"{options.owner_kills} owners killed; the slowest of them left nothing after {slowest:.3f} s")
    print(f"survivors {sorts['survivor']}, hung {sorts['hung']}, false verdicts {sorts['false verdict']}")
    print(f"files left open {sorts['file']}")
    print(f"seed {seed}, {time.monotonic() - began_at:.1f} s")
    return 1 if findings or done < options.operations else 0


def summary(endings: Counter[str], details: bool) -> None:
    """How operations ended, by place, or by place and body."""
    table: dict[str, Counter[str]] = {}
    for ending, count in endings.items():
        place, body, told = ending.split(": ")
        table.setdefault(f"{place}: {body}" if details else place, Counter())[told] += count
    for name, counts in sorted(table.items()):
        print(f"{name}: {', '.join(f'{told} {count}' for told, count in sorted(counts.items()))}")


if __name__ == "__main__":
    sys.exit(main())
