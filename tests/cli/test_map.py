"""`calloff map` as a subprocess: inputs, outputs, endings, exit statuses, and going on after a kill."""

import collections
import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from places.process_table import below, gone, stop_for_good

MAP = [sys.executable, "-m", "calloff", "map"]

WORK = """\
import asyncio, os, time

def square(n):
    return n * n

def size(text):
    return len(text)

async def echo(item):
    await asyncio.sleep(0)
    return item

def odd(n):
    if n % 2 == 0:
        raise ValueError(f"{n} is even")
    return n

def gate(n):
    while n > 1 and not os.path.exists("open"):
        time.sleep(0.01)
    return n

def ends(n):
    if n in (0, 5):
        open(f"begun.{n}", "w").close()
        while True:
            time.sleep(0.01)
    return n

def fails_first(n):
    if n == 0:
        raise ValueError(n)
    return ends(n)

def returns_late(n):
    open(f"begun.{n}", "w").close()
    try:
        while True:
            time.sleep(0.01)
    except BaseException:
        return n

def long(n):
    return "x" * 5_000_000

def hangs(n):
    time.sleep(3600 if n == 2 else 0.01)

def effect(n):
    time.sleep(0.002)
    file = os.open(os.environ["EFFECTS"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, f"{n}\\n".encode())
    os.close(file)
    time.sleep(0.002)
    return {"n": n, "pad": "x" * 200}

def stays(n):
    file = os.open(os.environ["EFFECTS"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, f"{os.getpid()}\\n".encode())
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "in").write_text("".join(f"{n}\n" for n in range(6)))
    return tmp_path


def run(folder, *words, stdin="", **environment):
    done = subprocess.run(
        [*MAP, *words],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "100", **environment},
    )
    return done.returncode, done.stdout, done.stderr


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_function_over_lines(folder):
    status, out, err = run(folder, "work.py:square", "--input", "in", "--ordered")
    assert (status, err) == (0, "")
    assert [line["value"] for line in lines(out)] == [0, 1, 4, 9, 16, 25]


@pytest.mark.parametrize("place", ["process", "thread"])
def test_where_it_runs(folder, place):
    status, out, _ = run(folder, "--in", place, "work.py:square", "--input", "in", "--jobs", "2")
    assert status == 0
    assert sorted(line["value"] for line in lines(out)) == [0, 1, 4, 9, 16, 25]


def test_standard_input(folder):
    status, out, _ = run(folder, "work.py:echo", "--input", "-", "--ordered", stdin='1\ntext\n{"a": [2]}\n\n"q"')
    assert status == 0
    assert [line["value"] for line in lines(out)] == [1, "text", {"a": [2]}, "q"]
    _, out, _ = run(folder, "work.py:echo", "--input", "-", "--ordered", "--format", "lines", stdin="1\ntext\n")
    assert [line["value"] for line in lines(out)] == ["1", "text"]


def test_items_that_end_with_zero_bytes(tmp_path):
    text = "a\0b\nc\0\0 d"
    words = ["--input", "-", "--format", "null", "--ordered"]
    _, out, _ = run(tmp_path, *words, "--", "printf", "[%s]", stdin=text)
    assert out == "[a][b\nc][ d]"
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "names").write_bytes(text.encode() + b"\xff\0" + b"x" * 200_000)
    words[1] = "names"
    _, out, _ = run(tmp_path, "work.py:size", *words)
    assert [json.loads(line)["value"] for line in out.splitlines()] == [1, 3, 3, 200_000]


def test_a_standard_input_that_is_closed_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "work.py").write_text(WORK)
    words = ["sh", "-c", '"$@" <&-', "sh", *MAP, "work.py:square", "--input", "-"]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (2, "calloff map: --input: standard input is closed\n")


def test_rows_of_a_csv_file(folder):
    (folder / "people.csv").write_text('name,age\n"A, B",4\nonly-one\nC,5\n')
    status, out, err = run(folder, "work.py:echo", "--input", "people.csv", "--ordered")
    assert [line.get("value") for line in lines(out)] == [{"name": "A, B", "age": "4"}, None, {"name": "C", "age": "5"}]
    assert status == 1
    assert "people.csv, line 3: 1 fields, but the header has 2" in err
    _, out, _ = run(folder, "--input", "people.csv", "--ordered", "--", "echo", "{age}: {name}")
    assert out == "4: A, B\n5: C\n"


def test_a_wrong_line_has_its_number_and_the_others_run(folder):
    (folder / "in.jsonl").write_text('1\n{"a":\n3\n')
    status, out, err = run(folder, "work.py:echo", "--input", "in.jsonl", "--output", "out.jsonl")
    assert (status, out) == (1, "")
    assert "in.jsonl, line 2: not JSON" in err
    found = {line["n"]: line["state"] for line in lines((folder / "out.jsonl").read_text())}
    assert found == {0: "completed", 1: "failed", 2: "completed"}


def test_a_row_that_is_never_closed_fails(folder):
    (folder / "rows.csv").write_text('a,b\n1,2\n3,"4\n5,6\n')
    status, out, err = run(folder, "work.py:echo", "--input", "rows.csv", "--ordered")
    assert status == 1
    assert "rows.csv, line 4: unexpected end of data" in err
    assert [line["state"] for line in lines(out)] == ["completed", "failed"]


def test_a_first_line_of_numbers_is_told_to_be_taken_as_names(folder):
    (folder / "rows.csv").write_text("1,2\n3,4\n")
    status, _, err = run(folder, "work.py:echo", "--input", "rows.csv")
    assert (status, err.count("\n")) == (0, 1)
    assert "is taken as the names of the columns: ['1', '2']" in err


@pytest.mark.parametrize(("program", "status"), [("no-such-program-here", 127), ("./in", 126)])
def test_a_program_that_is_not_there_starts_nothing(folder, program, status):
    found, out, err = run(folder, "--output", "out", "--", program, "{}", ":::", "a", "b")
    assert (found, out, err.count("\n")) == (status, "", 1)
    assert repr(program) in err
    assert not (folder / "out").exists()


def test_some_did_not_complete(folder):
    status, _, err = run(folder, "work.py:odd", "--input", "in", "--output", "out.jsonl")
    assert status == 1
    assert "item 3: ValueError: 2 is even" in err
    assert "calloff map: 3 completed, 3 did not, in " in err
    assert "to go on: calloff map --resume=failed work.py:odd --input in --output out.jsonl" in err


def test_a_limit_for_each_item(folder):
    began = time.monotonic()
    status, out, err = run(folder, "work.py:hangs", "--input", "in", "--timeout", "1.5", "--grace", "1")
    assert time.monotonic() - began < 30
    assert status == 1
    assert collections.Counter(line["state"] for line in lines(out)) == {"completed": 5, "cancelled": 1}
    assert "item 3: 'hangs' did not end within 1.5 s" in err


def test_going_on(folder):
    words = ["work.py:odd", "--input", "in", "--output", "out.jsonl"]
    run(folder, *words)
    status, _, err = run(folder, *words)
    assert status == 2
    assert "holds results of an earlier run" in err
    with open(folder / "in", "a") as file:
        file.write("7\n")
    status, _, err = run(folder, *words, "--resume")
    assert status == 1  # not all have completed, though nothing of this run failed
    assert "1 completed, 0 did not, 6 were done before (3 of them did not complete), in " in err
    assert "to go on: calloff map --resume=failed work.py:odd" in err
    status, _, err = run(folder, *words, "--resume=failed")
    assert status == 1
    assert "0 completed, 3 did not, 4 were done before" in err


@pytest.mark.parametrize(
    ("words", "ran"),
    [
        (["--resume", "work.py:odd", "--input", "in"], 0),
        (["work.py:odd", "--resume", "--input", "in"], 0),
        (["--resume", "missing", "work.py:odd", "--input", "in"], 0),
        (["--resume", "failed", "work.py:odd", "--input", "in"], 3),
        (["--resume=failed", "work.py:odd", "--input", "in"], 3),
    ],
)
def test_resume_has_a_value_only_where_one_of_its_words_follows(folder, words, ran):
    run(folder, "work.py:odd", "--input", "in", "--output", "out.jsonl")
    _, _, err = run(folder, *words, "--output", "out.jsonl")
    assert f"0 completed, {ran} did not, " in err


@pytest.mark.parametrize("words", [["--resume"], ["--resume", "failed"], ["--resume=failed"]])
def test_how_to_go_on_keeps_the_words_of_the_program(folder, words):
    program = ["sh", "-c", "exit 1", "sh", "--resume", "failed", "--resume=all"]
    _, _, err = run(folder, *words, "--output", "out.jsonl", "--", *program, ":::", "1")
    again = ["calloff", "map", "--resume=failed", "--output", "out.jsonl", "--", *program, ":::", "1"]
    assert err.splitlines()[-1] == f"calloff map: to go on: {shlex.join(again)}"


def test_a_command(folder):
    status, out, err = run(folder, "--jobs", "1", "--", "echo", "{#}", "{.}", ":::", "a.txt", "b c; $(d)")
    assert (status, out, err) == (0, "1 a\n2 b c; $(d)\n", "")
    status, out, _ = run(folder, "--jobs", "1", "--", "echo", "{1}-{2}", ":::", "a", "b", ":::", "1", "2")
    assert out.split() == ["a-1", "a-2", "b-1", "b-2"]
    status, out, err = run(folder, "--", "sh", "-c", 'echo out; echo err >&2; exit "$0"', ":::", "0", "3")
    assert (status, out) == (1, "out\nout\n")
    assert "item 2: 'sh' ended with status 3: err" in err


def test_what_a_command_printed_is_in_the_output(folder):
    run(folder, "--output", "out.jsonl", "--", "sh", "-c", "echo out; echo err >&2", ":::", "0")
    (line,) = lines((folder / "out.jsonl").read_text())
    assert line["value"] == {"status": 0, "stdout": "out\n", "stderr": "err\n"}


PRINTS = 'echo "begin $0"; echo "err $0" >&2; '
PRINTS += 'case $0 in slow) exec sleep 3600;; bad) exit 4;; killed) kill -9 $$;; esac; echo "end $0"'
ENDINGS = {"good": "completed", "slow": "cancelled", "bad": "failed", "killed": "failed"}


def test_what_a_program_printed_is_printed_whatever_its_ending(folder):
    words = ["--jobs", "1", "--timeout", "3", "--grace", "1", "--", "sh", "-c", PRINTS, "{}", ":::", *ENDINGS]
    status, out, err = run(folder, *words)
    assert status == 1
    assert out == "begin good\nend good\nbegin slow\nbegin bad\nbegin killed\n"
    told = err.splitlines()
    assert told[:2] == ["err good", "err slow"]
    assert told[2].startswith("calloff map: item 2: 'sh' did not end within 3 s")
    assert told[3:7] == [
        "err bad",
        "calloff map: item 3: 'sh' ended with status 4: err bad",
        "err killed",
        "calloff map: item 4: 'sh' was ended by signal 9: err killed",
    ]


def test_what_a_program_printed_is_in_the_output_whatever_its_ending(folder):
    words = ["--output", "out.jsonl", "--jobs", "1", "--timeout", "3", "--grace", "1", "--joblog", "log"]
    _, out, err = run(folder, *words, "--", "sh", "-c", PRINTS, "{}", ":::", *ENDINGS)
    assert out == ""
    assert all(line.startswith("calloff map: ") for line in err.splitlines())
    found = {line["item"]: line for line in lines((folder / "out.jsonl").read_text())}
    assert {item: line["state"] for item, line in found.items()} == ENDINGS
    assert {item: line["value"] for item, line in found.items()} == {
        "good": {"status": 0, "stdout": "begin good\nend good\n", "stderr": "err good\n"},
        "slow": {"stdout": "begin slow\n", "stderr": "err slow\n"},
        "bad": {"status": 4, "stdout": "begin bad\n", "stderr": "err bad\n"},
        "killed": {"status": -9, "stdout": "begin killed\n", "stderr": "err killed\n"},
    }
    received = [line.split("\t")[5] for line in (folder / "log").read_text().splitlines()[1:]]
    assert received == [str(len(found[item]["value"]["stdout"])) for item in ENDINGS]


def test_what_a_program_that_ctrl_c_stops_has_printed_is_printed(folder):
    script = "echo out; echo err >&2; touch begun.0; exec sleep 3600"
    out, err, _ = stopped(folder, [0], "--", "sh", "-c", script, ":::", "0")
    assert out == "out\n"
    assert err.startswith("err\ncalloff map: stopped: 0 completed, 1 did not, in ")


def test_the_output_of_a_failure_is_kept_whole_and_its_last_lines_are_told(folder):
    script = 'for i in $(seq 400); do echo "file.c:$i: something is wrong" >&2; done; printf "no end" >&2; exit 1'
    whole = "".join(f"file.c:{n}: something is wrong\n" for n in range(1, 401)) + "no end"
    _, _, err = run(folder, "--", "sh", "-c", script, ":::", "1")
    assert err.startswith(f"{whole}\ncalloff map: item 1: ")
    _, _, err = run(folder, "--output", "out.jsonl", "--", "sh", "-c", script, ":::", "1")
    reason = err.splitlines()[0]
    assert reason.startswith("calloff map: item 1: 'sh' ended with status 1: … file.c:")
    assert reason.endswith("file.c:400: something is wrong no end")
    assert len(reason) < 400
    (line,) = lines((folder / "out.jsonl").read_text())
    assert line["value"] == {"status": 1, "stdout": "", "stderr": whole}


def test_of_a_last_line_that_is_long_the_end_is_told(folder):
    _, _, err = run(folder, "--", "sh", "-c", 'printf "%01000dlast" 0 >&2; exit 1', ":::", "1")
    reason = err.splitlines()[1]
    assert reason.startswith("calloff map: item 1: 'sh' ended with status 1: … 0")
    assert reason.endswith("0last")
    assert len(reason) < 400


def test_of_several_attempts_the_output_of_the_last_is_kept(folder):
    script = "echo x >>tries; cat tries; exit 3"
    words = ["--output", "out.jsonl", "--retry", "1", "--backoff", "1ms", "--rate", "100/s"]
    run(folder, *words, "--", "sh", "-c", script, ":::", "1")
    (line,) = lines((folder / "out.jsonl").read_text())
    assert (line["attempts"], line["value"]["stdout"]) == (2, "x\nx\n")


def test_an_item_of_which_no_command_can_be_made_has_no_output(folder):
    (folder / "in.jsonl").write_text('{"a": 1}\n')
    run(folder, "--output", "out.jsonl", "--input", "in.jsonl", "--", "echo", "{b}")
    (line,) = lines((folder / "out.jsonl").read_text())
    assert (line["state"], "value" in line) == ("failed", False)


def test_a_dry_run_starts_nothing(folder):
    status, out, _ = run(folder, "--dry-run", "--", "no-such-program", "{} {#}", ":::", "a", "b c")
    assert (status, out) == (0, "no-such-program 'a 1'\nno-such-program 'b c 2'\n")
    status, out, _ = run(folder, "--dry-run", "work.py:odd", "--input", "in", "--output", "out.jsonl")
    assert status == 0
    assert len(out.splitlines()) == 6
    assert not (folder / "out.jsonl").exists()


def test_a_log_like_that_of_gnu_parallel(folder):
    run(folder, "--joblog", "log", "--jobs", "1", "--", "sh", "-c", 'exit "$0"', ":::", "0", "3")
    head, *rows = [line.split("\t") for line in (folder / "log").read_text().splitlines()]
    assert head == ["Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command"]
    assert [(row[0], row[6], row[7]) for row in rows] == [("1", "0", "0"), ("2", "3", "0")]


def test_the_log_has_the_command_of_each_item_whatever_its_ending(folder):
    script = '[ "$0" = slow ] && exec sleep 3600; [ "$0" != bad ]'
    words = ["--joblog", "log", "--jobs", "3", "--timeout", "2", "--grace", "1", "--", "sh", "-c", script, "{}", "{#}"]
    run(folder, *words, ":::", "good", "bad", "slow")
    rows = sorted(line.split("\t") for line in (folder / "log").read_text().splitlines()[1:])
    items = [(1, "good"), (2, "bad"), (3, "slow")]
    assert [row[8] for row in rows] == [shlex.join(["sh", "-c", script, item, str(number)]) for number, item in items]
    assert [row[6] for row in rows] == ["0", "1", "-1"]
    run(folder, "--joblog", "log2", "--jobs", "1", "work.py:square", "--input", "in")
    rows = [line.split("\t") for line in (folder / "log2").read_text().splitlines()[1:]]
    assert sorted(row[8] for row in rows) == [f"work.py:square {n}" for n in range(6)]


def test_the_log_has_an_item_of_which_no_command_can_be_made(folder):
    (folder / "in.jsonl").write_text('{"a": 1}\n')
    run(folder, "--joblog", "log", "--input", "in.jsonl", "--", "echo", "{b}")
    row = (folder / "log").read_text().splitlines()[1].split("\t")
    assert (row[6], row[8]) == ("1", "{'a': 1}")


def test_retries(folder):
    words = ["work.py:odd", "--input", "-", "--retry", "2", "--backoff", "1ms", "--output", "out.jsonl"]
    status, _, _ = run(folder, *words, stdin="2\n")
    assert status == 1
    assert [line["attempts"] for line in lines((folder / "out.jsonl").read_text())] == [3]


def test_too_many_failures(folder):
    status, _, err = run(folder, "work.py:odd", "--input", "-", "--max-failures", "2", stdin="2\n" * 100)
    assert status == 1
    assert "more than max_failures=2 allows" in err


def test_a_rate(folder):
    began = time.monotonic()
    status, _, _ = run(folder, "work.py:echo", "--input", "in", "--rate", "20/s")
    assert status == 0
    assert time.monotonic() - began > 5 / 20


def test_progress_in_lines_is_not_shown_unless_asked_for(folder):
    _, _, err = run(folder, "work.py:square", "--input", "in", "--progress")
    assert "6 completed, 0 did not" in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "TARGET or -- PROGRAM is missing"),
        (["work.py:square"], "--input is missing"),
        (["work.py:square", "--input", "nowhere"], "can't be read: No such file"),
        (["work.py:square", "--input", "."], "can't be read: Is a directory"),
        (["--"], "PROGRAM is missing"),
        (["work.py:square", "--input", "in", "--", "echo"], "can't both be given"),
        (["--input", "in", "--", "echo", ":::", "a"], "not from both"),
        (["work.py:square", "--input", "in", "--jobs", "0"], "--jobs must be a number"),
        (["work.py:square", "--input", "in", "--timeout", "-1"], "--timeout"),
        (["work.py:square", "--input", "in", "--rate", "0/s"], "--rate must be like"),
        (["work.py:square", "--input", "in", "--max-failures", "100%"], "--max-failures must be"),
        (["work.py:square", "--input", "in", "--resume"], "--resume needs the --output"),
        (["work.py:square", "--input", "in", "--in", "moon"], "--in must be one of"),
        (["work.py:square", "--input", "in", "--in", "task"], "is a blocking function"),
        (["work.py:echo", "--input", "in", "--in", "thread"], "is an async function"),
        (["work.py:echo", "--input", "in", "--batch", "3"], "--batch is for functions in processes"),
        (["--in", "thread", "--", "echo", ":::", "a"], "--in is for functions"),
        (["work.py:square", "--input", "in", "--output", "/dev/null"], "regular file"),
        (["work.py:square", "--input", "in", "--output", "in", "--resume"], "are the same file, 'in'"),
        (["work.py:square", "--input", "twice.csv"], "must name each column, once: ['a', 'a']"),
        (["work.py:square", "--input", "unnamed.csv"], "must name each column, once: ['a', '']"),
        (["--", "echo", "{3}", ":::", "a", ":::", "b"], "{3} is no field of the items"),
        (["--", "echo", "{name}", ":::", "a"], "{name} is no field of the items"),
        (["--", "echo", "{}", ":::+", "a"], ":::+ is not known here"),
        (["work.py:square", "--input", "in", "--output", "/nowhere/x"], "'/nowhere/x' can't be written: No such file"),
    ],
)
def test_a_wrong_command_line(folder, words, text):
    (folder / "twice.csv").write_text("a,a\n1,2\n")
    (folder / "unnamed.csv").write_text("a,\n1,2\n")
    status, out, err = run(folder, *words)
    assert (status, out) == (2, "")
    assert text in err
    assert err.startswith("calloff map: ")
    assert err.count("\n") == 1


def start(folder, *words, **environment):
    return subprocess.Popen(
        [*MAP, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        start_new_session=True,
    )


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def done(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_what_is_done_and_says_how_to_go_on(folder, number, status):
    (folder / "many").write_text("".join(f"{n}\n" for n in range(100_000)))
    effects = str(folder / "effects")
    words = ["work.py:effect", "--input", "many", "--output", "out.jsonl", "--jobs", "2"]
    process = start(folder, *words, EFFECTS=effects)
    until(lambda: done(folder / "out.jsonl") > 20)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == status, err
    text = err.decode()
    assert "calloff map: stopped: " in text
    again = "to go on: calloff map --resume work.py:effect --input many --output out.jsonl --jobs 2"
    assert text.splitlines()[-1] == f"calloff map: {again}"
    found = lines((folder / "out.jsonl").read_text())
    assert {line["state"] for line in found} == {"completed"}


def test_the_command_that_is_told_goes_on(folder):
    process = start(folder, "work.py:gate", "--input", "in", "--output", "out.jsonl", "--jobs", "3", "--timeout", "1m")
    until(lambda: done(folder / "out.jsonl") == 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    (folder / "open").touch()
    (folder / "calloff").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m calloff "$@"\n')
    (folder / "calloff").chmod(0o755)
    told = err.decode().splitlines()[-1].removeprefix("calloff map: to go on: ")
    path = f"{folder}:{os.environ['PATH']}"
    again = subprocess.run(
        told, shell=True, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60
    )
    assert (again.returncode, again.stderr) == (0, "")
    assert sorted(line["value"] for line in lines((folder / "out.jsonl").read_text())) == list(range(6))


def stopped(folder, begun, *words):
    """Press Ctrl-C when those items have begun: what is on stdout and stderr, and what the log has as completed."""
    process = start(folder, "--joblog", "log", *words)
    until(lambda: all((folder / f"begun.{number}").exists() for number in begun) or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    log = [line.split("\t") for line in (folder / "log").read_text().splitlines()[1:]]
    return out.decode(), err.decode(), [int(row[0]) - 1 for row in log if row[6] == "0"]


@pytest.mark.parametrize(
    ("words", "begun"),  # the last begins when all between it and the first have ended
    [
        (["--in", "process", "--batch", "1", "--jobs", "2", "work.py:ends"], [0, 5]),
        (["--in", "thread", "--jobs", "2", "work.py:ends"], [0, 5]),
        (["--batch", "1", "--jobs", "1", "--retry", "1", "--backoff", "1h", "work.py:fails_first"], [5]),
    ],
)
def test_what_has_completed_before_ctrl_c_and_waits_for_its_turn_is_written(folder, words, begun):
    out, err, logged = stopped(folder, begun, *words, "--input", "in", "--ordered")
    assert "calloff map: stopped: 4 completed, " in err
    assert [line["value"] for line in lines(out) if line["state"] == "completed"] == [1, 2, 3, 4]
    assert logged == [1, 2, 3, 4]


def test_what_a_program_printed_before_ctrl_c_is_written_though_it_waits_for_its_turn(folder):
    script = 'case {} in 0|5) touch begun.{}; exec sleep 3600;; esac; echo "out {}"; echo "err {}" >&2'
    words = ["--input", "in", "--ordered", "--jobs", "2", "--", "sh", "-c", script]
    out, err, logged = stopped(folder, [0, 5], *words)
    assert out == "".join(f"out {n}\n" for n in range(1, 5))
    assert err.startswith("".join(f"err {n}\n" for n in range(1, 5)))
    assert "calloff map: stopped: 4 completed, 2 did not, in " in err
    assert logged == [1, 2, 3, 4]


@pytest.mark.parametrize("place", ["process", "thread"])
def test_what_completes_while_it_is_stopped_is_written(folder, place):
    words = ["--in", place, "work.py:returns_late", "--input", "in", "--jobs", "2"]
    out, err, logged = stopped(folder, [0, 1], *words)
    assert "calloff map: stopped: 2 completed, 0 did not, in " in err
    assert sorted(line["value"] for line in lines(out)) == [0, 1]
    assert sorted(logged) == [0, 1]


def test_a_line_of_which_a_signal_breaks_off_the_writing_is_written_whole(folder):
    words = ["--in", "thread", "work.py:long", "--input", "in", "--jobs", "1"]
    process = start(folder, *words, PYTHONUNBUFFERED="1")
    size = fcntl.fcntl(process.stdout, fcntl.F_GETPIPE_SZ)
    waiting = bytearray(4)

    def is_full():
        fcntl.ioctl(process.stdout, termios.FIONREAD, waiting)
        return int.from_bytes(waiting, sys.byteorder) == size

    until(is_full)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    found = lines(out.decode())
    assert {line["value"] for line in found if line["state"] == "completed"} == {"x" * 5_000_000}
    completed = sum(line["state"] == "completed" for line in found)
    assert f"calloff map: stopped: {completed} completed, " in err.decode()


@pytest.mark.parametrize("held", [False, True])
def test_items_run_while_the_input_has_nothing_yet(folder, held):
    process = subprocess.Popen(
        [*MAP, "work.py:square", "--input", "-", "--output", "out.jsonl", "--jobs", "2"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for number in (1, 2):
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        until(lambda number=number: done(folder / "out.jsonl") == number)
    if held:  # it waits for more, and is stopped all the same
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    _, err = process.communicate(timeout=30)
    assert process.returncode == (130 if held else 0)
    assert ("go on with --resume and the same input" in err) == held
    assert sorted(line["value"] for line in lines((folder / "out.jsonl").read_text())) == [1, 4]


def test_a_full_disk_is_told_once_and_what_is_written_is_counted(folder, tmp_path):
    limits = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limits += "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); from calloff.cli import main; sys.exit(main())"
    (folder / "many").write_text("".join(f"{n}\n" for n in range(200)))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            limits,
            "map",
            "work.py:echo",
            "--input",
            "many",
            "--jobs",
            "50",
            "--output",
            "out.jsonl",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 125, done.stderr
    found = lines((folder / "out.jsonl").read_text())
    assert f"{len(found)} of them are in out.jsonl, the others are to run again" in done.stderr
    assert len(done.stderr.splitlines()) == 4


def test_a_standard_output_that_is_closed_is_told(folder):
    line = 'exec "$0" -m calloff map work.py:echo --input in >&-'
    done = subprocess.run(["sh", "-c", line, sys.executable], cwd=folder, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 125
    assert "standard output is closed" in done.stderr
    assert "Traceback" not in done.stderr


def test_after_sigkill_the_output_is_locked_until_the_workers_are_dead(folder):
    pids = folder / "effects"
    words = ["work.py:stays", "--input", "in", "--output", "out.jsonl", "--jobs", "2"]
    process = start(folder, *words, EFFECTS=str(pids))
    try:
        until(lambda: pids.exists() and pids.read_text().count("\n") == 2)
        helpers = below(process.pid)
        for pid in (process.pid, *helpers):  # each would let those below it go on
            stop_for_good(pid)
    finally:
        process.kill()
        process.communicate(timeout=30)
    with open(folder / "out.jsonl", "rb") as file:
        # after some seconds the system lets a helper go on, which ends them: on a busy machine that may have come
        assert not is_free(file) or all(map(gone, pids.read_text().split()))
        for pid in helpers:
            with contextlib.suppress(ProcessLookupError):  # those before have ended it
                os.kill(pid, signal.SIGCONT)
        until(lambda: is_free(file))
    assert all(map(gone, pids.read_text().split()))


def is_free(file):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize("batch", [1, 8])
def test_sigkill_at_random_moments_loses_nothing_and_runs_nothing_twice_that_was_told(batch):
    script = Path(__file__).parents[1] / "system" / "map_kills.py"
    words = ["--kills", "4", "--items", "400", "--batch", str(batch), "--seed", "4"]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert json.loads(done.stdout)["kills"] >= 2


def full_pipe(folder, *words):
    """A map whose standard output nobody reads, and is full: of its first item, while the others print nothing."""
    script = "case {} in 0) head -c 300000 /dev/zero | tr '\\0' x;; *) exec sleep 3600;; esac"
    process = start(folder, *words, "--input", "in", "--", "sh", "-c", script)
    size, waiting = fcntl.fcntl(process.stdout, fcntl.F_GETPIPE_SZ), bytearray(4)

    def is_full():
        fcntl.ioctl(process.stdout, termios.FIONREAD, waiting)
        return int.from_bytes(waiting, sys.byteorder) == size

    until(is_full)
    return process


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_is_heard_while_nobody_reads_the_output(folder, times):
    process = full_pipe(folder, "--grace", "0.5")
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)  # two that come at once count as one
    assert process.wait(60) == 130
    process.communicate()


def test_what_was_told_as_completed_is_whole_when_somebody_reads_again(folder):
    process = full_pipe(folder, "--grace", "60", "--jobs", "1")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == b"x" * 300_000
    assert "calloff map: stopped: 1 completed, " in err.decode()


def test_a_standard_error_that_is_closed_or_full_changes_nothing(folder):
    for redirection in ("2>&-", "2>/dev/full"):
        words = shlex.join([*MAP, "--input", "in", "--", "sh", "-c", "echo {}; echo {} >&2"])
        done = subprocess.run(f"{words} {redirection}", shell=True, cwd=folder, stdout=subprocess.PIPE, timeout=60)
        assert (done.returncode, sorted(done.stdout.split())) == (0, [b"0", b"1", b"2", b"3", b"4", b"5"])
