"""The ending of a run as an exit status and as one JSON document."""

import json
import reprlib
import sys
from typing import Any

from .._words.errors import CalloffError, CommandFailed
from .._words.frame import Frame
from .._words.outcome import Abandoned, Cancelled, Completed, Failed, Outcome
from .._words.reason import LIMITS, Kind
from .._words.ref import Ref
from .._words.report import Rung
from ._traceback import frames_of

__all__ = ["as_json", "exit_status", "line_of", "plain_value"]

#: The steps that are not a request any more.
BY_FORCE = frozenset({Rung.FORCED, Rung.KILLED, Rung.ABANDONED})


def exit_status(outcome: Outcome[Any], signum: int | None) -> int:
    """The exit status of a run that ended so; `signum` is the signal that asked for the stop, if one did.

    As with GNU timeout, force outranks the reason: 137 says that the work did not stop when it was asked.
    """
    match outcome:
        case Completed():
            return 0
        case Failed(error):
            return _status_of_error(error)
        case Abandoned():
            return 137
        case Cancelled(_, report):
            if report.rung in BY_FORCE:
                return 137
            if report.reason.kind in LIMITS:
                return 124
            return 1 if signum is None or report.reason.kind is not Kind.SHUTDOWN else 128 + signum


def _status_of_error(error: BaseException) -> int:
    if isinstance(error, CommandFailed):
        return error.status if error.status >= 0 else 128 - error.status
    if type(error) is CalloffError:  # and none of those that are about the work
        return 125
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit):
        code = error.code
        return code & 0xFF if isinstance(code, int) else 0 if code is None else 1
    return 1


def plain_value(value: Any) -> tuple[Any, bool]:
    """The value where JSON can hold it, else its `repr`; and which of the two it is."""
    try:
        json.dumps(value, allow_nan=False)
    except Exception:  # of code of the value's own, too
        return _shown(value), False
    return value, True


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except RecursionError:
        return reprlib.repr(value)
    except Exception as error:
        return f"<{type(value).__qualname__}, whose repr raised {type(error).__name__}>"


def line_of(value: Any, is_json: bool) -> str:
    """The line for standard output: what its encoding can't hold (half a character, say) stands there as an escape."""
    text: str = json.dumps(value, ensure_ascii=False) if is_json else value
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(value) if is_json else text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def as_json(outcome: Outcome[Any], ref: Ref, place: str, seconds: float, status: int) -> dict[str, Any]:
    """The document of ``--json``. All durations are seconds; what does not apply is null or empty."""
    report = outcome.report
    value, is_json = plain_value(outcome.value if isinstance(outcome, Completed) and place != "command" else None)
    return {
        "outcome": type(outcome).__name__.lower(),
        "status": status,
        "value": value if is_json else None,
        "repr": None if is_json else value,
        "error": _error(outcome.error) if isinstance(outcome, Failed) else None,
        "operation": {"id": ref.id, "name": ref.name, "place": place},
        "seconds": round(seconds, 6),
        "reason": report and {"kind": str(report.reason.kind), "text": report.reason.text, "by": report.reason.by},
        "rung": report and str(report.rung),
        "refusals": report.refusals if report else 0,
        "started": report.started if report else True,
        "stop_seconds": report and round(report.seconds, 6),
        "where": [_frame(frame) for frame in report.where] if report else [],
        "stuck_at": [_frame(frame) for frame in report.stuck_at] if report else [],
        "survivors": list(report.survivors) if report else [],
    }


def _error(error: BaseException) -> dict[str, Any]:
    frames = [Frame(f.filename, f.lineno or 0, f.name, f.line or "") for f in frames_of(error)]
    return {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": [_frame(frame) for frame in frames],
    }


def _frame(frame: Frame) -> dict[str, Any]:
    return frame._asdict()
