"""One program full of operations that misbehave; started by `chaos.py`, once to be judged, or again and again to be killed.

Every operation is drawn from the seed and its number alone: place, body, how it is stopped, when, and with which grace.
After each verdict the observer says what really runs, and the two are compared. The answer, one JSON document, goes to
standard output.
"""

import argparse
import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import chaos_bodies as bodies
import chaos_database
import chaos_outside as outside_of
import chaos_worlds
from chaos_hits import may_run_on
from chaos_judge import Case, judge_command, judge_inside, judge_process, judge_stop, told, was_running

import calloff

#: the longest way from a request to a verdict is the grace, a second, and this for a busy machine
SLACK = 2.25
GIVE_UP = 15.0


@dataclass
class Finding:
    """What must not be."""

    sort: str
    """survivor, hung or false verdict"""
    text: str
    case: dict[str, Any]
    outcome: str = ""


@dataclass
class Result:
    operations: int = 0
    begun: int = 0
    """those whose body got to run"""
    endings: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """tokens of operations whose verdict says that something of them may run on"""
    longest: float = 0.0
    """the longest time between a request and its verdict, beyond the grace"""


class Observer:
    """The other process, which looks."""

    def __init__(self, run: str) -> None:
        ours, theirs = socket.socketpair()
        program = str(Path(__file__).with_name("chaos_observer.py"))
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", program, run], stdin=theirs.fileno(), stdout=theirs.fileno(), env={}
        )
        theirs.close()
        self._socket = ours
        self._asked: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(sock=self._socket)
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while line := await self._reader.readline():
            answer = json.loads(line)
            self._asked.pop(answer["token"]).set_result(answer)

    async def look(self, token: str, notes: str) -> dict[str, Any]:
        self._asked[token] = future = asyncio.get_running_loop().create_future()
        self._writer.write(f"{token} {notes}\n".encode())
        return await asyncio.wait_for(future, 30)

    async def close(self) -> None:
        self._writer.close()
        await self._task
        self._process.wait()


