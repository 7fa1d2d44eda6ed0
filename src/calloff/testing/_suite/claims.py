"""Each await of the project is called off once over the whole suite, not once in each test that comes by.

Who is first claims it. What is claimed of a way through the project is each step of it, from one line to the next: a way
all of whose steps were called off as parts of others shows nothing new, and a library that combines what it is given has
very many. The workers of pytest-xdist share their claims through a folder: a file that can be made only once.

A claim holds for the tests that are swept on the same terms: what came to no harm with a limit of five seconds may do so
with one. A test with a check or a bystander of its own claims nothing, and is called off whatever is claimed.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from .._sweep.course import STARTS
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
        self._new: dict[Plan, list[str]] = {}
        self._folder = Path(tempfile.gettempdir(), f"calloff-sweep-{shared}") if shared else None
        if self._folder is not None:
            self._folder.mkdir(exist_ok=True)

    def is_free(self, plan: Plan, test: str, terms: str = "") -> bool:
        """Whether nobody has tried it on these terms."""
        folder = self._folder
        return any(
            name not in self._mine and not (folder is not None and (folder / name).exists())
            for name in self._names(plan, test, terms)
        )

    def take(self, plan: Plan, test: str, terms: str = "") -> bool:
        """Claim it; ``False`` when somebody has."""
        names = self._names(plan, test, terms)
        new = [name for name in names if name not in self._mine and self._is_first(name)]
        if new:
            self._new[plan] = new
        return bool(new)

    def _is_first(self, name: str) -> bool:
        self._mine.add(name)
        if self._folder is None:
            return True
        try:
            os.close(os.open(self._folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def give_back(self, plan: Plan) -> None:
        """It was claimed, and there is no room for it: another test may try it."""
        for name in self._new.pop(plan, ()):
            self._mine.discard(name)
            if self._folder is not None:
                (self._folder / name).unlink(missing_ok=True)

    def _names(self, plan: Plan, test: str, terms: str) -> list[str]:
        kind = [terms, plan.first, plan.phase, str(plan.turn)]
        if plan.second is None:
            parts = self._parts(plan.point, test)
        else:  # where the clean-up is called off, and what had called for it
            at = self._parts(plan.point, test)[-1][-1].rpartition(":")[2]
            parts = [[*part, at] for part in self._parts(plan.second, test)]
        return [hashlib.sha256("\n".join([*kind, *part]).encode()).hexdigest()[:24] for part in parts]

    def _parts(self, point: Point, test: str) -> list[list[str]]:
        """The steps of the way without the tests; of a point in a test alone, its whole, whatever its parameters.

        Of the task it matters only that it is one: the project may run a coroutine of each test.
        """
        steps = [step for step in point.stack if self._owner_of(step.file) in ("project", "library")]
        if not any(self._owner_of(step.file) == "project" for step in steps):
            return [[test.partition("[")[0], point.owner, *map(_text, point.stack)]]
        task = f"task {point.owner.endswith(STARTS)}" if point.owner else ""
        texts = list(map(_text, steps))
        return [[task, *pair] for pair in zip(["", *texts], texts, strict=False)]


def _text(step: Step) -> str:
    return f"{step.file}:{step.line}:{step.function}"
