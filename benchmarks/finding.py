"""Which bugs are found: the programs of tests/corpus, each with its mended twin, under calloff and two other tools.

Every tool gets what a program brings: its set-up, check, teardown and bystander. Beyond that each uses what it has
built in. cancellens has no oracles of its own, so it is given those that its documentation shows: the operation ended
as cancelled or returned, and it works again in the same world. detangle is given the same, up to 20 points for its
injected timeout, and its check for tasks that are left. A tool runs in a process of its own, for a minute at most.

Run as ``python -m benchmarks.finding`` it prints what each tool said of each program.
"""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any

from ._rows import AtMost, Figure, Row

CORPUS = Path(__file__).resolve().parent.parent / "tests" / "corpus"
PROGRAMS = sorted(path.stem for path in CORPUS.glob("*.py"))
ROLES = ("setup", "check", "teardown", "bystander")
LIMIT = 60


# --- one program under one tool; each returns "found", "nothing", or why it can't tell


def ours(program: ModuleType, which: str) -> str:
    from calloff.testing import sweep

    roles: dict[str, Any] = {role: getattr(program, role, None) for role in ROLES}
    report = asyncio.run(sweep(getattr(program, which), **roles, timeout=1.0))
    return {"UNSAFE": "found", "SAFE": "nothing"}.get(report.verdict, report.verdict.lower())


def cancellens(program: ModuleType, which: str) -> str:
    from cancellens import Case, Completion, Outcome, require, sweep

    fn = getattr(program, which)

    async def factory() -> list[Any]:
        world = await _world(program)
        return [world, _bystander(program, world)]

    async def operation(state: list[Any]) -> Any:
        return await fn(*state[0])

    async def oracle(state: list[Any], completion: Completion) -> None:
        world, bystander = state
        require(completion.state in ("returned", "cancelled"), "the operation ended")
        require(await _went_well(program, which, world, bystander), "the world is as it should be")

    async def teardown(state: list[Any]) -> None:
        await _torn_down(program, state[0])

    report = asyncio.run(sweep(Case(factory, operation, oracle, teardown)))
    return {Outcome.FAIL: "found", Outcome.PASS: "nothing"}.get(report.outcome, report.outcome.value.lower())


def detangle(program: ModuleType, which: str) -> str:
    import detangle as tool

    fn = getattr(program, which)

    async def test(cancel: bool = True) -> None:
        world = await _world(program)
        bystander = _bystander(program, world)
        try:
            await (tool.maybe_timeout(fn(*world), points=20) if cancel else fn(*world))
        except TimeoutError:
            pass
        assert await _went_well(program, which, world, bystander)
        await _torn_down(program, world)

    leaks = True
    for leaks in (True, False):  # what is left without a cancel, too, is not to be held against it
        try:
            tool.explore(lambda: test(False), runs=1, strategy="fifo", check_leaks=leaks, database=False)
            break
        except tool.BugFound:
            pass
    else:
        return "can't run it"
    try:
        tool.explore(test, runs=200, seed=1, check_leaks=leaks, max_time=60.0, shrink=False, database=False)
    except tool.BugFound:
        return "found"
    return "nothing"


TOOLS = {"calloff": ours, "cancellens": cancellens, "detangle": detangle}


async def _world(program: ModuleType) -> tuple[Any, ...]:
    setup = getattr(program, "setup", None)
    return () if setup is None else (await setup(),)


def _bystander(program: ModuleType, world: tuple[Any, ...]) -> "asyncio.Task[Any] | None":
    bystander = getattr(program, "bystander", None)
    return None if bystander is None else asyncio.ensure_future(bystander(*world))


