"""Every operation ends, and the answer is true.

Names are loaded when they are first used, so that ``import calloff`` and the command line cost next to nothing.
"""

from os import environ as _environ

from ._door import lazy

TYPE_CHECKING = bool()  # noqa: UP018  # Jedi would skip what stands behind a plain False
if TYPE_CHECKING:
    # one statement for each module: they are compiled, and every program reads that at its start
    # isort: off
    from ._api.group import group as group, race as race
    from ._api.map import map as map
    from ._api.run import run as run
    from ._api.start import call as call, start as start
    from ._api.tool import tool as tool
    from ._operation.checkpoint import checkpoint as checkpoint
    from ._operation.current import (
        current as current,
        current_deadline as current_deadline,
        progress as progress,
        remaining as remaining,
    )
    from ._operation.on_stop import on_stop as on_stop
    from ._operation.operation import Operation as Operation
    from ._operation.registry import operations as operations
    from ._operation.watching import Tick as Tick
    from ._places.command.place import command as command
    from ._places.process.place import process as process
    from ._places.thread.place import thread as thread
    from ._scopes.cancel_scope import (
        CancelScope as CancelScope,
        move_on_after as move_on_after,
        move_on_at as move_on_at,
    )
    from ._scopes.shield import shield as shield
    from ._scopes.taskgroup import TaskGroup as TaskGroup
    from ._scopes.timeout import timeout as timeout, timeout_at as timeout_at
    from ._scopes.wait_for import wait_for as wait_for
    from ._version import __version__ as __version__
    from ._words.errors import (
        CalloffError as CalloffError,
        CommandFailed as CommandFailed,
        OperationCancelled as OperationCancelled,
        StopForced as StopForced,
        TimedOut as TimedOut,
        WorkerDied as WorkerDied,
    )
    from ._words.frame import Frame as Frame
    from ._words.outcome import (
        Abandoned as Abandoned,
        Cancelled as Cancelled,
        Completed as Completed,
        Failed as Failed,
        Outcome as Outcome,
    )
    from ._words.reason import Kind as Kind, Reason as Reason
    from ._words.report import Rung as Rung, StopReport as StopReport
    # isort: on

if "CALLOFF_KEEPER_OF" in _environ:  # see `calloff.freezing`
    from .freezing import started_by_mistake

    started_by_mistake()

_HOMES = {
    "_api.group": ("group", "race"),
    "_api.map": ("map",),
    "_api.run": ("run",),
    "_api.start": ("call", "start"),
    "_api.tool": ("tool",),
    "_operation.checkpoint": ("checkpoint",),
    "_operation.current": ("current", "current_deadline", "progress", "remaining"),
    "_operation.on_stop": ("on_stop",),
    "_operation.operation": ("Operation",),
    "_operation.registry": ("operations",),
    "_operation.watching": ("Tick",),
    "_places.command.place": ("command",),
    "_places.process.place": ("process",),
    "_places.thread.place": ("thread",),
    "_scopes.cancel_scope": ("CancelScope", "move_on_after", "move_on_at"),
    "_scopes.shield": ("shield",),
    "_scopes.taskgroup": ("TaskGroup",),
    "_scopes.timeout": ("timeout", "timeout_at"),
    "_scopes.wait_for": ("wait_for",),
    "_version": ("__version__",),
    "_words.errors": ("CalloffError", "CommandFailed", "OperationCancelled", "StopForced", "TimedOut", "WorkerDied"),
    "_words.frame": ("Frame",),
    "_words.outcome": ("Abandoned", "Cancelled", "Completed", "Failed", "Outcome"),
    "_words.reason": ("Kind", "Reason"),
    "_words.report": ("Rung", "StopReport"),
}

if not TYPE_CHECKING:  # type checkers are to know the names above, and no others
    __all__, __getattr__, __dir__ = lazy(__name__, _HOMES)
