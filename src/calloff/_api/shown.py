"""What a traceback shows of an error that leaves `run`: the caller's own steps."""

from types import TracebackType

from .._words.errors import CalloffError, OperationCancelled

__all__ = ["shorten"]

_OWN = (CalloffError, OperationCancelled)


def shorten(error: BaseException) -> None:
    """Take our steps before the first of the caller's code out of its traceback, and of an error of ours those at the end.

    An error of ours says all in its words: which steps of ours have raised it tells nobody anything. Those of any other
    error stay, since one of them may be at fault.
    """
    steps: list[TracebackType] = []
    step = error.__traceback__
    while step is not None:
        steps.append(step)
        step = step.tb_next
    while steps and _is_ours(steps[0]):
        del steps[0]
    while isinstance(error, _OWN) and steps and _is_ours(steps[-1]):
        del steps[-1]
    if not steps and not isinstance(error, _OWN):
        return
    kept: TracebackType | None = None
    for step in reversed(steps):
        kept = TracebackType(kept, step.tb_frame, step.tb_lasti, step.tb_lineno)
    error.__traceback__ = kept


def _is_ours(step: TracebackType) -> bool:
    name = step.tb_frame.f_globals.get("__name__")
    return isinstance(name, str) and name.partition(".")[0] == "calloff"
