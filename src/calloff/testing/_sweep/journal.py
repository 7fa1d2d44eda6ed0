"""What a sweep has done so far, kept in a file: an interrupted one, or one with a budget, goes on from there.

The first line says what the results are true for: Python, the packages, the options, and every source file of the
user's own that is loaded or that a point lies in. When any of it has changed, the file is begun anew. Then comes a line
for each cancel that was carried out, written at once. A last line that was cut off by a kill is left out.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .case import Case, Result
from .plan import Plan
from .points import Point, Stack, Step, whose
from .versions import packages_of

__all__ = ["Journal"]


class Journal:
    """The results of the plans that were carried out.

    Args:
        path: the file; it is made when it does not exist.

    Raises:
        OSError: it can't be read, or not written where it is.
    """

    def __init__(self, path: "str | os.PathLike[str]") -> None:
        self._path = Path(path)
        self._results: dict[str, Result] = {}
        with self._path.open("a", encoding="utf-8"):
            pass  # say now when it can't be written

    def open(self, case: Case, points: Iterable[Point]) -> None:
        """Take over what is there, if it is true for this sweep.

        Raises:
            ValueError: the file holds something else.
        """
        head = json.dumps({"calloff sweep": _key(case, [point.stack for point in points])})
        lines = self._path.read_text(encoding="utf-8").splitlines()
        if lines and not lines[0].startswith('{"calloff sweep": '):
            raise ValueError(f"resume: {self._path} is not of a sweep")
        kept = [head]
        if lines and lines[0] == head:
            for line in lines[1:]:
                try:
                    name, result = _read(json.loads(line))
                except (ValueError, TypeError, KeyError):
                    continue
                self._results[name] = result
                kept.append(line)
        if kept != lines:
            self._path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def result(self, plan: Plan) -> Result | None:
        """What came of the plan, if it was carried out before."""
        return self._results.get(_name(plan))

    def note(self, plan: Plan, result: Result) -> None:
        """Keep a result, unless the point was not reached: that is tried again the next time."""
        if result.fired and not result.broken:
            kept = {name: getattr(result, name) for name in _FIELDS}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([_plain(plan), kept]) + "\n")


_FIELDS = ("ending", "violations", "at_fault", "made", "main_at", "cleaning")


def _plain(plan: Plan) -> list[Any]:
    return [plan.phase, plan.point, plan.second, plan.base, plan.turn]


def _name(plan: Plan) -> str:
    return json.dumps(_plain(plan))


def _read(line: Any) -> tuple[str, Result]:
    (phase, point, second, base, turn), kept = line
    plan = Plan(phase, _point(point), None if second is None else _point(second), base, turn=turn)
    return _name(plan), Result(
        plan,
        fired=True,
        ending=kept["ending"],
        violations=[(oracle, text) for oracle, text in kept["violations"]],
        at_fault=None if kept["at_fault"] is None else Step(*kept["at_fault"]),
        made=[_stack(stack) for stack in kept["made"]],
        main_at=_stack(kept["main_at"]),
        cleaning=[_point(point) for point in kept["cleaning"]],
    )


def _point(parts: list[Any]) -> Point:
    owner, stack, nth = parts
    return Point(owner, _stack(stack), nth)


def _stack(steps: list[list[Any]]) -> Stack:
    return tuple(Step(*step) for step in steps)


def _key(case: Case, stacks: list[Stack]) -> str:
    """What a result depends on, as one word."""
    parts = [sys.version, *case.terms]
    for function in (case.fn, case.setup, case.check, case.teardown, case.bystander):
        parts.append(getattr(function, "__qualname__", str(type(function))))
    parts += [f"{name} {version}" for name, version in packages_of(stacks).versions.items()]
    files = {step.file for stack in stacks for step in stack}
    files |= {file for file in (getattr(module, "__file__", None) for module in [*sys.modules.values()]) if file}
    for file in sorted(files):
        if whose(file) == "yours" and os.path.isfile(file):
            parts.append(f"{file} {hashlib.sha256(Path(file).read_bytes()).hexdigest()}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