async def _went_well(program: ModuleType, which: str, world: tuple[Any, ...], bystander: Any) -> bool:
    """Whether the bystander ends, the check agrees, and the function works again (where it does so after a good run)."""
    try:
        if bystander is not None:
            await asyncio.wait_for(bystander, 1)
            return True
        if hasattr(program, "check") and await program.check(*world) is False:
            return False
        if program.__name__ in _NOT_TWICE:
            return True
        await asyncio.wait_for(getattr(program, which)(*world), 1)
    except Exception:
        return False
    return True


async def _torn_down(program: ModuleType, world: tuple[Any, ...]) -> None:
    if hasattr(program, "teardown"):
        await program.teardown(*world)


_NOT_TWICE: set[str] = set()


# --- all of them


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, CORPUS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def works_twice(program: ModuleType, which: str) -> bool:
    """Whether the function can be run again in the same world when nobody calls it off."""

    async def main() -> bool:
        world = await _world(program)
        bystander = _bystander(program, world)
        for _ in range(2):
            try:
                await asyncio.wait_for(getattr(program, which)(*world), 1)
            except Exception:
                return False
        if bystander is not None:
            bystander.cancel()
        return True

    return asyncio.run(main())


def one(tool: str, name: str, which: str) -> tuple[str, float]:
    """What a tool says of a program, and the seconds it took, the start of its process included."""
    command = [sys.executable, "-m", "benchmarks.finding", tool, name, which]
    began = perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return "hung", LIMIT
    said = done.stdout.splitlines()
    return (json.loads(said[-1]) if done.returncode == 0 and said else "failed"), perf_counter() - began


def everything(programs: list[str]) -> dict[tuple[str, str, str], tuple[str, float]]:
    """By tool, program and twin."""
    jobs = [(tool, name, which) for tool in TOOLS for name in programs for which in ("buggy", "mended")]
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(jobs, pool.map(lambda job: one(*job), jobs), strict=True))


def run(quick: bool) -> list[Row]:
    programs = PROGRAMS[::5] if quick else PROGRAMS
    said = everything(programs)
    missed = {t: sum(said[t, name, "buggy"][0] != "found" for name in programs) for t in TOOLS}
    alarms = {t: sum(said[t, name, "mended"][0] == "found" for name in programs) for t in TOOLS}
    rows: list[Row] = []
    for tool in TOOLS:
        goal = AtMost(0) if tool == "calloff" else None
        rows.append(Row(f"bugs missed, of {len(programs)}: {tool}", "bugs", Figure((missed[tool],)), goal=goal))
    for tool in TOOLS:
        goal = AtMost(0) if tool == "calloff" else None
        rows.append(Row(f"false alarms, {len(programs)} twins: {tool}", "alarms", Figure((alarms[tool],)), goal=goal))
    return rows


def main() -> None:
    said = everything(PROGRAMS)
    print(f"| {'program':22} | " + " | ".join(f"{tool:18}" for tool in TOOLS) + " |")
    print("|---|" + "---|" * len(TOOLS))
    for name in PROGRAMS:
        cells = []
        for tool in TOOLS:
            alarm = ", false alarm" if said[tool, name, "mended"][0] == "found" else ""
            verdict = said[tool, name, "buggy"][0]
            cells.append(f"{'missed' if verdict == 'nothing' else verdict}{alarm}")
        print(f"| {name.replace('_', ' '):22} | " + " | ".join(f"{cell:18}" for cell in cells) + " |")
    for tool in TOOLS:
        print(f"{tool}: {sum(seconds for (of, _, _), (_, seconds) in said.items() if of == tool):.0f} s in all")


if __name__ == "__main__":
    if sys.argv[1:]:
        tool_, name_, which_ = sys.argv[1:]
        program_ = load(name_)
        program_.OWNER_CLOSES = which_ == "mended"  # type: ignore[attr-defined]
        if tool_ != "calloff" and not works_twice(program_, which_):
            _NOT_TWICE.add(name_)
        print(json.dumps(TOOLS[tool_](program_, which_)), flush=True)
        os._exit(0)  # whatever a program has left behind
    else:
        main()
