"""The errors: their map, their texts and what they carry."""

import asyncio
import pickle
import subprocess
import sys

import pytest

import calloff
from calloff._words.errors import CommandFailed, WorkerDied, ended_error
from calloff._words.reason import Kind
from calloff._words.ref import Ref
from calloff._words.report import Rung

REF = Ref("7", "call-api")
LINE = calloff.Frame("/x/call_api.py", 6, "call_api", "await asyncio.sleep(delay)")
STUCK = calloff.Frame("/x/deeper.py", 9, "deeper", "await forever()")


def report(kind=Kind.REQUESTED, text="", by=None, rung=Rung.ASKED, where=(LINE,), stuck_at=()):
    return calloff.StopReport(calloff.Reason(kind, text, by, 1.0), True, 1.0, 2.5, rung, 0, where, stuck_at)


def test_the_map():
    assert issubclass(calloff.TimedOut, calloff.CalloffError)
    assert issubclass(calloff.TimedOut, TimeoutError)
    assert issubclass(calloff.OperationCancelled, asyncio.CancelledError)
    assert not issubclass(calloff.OperationCancelled, Exception)
    assert issubclass(WorkerDied, calloff.CalloffError)
    assert issubclass(CommandFailed, calloff.CalloffError)
    assert issubclass(calloff.CalloffError, Exception)
    assert not issubclass(calloff.StopForced, Exception)
    assert not issubclass(calloff.StopForced, asyncio.CancelledError)


@pytest.mark.parametrize(
    ("evidence", "kind", "text"),
    [
        (
            report(Kind.DEADLINE, "within 3 s"),
            calloff.TimedOut,
            "'call-api' did not end within 3 s: at call_api (/x/call_api.py:6): await asyncio.sleep(delay)",
        ),
        (
            report(Kind.STALLED, "for 2 s"),
            calloff.TimedOut,
            "'call-api' made no progress for 2 s: at call_api (/x/call_api.py:6): await asyncio.sleep(delay)",
        ),
        (
            report(),
            calloff.OperationCancelled,
            "'call-api' was cancelled: at call_api (/x/call_api.py:6): await asyncio.sleep(delay)",
        ),
        (
            report(text="too slow", by="operation 3 'boss'"),
            calloff.OperationCancelled,
            "'call-api' was cancelled: too slow (asked by operation 3 'boss'): "
            "at call_api (/x/call_api.py:6): await asyncio.sleep(delay)",
        ),
        (
            report(Kind.PARENT, "its parent ended", where=()),
            calloff.OperationCancelled,
            "'call-api' was cancelled (parent): its parent ended",
        ),
        (
            report(Kind.DEADLINE, "within 3 s", rung=Rung.ABANDONED, stuck_at=(STUCK,)),
            calloff.TimedOut,
            "'call-api' did not end within 3 s and could not be stopped: "
            "stuck at deeper (/x/deeper.py:9): await forever()",
        ),
        (
            report(rung=Rung.ABANDONED),
            calloff.OperationCancelled,
            "'call-api' was cancelled and could not be stopped: "
            "stuck at call_api (/x/call_api.py:6): await asyncio.sleep(delay)",
        ),
        (
            report(rung=Rung.ABANDONED, where=()),
            calloff.OperationCancelled,
            "'call-api' was cancelled and could not be stopped",
        ),
    ],
)
def test_endings_by_a_stop_name_the_operation_the_cause_and_the_line(evidence, kind, text):
    error = ended_error(REF, evidence)
    assert type(error) is kind
    assert str(error) == text
    assert repr(error) == f"{type(error).__name__}({text!r})"
    assert error.operation == REF
    assert error.reason == evidence.reason
    assert error.report == evidence
    assert error.where == evidence.where


def test_a_block_without_an_operation_and_report():
    error = calloff.TimedOut(None, calloff.Reason(Kind.DEADLINE, "within 1 s"))
    assert str(error) == "the block did not end within 1 s"
    assert error.report is None
    assert error.where == ()


def test_a_block_that_noted_its_stack_survives_pickling():
    """Code objects can't be pickled: the lines they stand for can."""

    def block():
        pass

    error = calloff.TimedOut(None, calloff.Reason(Kind.DEADLINE, "within 1 s"), None, "", ((block.__code__, 0),))
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert copy.where == error.where
    assert copy.where[0].function == "block"


def test_a_given_text_is_kept():
    error = calloff.TimedOut(REF, calloff.Reason(Kind.DEADLINE, "within 1 s"), None, "the group did not end within 1 s")
    assert str(error) == "the group did not end within 1 s"


def test_who_lost_a_worker_and_whose_command_failed():
    died = WorkerDied("'crunch' died of SIGKILL", signal=9)
    assert (str(died), died.signal, died.status) == ("'crunch' died of SIGKILL", 9, None)
    assert str(CommandFailed(("make", "all"), 2)) == "'make' ended with status 2"
    assert str(CommandFailed(("make",), -9, "  killed \n")) == "'make' was ended by signal 9: killed"


def test_tracebacks_show_the_public_path():
    """Also in a program that never names the error."""
    program = """if True:
        import asyncio, calloff
        asyncio.run(calloff.call(asyncio.sleep(60), timeout=0.01))
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("calloff.TimedOut: 'sleep' did not end within 0.01 s"), done.stderr
