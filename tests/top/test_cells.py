"""What stands in a row, a pane and a verdict, without a screen."""

import pytest
from rich.cells import cell_len
from top.fake_client import ended, row

from calloff.control import Cause, Detail, Frame, Step, Stopped
from calloff.control._verdict import at
from calloff.top._cancel import told as told_of_a_cancel
from calloff.top._cells import cells, clean, columns, fitted, line, path, seconds, share
from calloff.top._detail import told

ODD = [
    row(1, "plain"),
    row(2, "a name that is much longer than its column", parent="4312.1", place="process", progress=0.25),
    row(3, "木" * 40, progress=(3, 4), deadline_at=1100.0, remaining=87.0, timeout=100.0),
    row(4, "late", progress="volume 3", deadline_at=1010.0, remaining=-123456.0, state="stopping", refusals=12345),
    row(5, "text", progress={"a": [1, 2]}, reason=Cause("requested", "enough"), state="stopping"),
    row(6, "long ago", age=1e9, progress=(7, 0)),
    ended(7, "gone", "cancelled", rung="TERMINATED", clean_up=12.5, reason=Cause("deadline", "within 3 s", "x")),
    ended(8, "failed", "failed", error="ValueError: " + "no " * 100),
]


def test_a_name_deep_in_the_tree_has_room():
    for depth in (4, 50):
        pieces = cells(columns(history=False, width=80), row(1, "deep down"), depth, 80)
        assert "└ deep d…" in "".join(text for text, _ in pieces)


@pytest.mark.parametrize("width", [1, 10, 40, 79, 80, 95, 110, 120, 300])
@pytest.mark.parametrize("history", [False, True])
def test_every_row_fills_its_line_exactly(width, history):
    for each in ODD:
        for depth in (0, 1, 30):
            pieces = cells(columns(history=history, width=width), each, depth, width)
            assert sum(cell_len(text) for text, _ in pieces) == width


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (59.4, "59 s"), (247, "4m07s"), (12_000, "3h20m"),
        (400_000, "4d15h"), (300_000, "83h20m"), (-2.5, "-2.5 s"), (float("inf"), "-"), (float("nan"), "-"),
    ],
)  # fmt: skip
def test_durations_are_short(value, text):
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("progress", "done"),
    [(0.5, 0.5), (1, 1.0), (3, None), ((1, 4), 0.25), ([9, 4], 1.0), ((1, 0), None), (True, None), ("x", None)],
)
def test_how_much_is_done(progress, done):
    assert share(progress) == done


def test_texts():
    assert clean("a\nb\tc\x1b[1m\u202e") == "a b c·[1m·"
    assert fitted("abc", 3) == "abc"
    assert fitted("abcd", 3) == "ab…"
    assert cell_len(fitted("木木木", 4)) == 4
    assert fitted("abc", 0) == ""
    assert line(None) == ""
    assert at(Frame("/x/work.py", 7, "crunch", "a += 1")) == "crunch (/x/work.py:7): a += 1"
    assert line(Frame("/x/work.py", 7, "crunch", "a += 1")) == "work.py:7 a += 1"
    assert line(Frame("/x/work.py", 7, "crunch")) == "work.py:7 crunch"
    assert line(Frame("sleep", 0, "sleep", "sleep 60")) == "sleep 60"


def test_paths(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert path(str(tmp_path / "a" / "b.py")) == "a/b.py"
    assert path("/usr/lib/python3.11/asyncio/tasks.py") == "python3.11/asyncio/tasks.py"
    assert path("/elsewhere/x.py") == "/elsewhere/x.py"
    assert path("<string>") == "<string>"


def test_the_pane_of_one_that_was_stopped():
    cause = Cause("requested", "enough", "ana (pid 9, calloff cancel)", 1010.0)
    steps = (Step("ASKED", 1010.0), Step("INSISTED", 1010.5), Step("FORCED", 1015.0))
    stopped = row(
        1,
        state="abandoned",
        reason=cause,
        steps=steps,
        refusals=4,
        clean_up=6.0,
        outcome="abandoned",
        survivors=("42 (setuid)",),
    )
    stuck = (Frame("/srv/stuck.py", 3, "hang", "time.sleep(1e9)"),)
    text = told(Detail(row=stopped, stuck_at=stuck, stack=stuck, grace=5.0, stall=9.0)).plain
    assert "limits    stall 9.0 s, grace 5.0 s" in text
    assert "reason    requested: enough (by ana (pid 9, calloff cancel))" in text
    assert "INSISTED after 0.5 s, FORCED after 5.0 s, 4 refusals; could not be stopped" in text
    assert "survivors 42 (setuid)" in text
    assert "stuck at, outermost first\n  hang  /srv/stuck.py:3\n      time.sleep(1e9)" in text


def test_the_pane_without_a_stack():
    command = row(1, place="command", worker=77)
    command = type(command)(
        id="1.1", pid=1, name="sync", place="command", state="running", started_at=0.0, age=1.0, worker=77,
        where=Frame("rsync", 0, "rsync", "rsync -a /a /b"),
    )  # fmt: skip
    text = told(Detail(row=command)).plain
    assert "running, command in process 77, started" in text
    assert text.endswith("command   rsync -a /a /b")


@pytest.mark.parametrize(
    ("stopped", "told", "severity"),
    [
        (Stopped(row=row(1), seconds=10.0), "still runs after 10.0 s: stuck at crunch", "error"),
        (
            Stopped(row=row(1), seconds=6.0, outcome="abandoned"),
            "could not be stopped and was abandoned (ABANDONED) after 6.0 s: it still runs, stuck at crunch",
            "error",
        ),
        (Stopped(row=row(1), outcome="gone"), "its process has ended, and it with it", "warning"),
        (
            Stopped(row=ended(1, reason=Cause("requested")), seconds=0.4, outcome="completed"),
            "completed all the same after 0.40 s",
            "warning",
        ),
        (Stopped(row=ended(1), outcome="completed"), "had ended already: completed", "information"),
        (
            Stopped(row=ended(1, error="ValueError: no", reason=Cause("requested")), seconds=0.4, outcome="failed"),
            "failed after 0.40 s: ValueError: no",
            "warning",
        ),
        (
            Stopped(
                row=ended(1, rung="FORCED", refusals=3, reason=Cause("requested")), seconds=5.4, outcome="cancelled"
            ),
            "cancelled after 5.4 s, 3 refusals: ended by force (FORCED)",
            "information",
        ),
        (
            Stopped(
                row=ended(1, rung="KILLED", refusals=1, survivors=("42 (setuid)",), reason=Cause("requested")),
                seconds=5.4,
                outcome="cancelled",
            ),
            "cancelled after 5.4 s, 1 refusal: killed (KILLED); still running: 42 (setuid)",
            "error",
        ),
    ],
)
def test_verdicts(stopped, told, severity):
    text, how_bad = told_of_a_cancel(stopped)
    assert text.startswith(f"4312.1 work: {told}")
    assert how_bad == severity


def test_a_verdict_on_nobody():
    assert told_of_a_cancel(Stopped(seconds=3.0)) == ("it: still runs after 3.0 s", "error")


def test_how_many_a_row_stands_for_is_never_cut_off():
    many = row(2, "fetch of a long name-*", count=1234)
    found = columns(history=False, width=80)
    drawn = "".join(text for text, _ in cells(found, many, 1, 80))
    assert "└ fetch … ×1234 " in drawn
    assert len(drawn) == 80