class Mix:
    def __init__(
        self, run: str, seed: int, folder: str, observer: Observer | None, hit: bool, outside: str = "plain"
    ) -> None:
        self.run = run
        self.hit = hit
        self.outside = outside
        self._change = outside_of.begin(outside, folder)
        self.seed = seed
        self.folder = folder
        self.observer = observer
        self.result = Result()
        self.told: dict[str, str] = {}
        self.database = chaos_database.Watch() if chaos_database.join() else None

    # --- one operation

    def work(self, case: Case, record: bodies.Record) -> Any:
        notes = os.path.join(self.folder, str(case.number))
        if case.place == "process":
            inside = bodies.in_async_process if case.body in bodies.IN_ASYNC_PROCESS else bodies.in_process
            return calloff.process(inside, case.body, notes, case.token, case.wait)
        if case.place == "command":
            environment = {**os.environ, "CALLOFF_CHAOS": case.token}
            line = bodies.COMMANDS[case.body]
            return calloff.command("/bin/sh", "-c", line, case.token, str(case.wait), env=environment)
        if case.place == "thread":
            return calloff.thread(bodies.in_thread, case.body, record)
        return bodies.in_task(case.body, record)

    async def one(self, case: Case) -> None:
        record = bodies.Record(case.token, case.wait)
        self.result.operations += 1
        try:
            self._change(case.number)
            operation, hung = await self.stopped(case, partial(self.work, case, record))
            if hung:
                self.blame("hung", hung, case, operation)
            if not operation.done():
                return
            outcome = await operation.outcome()
            self.told[str(case.number)] = f"{case.place}, {case.body}, {case.way}: {outcome}"
            self.result.endings[f"{case.place}: {case.body}: {told(outcome)}"] += 1
            if self.observer is None:
                return
            if operation.report is not None:
                beyond = operation.report.seconds - case.grace
                self.result.longest = max(self.result.longest, beyond)
            await self.judge(case, record, operation, outcome)
        except Exception as error:
            if self.outside in outside_of.SHORT and outside_of.is_short(
                error
            ):  # it could not even be started: that is true
                return
            self.blame("false verdict", traceback.format_exc(), case, None)
        finally:
            record.release.set()

    async def stopped(self, case: Case, work: Callable[[], Any]) -> tuple[Any, str]:
        """Start it, have it stopped in its way, wait; what is wrong about the waiting."""
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"grace": case.grace, "name": case.body, "detached": True}
        others: list[asyncio.Future[Any]] = []
        if case.way == "deadline":
            options["timeout"] = case.after
        elif case.way == "stall":
            options["stall"] = case.after
        if case.way == "parent":
            box: list[Any] = []
            del options["detached"]

            async def parent() -> None:
                box.append(calloff.start(work(), **options))
                await asyncio.sleep(case.after)

            above = calloff.start(parent(), detached=True)
            await above
            operation, asked_at = box[0], loop.time()
        else:
            operation = calloff.start(work(), **options)
            asked_at = loop.time() + case.after
            if case.way == "at once":
                asked_at = loop.time()
                operation.cancel("chaos")
            elif case.way == "left alone":
                asked_at += GIVE_UP - 5.0
            elif case.way == "caller":
                caller = asyncio.ensure_future(awaiting(operation))
                others.append(caller)
                await asyncio.sleep(case.after)
                caller.cancel()
            elif case.way not in ("deadline", "stall"):
                await asyncio.sleep(case.after)
                asked_at = loop.time()
                if case.way == "stop":
                    others.append(asyncio.ensure_future(operation.stop("chaos")))
                elif case.way == "from a thread":
                    thread = threading.Thread(target=operation.cancel, args=("chaos",))
                    try:
                        thread.start()
                    except RuntimeError:  # the system has none left
                        operation.cancel("chaos")
                else:
                    operation.cancel("chaos")
                    if case.way == "twice":
                        await asyncio.sleep(case.grace / 2)
                        operation.cancel("again", grace=0)
        others.append(asyncio.ensure_future(operation.outcome()))
        left = max(0.0, asked_at - loop.time()) + case.grace + GIVE_UP
        _, pending = await asyncio.wait(others, timeout=left)
        late = loop.time() - asked_at - case.grace - 1.0
        if case.way in ("deadline", "stall") and not pending:  # which count from the begin of the body
            late = operation.report.seconds - case.grace - 1.0 if operation.report is not None else 0.0
        for one in pending:
            one.cancel()
        if pending:
            return operation, f"{len(pending)} waits did not return within {left:.1f} s"
        if late > SLACK:
            return operation, f"returned {late:.2f} s after its bound"
        return operation, ""

    # --- the verdict and the truth

    def blame(self, sort: str, text: str, case: Case, operation: Any) -> None:
        if operation is None:
            ending = ""
        elif operation.done():
            ending = f"{operation.state}, {operation.report}"
        else:
            ending = f"{operation.state}, at {operation.where()[-1:]}"
        self.result.findings.append(Finding(sort, text, asdict(case), ending))

    async def judge(self, case: Case, record: bodies.Record, operation: Any, outcome: Any) -> None:
        assert self.observer is not None
        wrong: list[str] = []
        lost_sight = False
        if case.place in ("process", "command"):
            seen = await self.observer.look(case.token, os.path.join(self.folder, str(case.number)))
            self.result.begun += bool(seen["notes"]) if case.place == "process" else was_running(outcome)
            lost_sight = self.hit and may_run_on(outcome)
            if lost_sight:
                self.result.lost.append(case.token)
            elif seen["survivors"]:
                self.blame("survivor", "; ".join(seen["survivors"]), case, operation)
            if case.place == "process":
                wrong += judge_process(case, outcome, seen, self.hit)
            else:
                wrong += judge_command(case, outcome, self.hit)
        else:
            seen = {"workers": [], "notes": []}
            self.result.begun += was_running(outcome)
            wrong += judge_inside(case, record, operation, outcome)
            if self.database is not None and case.body in chaos_database.BODIES:
                wrong += await self.database.judge(case.token, outcome)
        ended = isinstance(outcome, (calloff.Failed, calloff.Completed))
        if self.outside in outside_of.SHORT and ended and self._is_short(outcome, seen):
            wrong.clear()
        if isinstance(outcome, (calloff.Cancelled, calloff.Abandoned)):
            wrong += judge_stop(case, outcome)
            if outcome.report.survivors and case.place in ("process", "command") and not lost_sight:
                self.blame("survivor", f"told: {outcome.report.survivors}", case, operation)
        for text in wrong:
            self.blame("false verdict", text, case, operation)

    def _is_short(self, outcome: Any, seen: dict[str, Any]) -> bool:
        """Whether it came to nothing, and nothing of it runs, because the system had no more to give to it."""
        if isinstance(outcome, calloff.Completed):  # a shell says so, waits for nobody, and ends well
            return b"Cannot fork" in getattr(outcome.value, "stderr", b"")
        return outside_of.is_short(outcome.error) and (not seen["workers"] or "out" in seen["notes"])

    # --- all of them

    async def many(self, numbers: Iterator[int], at_once: int) -> None:
        calloff.process.configure(size=at_once)
        if self.observer is not None:
            await self.observer.open()
        before = outside_of.files_open()

        async def serve() -> None:
            for number in numbers:
                await self.one(Case.draw(self.run, self.seed, number))

        await asyncio.gather(*(serve() for _ in range(at_once)))
        counts = calloff.process.counts()
        if counts.running or counts.waiting:
            self.result.findings.append(Finding("false verdict", f"all have ended, but {counts}", {}))
        for operation in await settled():
            self.result.findings.append(Finding("false verdict", f"{operation} is listed for ever", {}))
        if self.database is not None:
            for text in await self.database.close():
                self.result.findings.append(Finding("false verdict", text, {}))
        await self.leave_nothing_open(before)
        if self.observer is not None:
            await self.observer.close()

    async def leave_nothing_open(self, before: set[tuple[str, str]]) -> None:
        """With all workers gone there is the keeper: its socket, the pipe that it writes to, and a timer's at most."""
        calloff.process.restart()
        until = time.monotonic() + 10

        def opened() -> set[tuple[str, str]]:
            found = outside_of.files_open() - before
            return {each for each in found if self.database is None or not chaos_database.leads_to_server(int(each[0]))}

        while len(left := opened()) > 3 and time.monotonic() < until:
            await asyncio.sleep(0.05)
        if len(left) > 3:
            self.result.findings.append(Finding("file", f"open in the end: {sorted(left)}", {}))


