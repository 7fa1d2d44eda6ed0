"""A line in the log for each operation that ends, with everything known of it as fields.

Nothing of this is on by itself: whoever awaits an operation hears of its ending, and a library that also writes it into
somebody else's log is a nuisance. A program asks for it, once, where it sets up its logs:

    logging.basicConfig(level=logging.INFO)
    calloff.logs.log_endings()

What is logged without being asked (logger ``calloff``) is only what nobody could hear of in any other way: that a body
could not be stopped and was abandoned, and that it ended after all.
"""

import logging
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

from ._operation.observers import Observer, ignore, listen
from ._operation.operation import current_operation
from ._operation.snapshot import facts_of
from ._words.durations_text import spoken
from ._words.frame import at_line
from ._words.reason import LIMITS
from ._words.report import Rung, StopReport, how
from ._words.state import State
from ._words.text import clean

if TYPE_CHECKING:
    from ._operation.operation import Operation

__all__ = ["LEVELS", "Endings", "WithOperation", "log_endings"]

#: the level for each outcome; `timed out` is a cancelled one that a deadline or a stall stopped, and `refused` a
#: completed one that was asked to stop
LEVELS: Mapping[str, int] = MappingProxyType(
    {
        "completed": logging.DEBUG,
        "refused": logging.INFO,
        "cancelled": logging.INFO,
        "timed out": logging.WARNING,
        "failed": logging.WARNING,
        "abandoned": logging.ERROR,
    }
)


def log_endings(
    logger: logging.Logger | str = "calloff.operations", *, levels: Mapping[str, int | str] | None = None
) -> "Endings":
    """Log the ending of every operation of this process from now on.

    Args:
        logger: where to, or its name.
        levels: other levels than `LEVELS` for some of its words: ``{"cancelled": logging.DEBUG}``,
            or ``"DEBUG"``.

    Returns:
        What ends it: call its `close`, or use it in a ``with`` statement.

    Raises:
        TypeError, ValueError: a word in `levels` that `LEVELS` does not have, or what is no level. The caller's fault.

    The text of a line is for people. For machines each record has these fields, all of them always, ``None`` where there
    is nothing to say: `operation_id`, `operation_name`, `parent_id`, `place`, `outcome` (completed, failed, cancelled,
    abandoned), `elapsed` (seconds), `error` (type and text of what a failed one raised); and of a stop: `reason_kind`,
    `reason`, `reason_by`, `rung` (the step that ended it), `refusals`, `clean_up` (seconds from the request to the end),
    `where` (the line at which it was asked, of an abandoned one that at which it is stuck), `survivors`, `helped`.

    Lines are made only where the level is enabled, on the thread of the event loop: give a logger whose handlers may
    take long a `logging.handlers.QueueHandler`.

        with calloff.logs.log_endings():
            calloff.run(main())
    """
    unknown = set(levels or ()) - set(LEVELS)
    if unknown:
        raise ValueError(f"levels must be for some of {', '.join(LEVELS)}, not {', '.join(sorted(map(str, unknown)))}")
    given = {word: _level(level) for word, level in (levels or {}).items()}
    endings = Endings(logging.getLogger(logger) if isinstance(logger, str) else logger, {**LEVELS, **given})
    listen(endings)
    return endings


def _level(level: int | str) -> int:
    """Return the number of a level."""
    if isinstance(level, bool) or not isinstance(level, int | str):
        raise TypeError(f"a level must be a number or a name of the module logging, not {level!r}")
    known = logging.getLevelNamesMapping()
    if isinstance(level, str) and level not in known:
        raise ValueError(f"a level must be a number or one of {', '.join(known)}, not {level!r}")
    return known[level] if isinstance(level, str) else level


#: what became of a body that did not obey its stop
_OWN_ENDS = {State.COMPLETED: "came to its own end all the same,", State.FAILED: "raised that"}


class WithOperation(logging.Filter):
    """Gives each record that passes the operation whose body has logged it: `operation_id` and `operation_name`.

    Both are ``None`` outside of operations; a record that has them already, such as an ending, keeps its own. It works in
    tasks, threads and worker processes alike. A worker sets up its own logging: in a module that is given to
    ``calloff.process.configure(preload=...)``.

        handler.addFilter(calloff.logs.WithOperation())
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let it pass."""
        if not hasattr(record, "operation_id"):
            operation = current_operation.get()
            record.operation_id = None if operation is None else operation.id
            record.operation_name = None if operation is None else operation.name
        return True


class Endings(Observer):
    """What `log_endings` returns."""

    __slots__ = ("_levels", "_logger")

    def __init__(self, logger: logging.Logger, levels: Mapping[str, int]) -> None:
        self._logger = logger
        self._levels = levels

    def close(self) -> None:
        """Log nothing more; a second time changes nothing."""
        ignore(self)

    def __enter__(self) -> "Endings":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def ended(self, operation: "Operation[Any]", /) -> None:
        """Log it."""
        stop = operation._stop  # the whole report takes its time: first see whether anybody will read it
        word = str(operation.state)
        if stop is not None:
            if operation.state is State.COMPLETED:
                word = "refused"
            elif operation.state is State.CANCELLED and stop.kind in LIMITS:
                word = "timed out"
        level = self._levels[word]
        if self._logger.isEnabledFor(level):
            fields = _fields(operation)
            self._logger.log(level, "%s", _text(operation, fields), extra=fields)


def _fields(operation: "Operation[Any]") -> dict[str, Any]:
    report, parent = operation.report, operation.parent
    return {
        "operation_id": operation.id,
        "operation_name": operation.name,
        "parent_id": None if parent is None else parent.id,
        "place": operation.place,
        "outcome": str(operation.state),
        "elapsed": operation.elapsed,
        "error": facts_of(operation).error,
        "reason_kind": None if report is None else str(report.reason.kind),
        "reason": None if report is None else report.reason.text,
        "reason_by": None if report is None else report.reason.by,
        "rung": None if report is None else str(report.rung),
        "refusals": None if report is None else report.refusals,
        "clean_up": None if report is None else report.seconds,
        "where": None if report is None else (at_line(report.stuck_at) or at_line(report.where) or None),
        "survivors": None if report is None else report.survivors,
        "helped": None if report is None else report.helped,
    }


def _text(operation: "Operation[Any]", fields: dict[str, Any]) -> str:
    report = operation.report
    parts = [f"{operation.ref} {fields['outcome']} after {spoken(operation.elapsed)}"]
    if fields["error"]:
        parts.append(fields["error"])
    if report is not None:
        parts += _told(report, _OWN_ENDS.get(operation.state, ""))
        if fields["where"]:
            parts.append(f"{'stuck at' if report.rung is Rung.ABANDONED else 'was at'} {fields['where']}")
    return clean("; ".join(parts))  # names, reasons and errors may be what a client has sent


def _told(report: StopReport, own_end: str) -> list[str]:
    parts = [str(report.reason), how(report, own_end)]
    if report.survivors:
        parts.append(f"survivors: {', '.join(report.survivors)}")
    if report.helped:
        parts.append(f"helped by {', '.join(report.helped)}")
    return parts
