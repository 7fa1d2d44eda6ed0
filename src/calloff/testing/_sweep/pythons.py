"""Faults of Python's own library that a cancel brings out: told as Python's, with the version that mends them."""

import asyncio
import asyncio.staggered
import sys
from types import CodeType
from typing import Any, NamedTuple

from .points import Stack, Step, is_python

__all__ = ["Known", "pythons_own"]


class Known(NamedTuple):
    """One fault.

    Attributes:
        codes: the functions of Python that have it.
        oracles: what sees it.
        mended: the first version without it; ``None`` for none so far.
        text: what goes wrong.
        inner: whether it shows only where the wait is that function's own.
    """

    codes: tuple[CodeType, ...]
    oracles: frozenset[str]
    mended: tuple[int, int] | None
    text: str
    inner: bool = True

    @property
    def label(self) -> str:
        """What to tell."""
        since = "in every version so far" if self.mended is None else f"before {'.'.join(map(str, self.mended))}"
        return f"Python's own fault: {self.text}, {since}"


def pythons_own(
    stack: Stack, oracles: frozenset[str], version: tuple[int, int] = sys.version_info[:2], made: Stack = ()
) -> "tuple[Step, Known] | None":
    """The fault of Python that explains a finding, and the frame that has it.

    It explains nothing that the caller of that function has made at another line (`made`).
    """
    tail = len(stack)
    while tail and is_python(stack[tail - 1].file):
        tail -= 1
    caller = stack[tail - 1] if tail else None
    maker = next((step for step in reversed(made) if not is_python(step.file)), None)
    if caller and maker and (caller.file, caller.function) == (maker.file, maker.function) and caller != maker:
        return None
    for known in _KNOWN:
        if (known.mended is not None and version >= known.mended) or not oracles <= known.oracles:
            continue
        for step in reversed(stack[tail:] if known.inner else stack):
            if any(_is_in(step, code) for code in known.codes):
                return step, known
    return None


def _is_in(step: Step, code: CodeType) -> bool:
    return step.file == code.co_filename and any(line == step.line for _, _, line in code.co_lines())


def _codes(*functions: Any) -> tuple[CodeType, ...]:
    found: list[CodeType] = []
    for function in functions:
        found.append(function.__code__)
        found += [const for const in function.__code__.co_consts if isinstance(const, CodeType)]
    return tuple(found)


_LOST = frozenset({"restart", "bystander", "locks", "obeyed"})
_OPEN = frozenset({"files", "readers", "tasks", "restart"})
_KNOWN = (
    Known(_codes(asyncio.Condition.wait), _LOST, (3, 13), "Condition.wait loses a notify at a cancel"),
    Known(_codes(asyncio.wait_for), _LOST | _OPEN, (3, 12), "wait_for loses a cancel, or a result"),
    Known(
        _codes(asyncio.staggered.staggered_race),
        _OPEN,
        None,
        "open_connection with happy eyeballs loses its socket",
        False,
    ),
    Known(
        _codes(
            asyncio.BaseEventLoop.create_server,
            asyncio.SelectorEventLoop.create_unix_server,  # that of the base, which only raises, where there are none
        ),
        _OPEN,
        None,
        "create_server (or create_unix_server), called off at its end, goes on listening",
    ),
)
