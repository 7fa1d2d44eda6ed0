"""An operation of the chaos test as it is drawn, and what its verdict may be, given what was seen."""

from dataclasses import dataclass
from random import Random
from typing import Any

import chaos_bodies as bodies
from chaos_hits import is_told, may_run_on

import calloff

PLACES = ["process", "process", "process", "command", "command", "thread", "task"]
WAYS = ["deadline", "stall", "cancel", "twice", "stop", "parent", "caller", "at once", "from a thread", "left alone"]
KIND = {"deadline": "deadline", "stall": "stalled", "parent": "parent", "caller": "parent"}
ENDS_ITSELF = frozenset(
    {"returns", "raises", "segfaults", "os._exit", "exhausts memory", "async returns", "wanders", "database returns"}
    | {"leaves a tree of 50", "setsid child", "forked daemon", "leaves daemons"}
)
RUNGS = {
    "process": (calloff.Rung.ASKED, calloff.Rung.KILLED),
    "command": (calloff.Rung.ASKED, calloff.Rung.TERMINATED, calloff.Rung.KILLED),
}


@dataclass
class Case:
    """One operation, as drawn."""

    number: int
    token: str
    place: str
    body: str
    way: str
    after: float
    grace: float
    wait: float

    @classmethod
    def draw(cls, run: str, seed: int, number: int) -> "Case":
        random = Random(f"{seed}/{number}")
        place = random.choice(PLACES)
        known = {
            "process": [*bodies.IN_PROCESS, *bodies.IN_ASYNC_PROCESS],
            "command": list(bodies.COMMANDS),
            "thread": list(bodies.IN_THREAD),
            "task": list(bodies.IN_TASK),
        }
        body = random.choice(known[place])
        way = random.choice(WAYS)
        if place == "task" and body in bodies.BLOCKING:
            way = "deadline"
        elif body in ENDS_ITSELF and random.random() < 0.3:
            way = "left alone"
        elif way == "left alone" and body not in ENDS_ITSELF:
            way = "cancel"
        after = random.choice([0.0, random.uniform(0, 0.05), random.uniform(0, 0.3), random.uniform(0.1, 0.6)])
        if place == "task" and body in bodies.BLOCKING:
            after = min(after, 0.05)
        grace = random.choice([0.0, random.uniform(0, 0.1), random.uniform(0, 0.5)])
        wait = random.choice([0.0, random.uniform(0, 0.1)])
        token = f"{run}-{number}."
        return cls(number, token, place, body, way, round(after, 3), round(grace, 3), round(wait, 3))


def was_running(outcome: Any) -> bool:
    return outcome.report is None or outcome.report.started


def told(outcome: Any) -> str:
    name = type(outcome).__name__
    if isinstance(outcome, calloff.Failed):
        return f"{name} {type(outcome.error).__name__}"
    return f"{name} {outcome.report.rung}" if isinstance(outcome, calloff.Cancelled) else name


def judge_stop(case: Case, outcome: Any) -> list[str]:
    """What must be true of every stop."""
    wrong = []
    if case.way == "left alone":
        wrong.append("nobody asked for its stop")
    expected = KIND.get(case.way, "requested")
    if outcome.reason.kind != expected:
        wrong.append(f"its reason is {outcome.reason}, not {expected}")
    if not isinstance(outcome, calloff.Abandoned) and outcome.report.rung not in RUNGS.get(case.place, calloff.Rung):
        wrong.append(f"{outcome.report.rung} is no rung of {case.place}")
    return wrong


def judge_process(case: Case, outcome: Any, seen: dict[str, Any], hit: bool) -> list[str]:
    notes, wrong = seen["notes"], []
    if isinstance(outcome, calloff.Abandoned):
        return [] if hit and may_run_on(outcome) else ["a process is never abandoned"]
    if isinstance(outcome, calloff.Completed):
        if outcome.value != case.token:
            wrong.append(f"the value is {outcome.value!r}")
        if "returns" not in notes:
            wrong.append(f"it did not return: {notes}")
        return wrong
    if isinstance(outcome, calloff.Failed):
        error = outcome.error
        if case.body == "raises" and isinstance(error, ValueError) and error.args == (case.token,):
            return []
        expected = {"segfaults": (11, None), "exhausts memory": (9, None), "os._exit": (None, 7)}.get(case.body)
        if isinstance(error, calloff.WorkerDied) and "dies" in notes and (error.signal, error.status) == expected:
            return []
        if hit and is_told(error) and not seen["workers"]:
            return []
        return [f"failed with {error!r}: {notes}"]
    gone = not seen["workers"] or "out" in notes
    if not gone:
        wrong.append(f"cancelled, but it runs in {seen['workers']}: {notes}")
    if outcome.report.rung is calloff.Rung.KILLED and seen["workers"]:
        wrong.append(f"killed, but {seen['workers']} runs")
    if notes and not outcome.report.started:
        wrong.append("it is said that it never got to run")
    return wrong


def judge_command(case: Case, outcome: Any, hit: bool) -> list[str]:
    if isinstance(outcome, calloff.Abandoned):
        return [] if hit and may_run_on(outcome) else ["a command is never abandoned"]
    if isinstance(outcome, calloff.Completed):
        done = outcome.value
        right = done.status == 0 and done.text == f"{case.token}\n"
        return [] if right else [f"the value is {done}"]
    if isinstance(outcome, calloff.Failed):
        error = outcome.error
        if hit and is_told(error):
            return []
        status = error.status if isinstance(error, calloff.CommandFailed) else None
        return [] if status is not None and status == bodies.STATUS.get(case.body) else [f"failed with {error!r}"]
    return []


def judge_inside(case: Case, record: bodies.Record, operation: Any, outcome: Any) -> list[str]:
    """Of a thread or a task: the body itself has noted whether it runs."""
    if isinstance(outcome, calloff.Abandoned):
        early = record.left_at and not record.parts and record.left_at < outcome.report.ended_at - 0.25
        wrong = [f"abandoned, but it had ended at {record.left_at}"] if early else []
        if not outcome.report.stuck_at and not outcome.report.survivors and not record.left_at:
            wrong.append("abandoned, and it is not said where")
        return wrong
    if record.inside:
        return ["its end is told, but it runs"]
    if record.parts and outcome.report is not None and outcome.report.started:
        return [f"its end is told, but {record.parts} of its children or calls run"]
    if isinstance(outcome, calloff.Completed) and outcome.value != case.token:
        released = outcome.value is None and record.release.is_set()
        return [] if released else [f"the value is {outcome.value!r}"]
    if isinstance(outcome, calloff.Failed):
        error = outcome.error
        if case.body != "raises" or not isinstance(error, ValueError) or error.args != (case.token,):
            return [f"failed with {error!r}"]
    return []
