"""The last resort for a coroutine that can't be ended: it is never destroyed either.

Destroying a suspended coroutine means closing it: Python raises GeneratorExit in it, wherever the garbage collector
happens to run, most likely with no event loop. One that catches everything and then awaits gets "no running event
loop" there, catches that, too, and so on for ever: the interpreter never exits. One more reference that nobody gives
back, not even the interpreter at its end, prevents that.
"""

import asyncio
from typing import Any

from ..left import keep_for_good
from .stack import chain_of, is_suspended

__all__ = ["close_for_good", "keep_alive_forever"]


def keep_alive_forever(stuck: object) -> None:
    """Keep a coroutine or a task that was given up as it is, for good; a task does not complain that it never ended."""
    if isinstance(stuck, asyncio.Task):
        task: Any = stuck
        task._log_destroy_pending = False
    keep_for_good(stuck)


def close_for_good(coro: Any) -> tuple[BaseException | None, bool]:
    """Close a coroutine that is never resumed; what ignores that is kept as it is.

    Returns:
        What it has answered the closing with, and whether something ignored the closing.
    """
    chain = chain_of(coro)  # held meanwhile: what ignores the closing must not be destroyed by it
    answer: BaseException | None = None
    try:
        coro.close()
    except BaseException as error:
        answer = error
    stuck = [part for part in chain if is_suspended(part)]
    for part in stuck:
        keep_alive_forever(part)
    return answer, bool(stuck)
