"""Texts for evidence."""

import asyncio
import os

from .points import Step, is_ours, is_python

__all__ = ["at_line", "comparable", "foreign", "named", "raised_at"]


def named(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text:.200}" if text else type(error).__name__


def foreign(error: BaseException) -> bool:
    """Whether it is the cancel of the sweep itself, not one that what was called met by awaiting something cancelled."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def raised_at(error: BaseException) -> str:
    trace = error.__traceback__
    found = ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not is_python(file) and not is_ours(file):
            found = f" ({os.path.basename(file)}:{trace.tb_lineno})"
        trace = trace.tb_next
    return found


def comparable(value: object) -> str:
    """A text to compare values by; ``""`` for what can't be compared across processes."""
    if value is None or isinstance(value, (bool, int, float, str, bytes, tuple, list, dict)):
        text = repr(value)
        return "" if " at 0x" in text or len(text) > 2000 else text
    return ""


def at_line(step: Step) -> str:
    place = f"{os.path.basename(step.file)}:{step.line}"
    return f"{place}: {step.source}" if step.source else place
