"""What an ending says of itself: the sentence that the command line prints."""

import linecache
import os
import re
import threading
from asyncio import CancelledError

import pytest

import calloff
from calloff import Abandoned, Cancelled, Completed, Failed, Frame, Kind, Reason, Rung, StopReport
from calloff._words.frame import develop
from calloff._words.ref import Ref

REF = Ref("7", "load")
LINE = Frame("/app/load.py", 3, "load", "await get()")


def report(rung, kind=Kind.REQUESTED, text="", by=None, seconds=1.0, **rest):
    return StopReport(Reason(kind, text, by, 10.0), rest.pop("started", True), 10.0, 10.0 + seconds, rung, **rest)


SENTENCES = [
    (Completed(3), "completed with 3"),
    (Failed(ValueError("no")), "failed: ValueError('no')"),
    (
        Cancelled(REF, report(Rung.ASKED, seconds=0.0, where=(LINE,))),
        "'load' was called off: it stopped when asked (ASKED) at once; it was at load (/app/load.py:3): await get()",
    ),
    (
        Cancelled(REF, report(Rung.FORCED, Kind.DEADLINE, "within 2 s", refusals=5)),
        "'load' did not end within 2 s: ended by force (FORCED) 1.0 s after the request, 5 refusals",
    ),
    (
        Cancelled(REF, report(Rung.ASKED, Kind.SHUTDOWN, "over", "SIGTERM", started=False)),
        "'load' was called off (shutdown) [over, by SIGTERM]: it never began to run",
    ),
    (
        Abandoned(REF, report(Rung.ABANDONED, Kind.STALLED, "for 1 s", stuck_at=(LINE,), survivors=("thread A",))),
        "'load' made no progress for 1 s: it could not be stopped and was abandoned (ABANDONED) 1.0 s after the request; "
        "stuck at load (/app/load.py:3): await get(); still running: thread A",
    ),
    (
        Completed("x", report(Rung.ASKED, refusals=1, seconds=0.5)),
        "completed with 'x'; it was called off: asked to stop, it came to its own end all the same, 0.50 s after the "
        "request, 1 refusal",
    ),
    (
        Failed(KeyError("k"), report(Rung.ASKED, seconds=0.0)),
        "failed: KeyError('k'); it was called off: asked to stop, it raised KeyError at once",
    ),
]


@pytest.mark.parametrize(("outcome", "sentence"), SENTENCES, ids=range(len(SENTENCES)))
def test_the_sentence(outcome, sentence):
    assert str(outcome) == sentence
    assert sentence not in repr(outcome), "which is data"


def test_of_a_report():
    assert str(report(Rung.KILLED, Kind.PARENT, "its parent ended")) == (
        "was called off (parent) [its parent ended]: killed (KILLED) 1.0 s after the request"
    )


def test_a_value_that_has_no_text():
    class Bad:
        def __repr__(self):
            raise ValueError

    assert str(Completed(Bad())) == "completed with <Bad>"
    assert len(str(Completed("x" * 10_000))) < 300


@pytest.mark.parametrize("error", [ValueError(), CancelledError(), SystemExit(3)])
def test_a_value_whose_text_raises_anything(error):
    class Bad:
        def __repr__(self):
            raise error

    assert str(Completed(Bad())) == "completed with <Bad>"


@pytest.mark.parametrize(
    "text",
    ["\x1b]0;OWNED\x07", "two\nlines", "\u202eright to left", "caf\udce9"],
    ids=["escape", "line", "order", "half"],
)
def test_texts_of_others_are_data(text):
    """No terminal obeys them, and each verdict stays in its line."""
    evidence = report(
        Rung.ABANDONED, Kind.REQUESTED, text, stuck_at=(calloff.Frame(text, 3, text, text),), survivors=(text,)
    )
    for told in (Abandoned(Ref("1", text), evidence), Failed(ValueError(text)), evidence):
        assert str(told).isprintable()


def test_source_is_read_from_plain_files_only(tmp_path):
    """A pipe as the file of some code would hold up the event loop for as long as nobody writes into it."""
    pipe = tmp_path / "pipe.py"
    os.mkfifo(pipe)
    code = compile("def body():\n    return 1\n", str(pipe), "exec")
    (frame,) = develop(((code.co_consts[0], 0),))
    assert (frame.file, frame.source) == (str(pipe), "")


def test_a_file_that_hangs_is_waited_for_once_and_not_for_long(tmp_path, monkeypatch):
    """A file system that does not answer must not hold up the loop; when the file was read after all, it is known."""
    read, go = linecache.getlines, threading.Event()
    hangs, answers = tmp_path / "hangs.py", tmp_path / "answers.py"
    for file in (hangs, answers):
        file.write_text("def body():\n    return 1\n")

    def getlines(file, *rest):
        if file == str(hangs):
            go.wait()
        return read(file, *rest)

    def source(file):
        code = compile(file.read_text(), str(file), "exec").co_consts[0]
        (frame,) = develop(((code, len(code.co_code) - 2),))
        return frame.source

    monkeypatch.setattr(linecache, "getlines", getlines)
    assert [source(hangs) for _ in range(100)] == [""] * 100
    monkeypatch.setattr(
        "calloff._words.frame._SHORT_MOMENT", 30
    )  # a busy machine may not give the thread its turn sooner
    assert source(answers) == "return 1"
    go.set()
    while not source(hangs):
        pass
    assert source(hangs) == "return 1"


def test_the_kinds_are_public():
    assert calloff.Kind("deadline") is Kind.DEADLINE
    assert f"{calloff.Kind.STALLED}" == "stalled"


def test_in_a_notebook_an_ending_is_a_table_and_texts_are_no_markup() -> None:
    here = (
        calloff.Frame("app.py", 3, "main", "await fetch()"),
        calloff.Frame("app.py", 7, "fetch", "await <b>reply</b>"),
    )
    reason = calloff.Reason(calloff.Kind.REQUESTED, "<script>", None, 0.0)
    report = calloff.StopReport(reason, True, 0.0, 0.5, calloff.Rung.ABANDONED, 2, here, here[1:], ("thread <i>",))
    shown = calloff.Abandoned(Ref("7", "<fetch>"), report)._repr_html_()
    assert "&lt;fetch&gt;" in shown
    assert (
        "<summary><code style='white-space: pre-wrap'>fetch (app.py:7): await &lt;b&gt;reply&lt;/b&gt;</code>" in shown
    )
    assert "main (app.py:3)" in shown
    assert "thread &lt;i&gt;" in shown
    assert not {"<script", "<b>", "<i>"} & set(re.findall(r"<\w+>?", shown))
    assert calloff.Completed("<b>")._repr_html_().count("&lt;b&gt;") == 1
    assert "ValueError(&#x27;&lt;&#x27;)" in calloff.Failed(ValueError("<"))._repr_html_()
