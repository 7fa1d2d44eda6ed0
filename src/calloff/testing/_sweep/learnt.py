"""What was found already: the same fault at the next await, or in the next test, needs no second look."""

import re
from collections.abc import Collection, Iterable

from .case import Result
from .points import Step

__all__ = ["Learnt", "alike", "without_evidence"]

#: what tells by itself where it was made, or is about the end of the function that was called off
_OF_ITSELF = frozenset({"obeyed", "ended", "error", "cancelling", "restart", "bystander", "check", "teardown"})


class Learnt:
    """The violations that were seen for certain, each with the lines they are held against."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], set[Step]] = {}

    def note(self, violations: Iterable[tuple[str, str]], fault: Step) -> None:
        """They are held against this line."""
        for item in violations:
            self._seen.setdefault(alike(item), set()).add(fault)

    def knows(self, violations: Collection[tuple[str, str]], fault: Step) -> bool:
        """Whether all of them are held against this line already."""
        return bool(violations) and all(fault in self._seen.get(alike(item), ()) for item in violations)

    def explains(self, result: Result) -> Step | None:
        """The line of a task called off beside the one in question that is known to leave the same."""
        for item in without_evidence(result):
            known = self._seen.get(alike(item), set())
            for step in (step for stack in result.beside for step in reversed(stack)):
                if step in known:
                    return step
        return None


def alike(violation: tuple[str, str]) -> tuple[str, str]:
    """The same from run to run."""
    return violation[0], re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?", "#", violation[1])


def without_evidence(result: Result) -> list[tuple[str, str]]:
    """The violations that don't tell whose they are, where all of them are so."""
    pairs = zip(result.violations, result.made, strict=True)
    found = [item for item, made in pairs if not made and item[0] not in _OF_ITSELF]
    return found if len(found) == len(result.violations) and result.at_fault is None else []
