"""Each await of the project is called off once over the whole suite, not once in each test that comes by.

Who is first claims it. The workers of pytest-xdist share their claims through a folder: a file that can be made only once.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from .._sweep.driver import STARTS
from .._sweep.plan import Plan
from .._sweep.points import Point, Step

__all__ = ["Claims"]


class Claims:
    """What was claimed.

    Args:
        owner_of: whose a file is.
        shared: a name that all workers of a run have in common; empty for a run without workers.
    """

    def __init__(self, owner_of: Callable[[str], str], shared: str = "") -> None:
        self._owner_of = owner_of
        self._mine: set[str] = set()
        self._theirs: set[str] = set()
        self._folder = Path(tempfile.gettempdir(), f"calloff-sweep-{shared}") if shared else None
        if self._folder is not None:
            self._folder.mkdir(exist_ok=True)

    def is_free(self, plan: Plan, test: str) -> bool:
        """Whether nobody has tried it."""
        name = self._name(plan, test)
        return name not in self._mine and not (self._folder is not None and (self._folder / name).exists())

    def take(self, plan: Plan, test: str) -> bool:
        """Claim it; ``False`` when somebody has."""
        name = self._name(plan, test)
        if name in self._mine:
            return False
        self._mine.add(name)
        if self._folder is None:
            return True
        try:
            os.close(os.open(self._folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def _name(self, plan: Plan, test: str) -> str:
        parts = [plan.first, plan.phase, str(plan.turn)]
        for point in (plan.point, plan.second):
            if point is not None:
                parts += self._way(point, test)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]

    def _way(self, point: Point, test: str) -> list[str]:
        """The stack without the tests; of a point in a test alone, the test's own, whatever its parameters.

        Of the task it matters only that it is one: the project may run a coroutine of each test.
        """
        steps = [step for step in point.stack if self._owner_of(step.file) in ("project", "library")]
        if not any(self._owner_of(step.file) == "project" for step in steps):
            steps = list(point.stack)
            return [test.partition("[")[0], point.owner, *map(_text, steps)]
        task = f"task {point.owner.endswith(STARTS)}" if point.owner else ""
        return [task, *map(_text, steps)]


def _text(step: Step) -> str:
    return f"{step.file}:{step.line}:{step.function}"
