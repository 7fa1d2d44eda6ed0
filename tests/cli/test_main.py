"""The first word of the command line, and durations as people write them."""

import importlib
import shlex
import subprocess
import sys
from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calloff import cli
from calloff._words.durations_text import read_duration, spoken
from calloff.cli._help import EXAMPLES
from calloff.cli._options import parser


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "calloff", *arguments], capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: calloff VERB")
    assert "\n  run  " in done.stdout
    assert "\n  timeout  " in done.stdout


@pytest.mark.parametrize("verb", ["run", "timeout"])
def test_help_of_a_verb(verb: str) -> None:
    done = run(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.lower().startswith(f"usage: calloff {verb} [option")
    assert "137" in done.stdout


def test_help_of_a_verb_by_the_word_help() -> None:
    assert run("help", "run").stdout == run("run", "--help").stdout


@pytest.mark.parametrize("verb", cli.VERBS)
def test_each_verb_has_a_module_with_a_main(verb: str) -> None:
    home, what = cli.VERBS[verb]
    assert callable(importlib.import_module(home, "calloff.cli").main)
    assert what


def test_an_unknown_verb() -> None:
    done = run("rnu")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "calloff: there is no verb 'rnu' (did you mean 'run'?): choose from run, map, timeout"
    )


def test_ctrl_c_while_a_verb_is_imported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(name: str, package: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    assert cli.main(["map"]) == 130
    assert capsys.readouterr().err == ""


def test_a_fault_of_ours_is_125(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from calloff.cli import run as verb

    monkeypatch.setattr(verb, "main", lambda argv: 1 // 0)
    assert cli.main(["run"]) == 125
    assert "calloff itself failed: ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3.0), ("3s", 3.0), ("0.5", 0.5), (".5s", 0.5), ("500ms", 0.5), ("1m30s", 90.0), ("2h", 7200.0),
        ("1d", 86400.0), ("1h2m3s4ms", 3723.004), ("1.5m", 90.0), ("0", 0.0), (" 3 ", 3.0), ("90m", 5400.0),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert isclose(read_duration(text), seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "s", "-1", "+1", "1e3", "nan", "inf", "1_0", "1x", "1 s", "30s1m", "1m1m", "1m30", "1..2", "3S"],
)  # fmt: skip
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="500ms"):
        read_duration(text)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        seconds = read_duration(text)
    except ValueError:
        return
    assert seconds >= 0


@given(st.integers(0, 1000), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_units_add_up(hours: int, minutes: int, seconds: int, thousandths: int) -> None:
    text = f"{hours}h{minutes}m{seconds}s{thousandths}ms"
    assert isclose(read_duration(text), hours * 3600 + minutes * 60 + seconds + thousandths / 1000)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (0.25, "0.25 s"), (3, "3.0 s"), (59.94, "59.9 s"), (90, "1m30s"), (7500, "2h05m")],
)
def test_spoken(seconds: float, text: str) -> None:
    assert spoken(seconds) == text


@pytest.mark.parametrize("verb", EXAMPLES)
def test_the_examples_of_a_verb_have_options_that_it_has(verb: str) -> None:
    told = run(verb, "--help").stdout
    for typed, _ in EXAMPLES[verb]:
        words = shlex.split(typed)
        assert words[0] == verb
        assert typed in told
        options = [word for word in words[: words.index("--") if "--" in words else None] if word.startswith("-")]
        if verb == "run":
            options = options[:1]  # what follows the target is the target's
        assert all(f"  {option}" in told or f", {option} " in told for option in options), options


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("verb", EXAMPLES)
def test_a_help_is_as_wide_as_the_terminal(verb: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = parser(verb, "usage", "about", "word " * 100 + "\n\nExit status:\n  124  " + "stopped by its limit " * 20)
    lines = shown.format_help().splitlines()
    assert max(map(len, lines)) <= max(
        min(columns, 100), max(len(line) for line in lines if line.startswith("  calloff"))
    )
    assert "Exit status:" in lines
