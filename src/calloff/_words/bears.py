"""The functions of ours that call code of the program and bear whatever it raises.

An interrupt of a blocked event loop is raised in the frame on top, which is the program's, and passes through those below.
Of our own synchronous frames it may pass only through these: each is as good as never called when an exception leaves it.
"""

from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar

__all__ = ["bears", "bearing"]

F = TypeVar("F", bound=Callable[..., Any])
#: their code
bearing: set[CodeType] = set()


def bears(function: F) -> F:
    """Mark one of them."""
    bearing.add(function.__code__)
    return function