async def awaiting(operation: Any) -> None:
    try:
        await operation
    except BaseException:
        pass


async def settled() -> list[Any]:
    """The operations that stay listed, though nothing holds up any of them any more."""
    until = time.monotonic() + 10
    while True:
        left = [each for each in calloff.operations() if each is not calloff.current()]
        if not left or time.monotonic() > until:
            return left
        await asyncio.sleep(0.05)


def new_loop(kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if kind == "uvloop":
        import uvloop

        return uvloop.new_event_loop

    def make() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        if kind == "eager":
            loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        elif kind in chaos_worlds.WORLDS:
            chaos_worlds.WORLDS[kind](loop)
        return loop

    return make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, help="the token that all processes of this run carry")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--operations", type=int, required=True)
    parser.add_argument("--at-once", type=int, default=12)
    parser.add_argument("--loop", default="asyncio")
    parser.add_argument("--outside", default="plain", choices=outside_of.OUTSIDE, help="what the program lives in")
    parser.add_argument("--hit", action="store_true", help="somebody kills and stops the helpers")
    parser.add_argument("--unobserved", action="store_true", help="say when it has begun, and judge nothing")
    options = parser.parse_args()
    logging.getLogger("calloff").setLevel(logging.ERROR)  # what is abandoned is said to be in the verdict
    chaos_worlds.join()
    with tempfile.TemporaryDirectory(prefix="calloff-chaos-") as folder:
        observer = None if options.unobserved else Observer(options.run)
        mix = Mix(options.run, options.seed, folder, observer, options.hit, options.outside)
        if options.unobserved:
            print(folder, flush=True)
        numbers = iter(range(options.first, options.first + options.operations))
        calloff.run(mix.many(numbers, options.at_once), loop_factory=new_loop(options.loop))
        late = {name: Path(folder, name).read_text() for name in os.listdir(folder)} if observer is not None else {}
    for name, text in late.items():  # written after the look that followed the verdict
        notes = f"notes after its verdict: {text[:200]!r}"
        mix.result.findings.append(Finding("survivor", notes, {"number": int(name)}, mix.told.get(name, "")))
    findings = [asdict(finding) for finding in mix.result.findings]
    print(json.dumps({**vars(mix.result), "findings": findings}), flush=True)


if __name__ == "__main__":
    main()
