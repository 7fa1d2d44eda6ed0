"""What programs name themselves is data: it hides nobody, breaks no list, and never reaches a terminal as commands."""

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from control.programs import Program, cli, eventually, running

import calloff
from calloff.cli._control import json_text
from calloff.control import Client, NotFound, Row, expose
from calloff.control._links import expect
from calloff.control._records import Refused
from calloff.control._valid import valid

HALF = os.fsdecode(b"caf\xe9.txt")
ESCAPE = "\x1b]0;OWNED\x07\x1b[31m"


async def waits() -> None:
    await asyncio.sleep(3600)


async def reports(value: object) -> None:
    calloff.progress(value)
    await waits()


def test_names_arguments_and_progress_that_are_no_unicode():
    async def main() -> None:
        with expose():
            async with Client() as client:
                named = calloff.start(waits(), name=HALF)
                works: list[Any] = [reports(HALF), calloff.command("sh", "-c", "sleep 60", HALF), waits()]
                others = [calloff.start(work, name=f"other {number}") for number, work in enumerate(works)]
                await asyncio.sleep(0)
                while (overview := await client.list()).counts.get("running") != 4:
                    await asyncio.sleep(0.01)
                rows = {row.name: row for row in overview.rows}
                assert set(rows) == {"caf\\udce9.txt", "other 0", "other 1", "other 2"}
                assert rows["other 0"].progress == "caf\\udce9.txt"
                where = rows["other 1"].where
                assert where is not None
                assert "caf\\udce9.txt" in where.source
                for operation in (named, *others):
                    await operation.stop()

    asyncio.run(main())


def test_valid_changes_nothing_else():
    data = {"a": [1, 2.5, None, True, "é", ("x",)], "b": {"c": "x"}}
    assert valid(data) == {"a": [1, 2.5, None, True, "é", ["x"]], "b": {"c": "x"}}


def test_nothing_that_a_terminal_would_obey_gets_through(tmp_path):
    """Also not from a process that does not answer, whose command line is all that is known."""
    source = f"""
        scope = {{}}
        code = "import asyncio\\nasync def odd():\\n    await asyncio.sleep(3600)\\n"
        exec(compile(code, {f"<{ESCAPE}file>"!r}, "exec"), scope)

        async def fails():
            raise ValueError({ESCAPE!r})

        async def reports():
            calloff.progress({ESCAPE!r})
            await asyncio.sleep(3600)

        async def main():
            calloff.start(asyncio.sleep(3600), name={f"name{ESCAPE}"!r})
            calloff.start(scope["odd"]())
            calloff.start(reports())
            await calloff.start(fails()).outcome()
            await asyncio.sleep(3600)
    """
    with Program(tmp_path, source) as program:
        overview = eventually(lambda overview: overview.counts == {"running": 4})
        for arguments in (["ps"], ["ps", "--all"], *(["show", row.id] for row in overview.rows)):
            done = cli(*arguments)
            assert done.returncode == 0, done.stderr
            assert "\x1b" not in done.stdout + done.stderr, arguments
        assert program.process.poll() is None


def test_the_command_line_of_a_silent_process_is_data(tmp_path, monkeypatch):
    import io
    import sys

    from calloff.cli._control import complain_of
    from calloff.control import Overview, Process

    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    complain_of(
        Overview(silent=(Process(7, ("python", f"work{ESCAPE}.py"), 0.0, "/run/7.sock"),), failed={8: f"no{ESCAPE}"}),
        "ps",
    )
    assert "process 7" in out.getvalue()
    assert "process 8" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_a_refusal_says_by_its_code_what_it_means():
    with pytest.raises(NotFound, match="anything at all"):
        expect(Refused(text="anything at all", code="not_found"), object)
    with pytest.raises(ValueError, match="there is no operation"):
        expect(Refused(text="there is no operation", code="invalid"), object)


def test_one_that_can_not_be_looked_at_hides_no_other(tmp_path):
    """Its progress is an object whose text never comes."""
    source = """
        class Slow:
            def __repr__(self):
                time.sleep(3600)

        async def reports():
            calloff.progress(Slow())
            await asyncio.sleep(3600)

        async def main():
            calloff.start(reports())
            await asyncio.sleep(3600)
    """
    with Program(tmp_path, source):
        overview = eventually(running(2))
        assert {row.progress for row in overview.rows} == {None, "<Slow>"}


def test_what_was_typed_and_json_hold_nothing_that_a_terminal_would_obey() -> None:
    evil = "\x1b]0;x\x07\x9b31m\u202e"
    for words in ([evil], ["ps", evil], ["run", f"--{evil}", "x"], ["sweep", f"{evil}:f"], ["timeout", evil, "x"],
                  ["timeout", "1", evil], ["serve", "--host", evil], ["attach", evil], ["run", "-m", evil]):  # fmt: skip
        done = subprocess.run([sys.executable, "-m", "calloff", *words], capture_output=True, text=True)
        assert done.returncode in (1, 2, 125, 127)
        assert all(char.isprintable() for char in (done.stdout + done.stderr).replace("\n", "")), (words, done.stderr)
    row = Row(id="1.1", pid=1, name=f"{evil}\U000e0001é", place="task", state="running", started_at=0.0, age=1.0)
    text = json_text(row)
    assert text.isprintable()
    assert "é" in text
    assert json.loads(text)["name"] == row.name
