"""The ending of a run as an exit status, as one or two lines for people, and as one JSON document."""

import json
from typing import Any

from .._words.durations_text import spoken
from .._words.errors import CalloffError, CommandFailed
from .._words.frame import Frame, at_line
from .._words.outcome import Abandoned, Cancelled, Completed, Failed, Outcome
from .._words.reason import LIMITS, Kind, Reason
from .._words.ref import Ref
from .._words.report import Rung, StopReport
from ._traceback import frames_of

__all__ = ["ENDS", "as_json", "exit_status", "plain_value", "verdict"]

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


def verdict(outcome: Outcome[Any], ref: Ref) -> list[str]:
    """What ended it, how hard that was, and where it was: lines for people. Nothing for an undisturbed ending."""
    report = outcome.report
    if report is None:
        return []
    lines = [f"{ref.name!r} {_why(report.reason)}: {_how(outcome, report)}"]
    stuck = at_line(report.stuck_at)
    if stuck:
        lines.append(f"stuck at {stuck}")
    elif report.where:
        lines.append(f"it was at {at_line(report.where)}")
    lines += [f"still running: {survivor}" for survivor in report.survivors]
    return lines


def _why(reason: Reason) -> str:
    if reason.kind is Kind.DEADLINE:
        return f"did not end {reason.text}"
    if reason.kind is Kind.STALLED:
        return f"made no progress {reason.text}"
    words = "was called off" if reason.kind is Kind.REQUESTED else f"was called off ({reason.kind})"
    told = ", ".join(part for part in (reason.text, reason.by and f"by {reason.by}") if part)
    return f"{words} [{told}]" if told else words


def _how(outcome: Outcome[Any], report: StopReport) -> str:
    after = "at once" if report.seconds < 0.005 else f"{spoken(report.seconds)} after the request"
    refused = {0: "", 1: ", 1 refusal"}.get(report.refusals, f", {report.refusals} refusals")
    match outcome:
        case Completed():
            return f"asked to stop, it came to its own end all the same, {after}{refused}"
        case Failed(error):
            return f"asked to stop, it raised {type(error).__name__} {after}{refused}"
        case _ if not report.started:
            return "it never began to run"
        case _:
            return f"{ENDS[report.rung]} ({report.rung}) {after}{refused}"


#: what each rung says to people
ENDS = {
    Rung.ASKED: "it stopped when asked",
    Rung.INSISTED: "it stopped when asked again",
    Rung.INTERRUPTED: "it was blocking the event loop and was interrupted",
    Rung.FORCED: "ended by force",
    Rung.TERMINATED: "it ended when asked by a signal",
    Rung.KILLED: "killed",
    Rung.ABANDONED: "it could not be stopped and was given up",
}


def plain_value(value: Any) -> tuple[Any, bool]:
    """The value where JSON can hold it, else its `repr`; and which of the two it is."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return repr(value), False
    return value, True


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
