"""How an operation comes to be: from a body, its name and its limits to one that runs.

A function does it, not a constructor: CPython calls that by way of C, with arguments packed and unpacked, which is a
noticeable part of what an operation costs.
"""

from asyncio import AbstractEventLoop
from itertools import count
from typing import Any

from .._scopes.timers import NEVER
from .._words.place import Body
from .._words.state import State
from . import ending, requesting
from .hooks import emit, hooks
from .known import live
from .limits import Limits, PatientLimits
from .loops import hosts, timers_for
from .operation import Operation

__all__ = ["begin"]

_numbers = count(1)
_PENDING = State.PENDING


def begin(
    body: Body,
    name: str,
    loop: AbstractEventLoop,
    timeout: float | None,
    stall: float | None,
    grace: float,
    parent: Operation[Any] | None,
    patience: float | None,
) -> Operation[Any]:
    """Make the operation of a body, and begin it; raises what the body raises when it can't begin."""
    self: Operation[Any] = Operation()  # of the running loop, which is `loop`: naming it would cost a dict of arguments
    self.body = body
    self._place = body.place
    try:
        timers = hosts[loop]
    except KeyError:
        timers = timers_for(loop, live)
    self.timers = timers
    self.timer_at = NEVER
    self.timer_bucket = None
    self._number = next(_numbers)
    self._name = name
    self._parent = parent
    self._grace = grace
    self._phase = _PENDING
    self._children = self._stop = self._waiters = self._awaited_by = self._limits = self._landing = None
    self._progress = None
    self._ended_at = None
    self._started_at = now = timers.now()
    if patience is not None:
        self._limits = patient = PatientLimits(timeout, stall, patience)
        if not body.queued:
            requesting.start_limits(self, patient, now)
        else:
            patient.wait(now)
            requesting.arm(self)
    elif timeout is not None or stall is not None:
        self._limits = limits = Limits(timeout, stall)
        if not body.queued:
            requesting.start_limits(self, limits, now)
    live[self] = None
    if parent is not None:
        if parent._children is None:
            parent._children = {}
        parent._children[self] = None
    if hooks.started:
        emit(hooks.started, self)
    try:
        body.begin(self)
    except BaseException as error:
        ending.not_begun(self, error)
        raise
    return self
