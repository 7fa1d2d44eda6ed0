"""The screen, driven by Textual's pilot, over a client of its own making.

A key goes from queue to queue, and the pilot goes on when the process looks idle, as each process does on a busy machine:
so what a key does is always waited for (`until`), and what it must not do is looked at once something after it was seen.
"""

import asyncio
import functools

from textual.widgets import Button, HelpPanel, Input, Static
from textual.widgets._footer import FooterKey
from top.fake_client import Fake, ended, row

from calloff.control import NotFound, Process, Stopped, Unreachable
from calloff.top._app import Top
from calloff.top._cancel import Ask
from calloff.top._detail import Pane
from calloff.top._table import Table

TREE = [
    row(1, "crawl", deadline_at=1060.0, remaining=47.5, timeout=60.0),
    row(2, "fetch-1", parent="4312.1", depth=1, progress=(3, 4), age=10.0),
    row(3, "fetch-2", parent="4312.1", depth=1, progress=0.5, age=11.0),
    row(4, "compress", place="thread", state="stopping", refusals=3, age=99.0),
    row(1, "other", pid=5000, place="command", state="abandoned", outcome="abandoned", age=1.0),
]


def screen(rows=TREE, *, size=(120, 30), **options):
    """Run a test function with a pilot on a screen over these rows."""

    def decorate(test):
        @functools.wraps(test)
        def run():
            async def main():
                fake = Fake(rows)
                app = Top(fake, every=options.pop("every", 0.1), **options)
                async with asyncio.timeout(120), app.run_test(size=size) as pilot:
                    await until(lambda: settled(app, fake))
                    await test(pilot, app, fake)

            asyncio.run(main())

        del run.__wrapped__  # pytest would look for fixtures in its arguments
        return run

    return decorate


async def until(condition):
    """Wait, within the time that a test has."""
    while not condition():
        await asyncio.sleep(0.01)


def settled(app, fake):
    """Whether the table has its size, and has asked for as many rows as that shows."""
    height = app.query_one(Table).size.height
    return (height and fake.asked and fake.asked[-1].limit >= height - 1) or app.query_one("#nothing").has_class("open")


def asks(app):
    """Whether the question before a cancel can be answered, with keys and with the mouse."""
    return isinstance(app.screen, Ask) and app.screen.focused and all(each.size for each in app.screen.query(Button))


def lines(app):
    """The table as text."""
    table = app.query_one(Table)
    return [table.render_line(y).text.rstrip() for y in range(table.size.height)]


def keys(app):
    """The words of the last line, with the first that is cut by its edge, if any is."""
    shown = [key for key in app.query(FooterKey) if key.display and key.region.width]
    return [key.description[: app.size.width - key.region.x - 3] for key in shown]


def text(app, selector):
    return str(app.query_one(selector, Static).content)


async def type_filter(app, pilot, words):
    await pilot.press("slash")
    await until(lambda: app.focused is app.query_one("#filter"))
    await pilot.press(*words)


async def move_to(app, pilot, name):
    await pilot.press("home")
    table = app.query_one(Table)
    await until(lambda: table.cursor == 0 and table.row is not None)
    while table.row.name != name:
        at = table.cursor + 1
        await pilot.press("down")
        await until(lambda at=at: table.cursor == at and table.row is not None)


@screen()
async def test_what_is_seen(pilot, app, fake):
    await until(lambda: "crawl" in lines(app)[1])
    head, first, second, third, fourth, fifth, *rest = lines(app)
    assert head.split() == ["ID", "▾", "NAME", "PLACE", "STATE", "AGE", "LIMIT", "PROGRESS", "WHERE"]
    assert first.startswith("4312.1      crawl")
    assert first.endswith("work.py:7 total += 1")
    assert "━" in first, "the bar of its deadline"
    assert " └ fetch-1" in second
    assert "75%" in second
    assert "50%" in third
    assert "thread  stopping 3x" in fourth
    assert "stuck at work.py:7" in fifth
    assert not "".join(rest)
    assert text(app, "#counts") == "2 processes · 3 running · 1 stopping · 1 abandoned"
    assert text(app, "#view") == "by tree · every 0.1 s"


@screen([row(number, f"op-{number}") for number in range(1, 10_001)])
async def test_it_asks_only_for_what_it_shows(pilot, app, fake):
    table = app.query_one(Table)
    await until(lambda: table.total == 10_000)
    await pilot.press("end")
    await until(lambda: table.row is not None and table.row.name == "op-10000")
    assert lines(app)[-1].startswith("4312.10000  op-10000")
    await pilot.press("pageup")
    await until(lambda: table.row is not None and table.row.name != "op-10000")
    table.scroll_to(y=5000, animate=False)
    await until(lambda: "op-5001" in lines(app)[1])
    assert max(query.limit for query in fake.asked) < 45
    assert all(query.where for query in fake.asked)
    await pilot.press("home")
    await until(lambda: table.row is not None and table.row.name == "op-1")


@screen([row(number, f"op-{number}") for number in range(1, 10_001)])
async def test_a_list_that_becomes_short(pilot, app, fake):
    table = app.query_one(Table)
    await until(lambda: table.total == 10_000)
    await pilot.press("end")
    await until(lambda: table.row is not None)
    fake.rows = fake.rows[:3]
    await until(lambda: table.row is not None and table.row.name == "op-3")
    assert table.total == 3


@screen()
async def test_filter(pilot, app, fake):
    table = app.query_one(Table)
    await type_filter(app, pilot, "fetch")
    await until(lambda: table.total == 2 and fake.asked[-1].name == "*fetch*")
    await pilot.press("enter")
    await until(lambda: app.focused is table)
    assert "filter fetch" in text(app, "#view")
    await pilot.press("escape")
    await until(lambda: table.total == 5)
    await type_filter(app, pilot, "*-2")
    await until(lambda: table.total == 1)
    assert fake.asked[-1].name == "*-2", "with wildcards it is taken as it is"
    await pilot.press("escape")
    await until(lambda: table.total == 5)


@screen()
async def test_an_answer_that_comes_when_the_screen_is_left(pilot, app, fake):
    """The parts of the screen are gone by then: nothing may be told to them."""
    await move_to(app, pilot, "fetch-1")
    answers = asyncio.Event()
    whole_list, show, waiting = fake.list, fake.show, []

    async def late(answer, asked):
        waiting.append(answer)
        try:
            await answers.wait()
        except asyncio.CancelledError:
            pass  # its answer was there already
        return await answer(asked)

    fake.list, fake.show = functools.partial(late, whole_list), functools.partial(late, show)
    await pilot.press("c")
    await until(lambda: {whole_list, show} <= set(waiting))
    left, pop_all = [], app._close_all

    async def close_all():
        await pop_all()
        left.append(app.screen_stack)
        answers.set()
        await until(lambda: app._exception or all(worker.is_finished for worker in app.workers))

    app._close_all = close_all
    await app._shutdown()
    assert left == [[]]
    assert app._exception is None


@screen()
async def test_a_filter_of_conditions(pilot, app, fake):
    table = app.query_one(Table)
    await pilot.press("slash")
    typed = app.query_one("#filter", Input)
    typed.value = "state:stop"
    await until(lambda: "state is one of" in text(app, "#view"))  # not yet a whole one: what was seen stays
    assert table.total == 5
    typed.value = "state:stopping"
    await until(lambda: table.total == 1)
    typed.value = "place:command older:5s fetch"
    await until(lambda: fake.asked[-1].places == ("command",) and fake.asked[-1].name == "*fetch*")
    assert fake.asked[-1].older_than == 5.0


@screen()
async def test_a_filter_that_nothing_here_can_meet_shows_nothing(pilot, app, fake):
    table = app.query_one(Table)
    await pilot.press("slash")
    app.query_one("#filter", Input).value = "state:failed"
    await until(lambda: table.total == 0)
    await pilot.press("enter")
    await until(lambda: app.focused is table)
    await pilot.press("h")
    await until(lambda: fake.asked[-1].ended and fake.asked[-1].states == ("failed",))


@screen()
async def test_how_many_end_in_a_second_is_told(pilot, app, fake):
    def more():
        fake.over += 5
        app._wake.set()
        return "/s ended" in text(app, "#counts")

    await until(more)


@screen()
async def test_several_are_called_off_at_once(pilot, app, fake):
    await move_to(app, pilot, "fetch-1")
    await pilot.press("m", "m", "m")
    await until(lambda: "3 marked" in text(app, "#view"))
    assert [line.split()[0] for line in lines(app)[1:6]] == ["4312.1", "●4312.2", "●4312.3", "●4312.4", "5000.1"]
    await pilot.press("up", "m")  # the last one no longer
    await until(lambda: "2 marked" in text(app, "#view"))
    await move_to(app, pilot, "crawl")
    await pilot.press("c")
    await until(lambda: asks(app))
    box = app.screen.query_one("Vertical")
    assert str(box.border_title) == "Call off these 2?"
    assert "4312.2 fetch-1" in str(box.query_one(Static).content)
    await pilot.press("enter")
    await until(lambda: fake.cancels)
    assert fake.cancels[0][0] == ("4312.2", "4312.3"), "the marked ones, not the one under the cursor"
    fake.ending.set()
    await until(lambda: text(app, "#verdicts").count(": cancelled after ") == 2)
    assert "marked" not in text(app, "#view")


@screen()
async def test_marks_can_be_dropped(pilot, app, fake):
    await move_to(app, pilot, "fetch-1")
    await pilot.press("m")
    await until(lambda: app.query_one(Table).marked)
    await pilot.press("escape")
    await until(lambda: not app.query_one(Table).marked and "marked" not in text(app, "#view"))


@screen()
async def test_all_keys_are_told(pilot, app, fake):
    await pilot.press("question_mark")
    await until(lambda: app.screen.query(HelpPanel))
    await pilot.press("question_mark")
    await until(lambda: not app.screen.query(HelpPanel))


@screen([row(1, "fetch-*", count=240), row(2, "crawl")])
async def test_folding(pilot, app, fake):
    await until(lambda: "crawl" in lines(app)[2])
    assert "fetch-* ×240" in lines(app)[1]
    assert not fake.asked[-1].fold
    await pilot.press("f")
    await until(lambda: fake.asked[-1].fold)
    assert "folded" in text(app, "#view")
    await pilot.press("f")
    await until(lambda: not fake.asked[-1].fold)


@screen()
async def test_sort_by_key_and_by_mouse(pilot, app, fake):
    await until(lambda: "crawl" in lines(app)[1])
    await pilot.press("s")
    await until(lambda: "compress" in lines(app)[1])
    assert fake.asked[-1].sort == "age"
    assert "AGE ▾" in lines(app)[0]
    await pilot.press("r")
    await until(lambda: "other" in lines(app)[1])
    assert "AGE ▴" in lines(app)[0]
    await pilot.click(Table, offset=(14, 0))
    await until(lambda: fake.asked[-1].sort == "name" and "compress" in lines(app)[1])
    await pilot.click(Table, offset=(14, 0))
    await until(lambda: "other" in lines(app)[1])


@screen()
async def test_details_with_the_stack(pilot, app, fake):
    pane = app.query_one(Pane)
    await move_to(app, pilot, "crawl")
    await pilot.press("enter")
    await until(lambda: "stack, outermost first" in str(pane.query_one(Static).content))
    shown = str(pane.query_one(Static).content)
    assert pane.border_title == "4312.1 crawl"
    assert shown.index("main  /srv/main.py:3") < shown.index("crunch  /srv/work.py:7")
    assert "children  4312.2, 4312.3" in shown
    assert "program   python work.py" in shown
    await pilot.press("down")
    await until(lambda: pane.border_title == "4312.2 fetch-1")
    fake.rows = [each for each in fake.rows if each.name != "fetch-1"]
    fake.rows[0] = row(9, "new")
    await until(lambda: pane.border_title != "4312.2 fetch-1" or "there is no" in str(pane.query_one(Static).content))
    await pilot.press("escape")
    await until(lambda: not pane.has_class("open"))


@screen()
async def test_details_by_mouse(pilot, app, fake):
    await until(lambda: "crawl" in lines(app)[1])
    await pilot.click(Table, offset=(20, 3))
    table = app.query_one(Table)
    await until(lambda: table.row is not None and table.row.name == "fetch-2")
    await pilot.click(Table, offset=(20, 3), times=2)
    await until(lambda: app.query_one(Pane).has_class("open"))


@screen(wait=7.0)
async def test_cancel_with_reason_and_verdict(pilot, app, fake):
    await move_to(app, pilot, "fetch-1")
    await pilot.press("c")
    await until(lambda: asks(app))
    assert fake.cancels == [], "it asks first"
    number = len(fake.asked)
    await until(lambda: len(fake.asked) > number + 1)  # behind the question the screen goes on
    app.screen.query_one("#reason", Input).value = "too slow"
    await pilot.press("enter")
    await until(lambda: fake.cancels)
    assert fake.cancels == [(("4312.2",), "too slow", None, 7.0)]
    await until(lambda: text(app, "#verdicts") == "4312.2 fetch-1: asked to stop, waiting for its end ...")
    fake.ending.set()
    await until(lambda: "cancelled after" in text(app, "#verdicts"))
    assert text(app, "#verdicts") == "4312.2 fetch-1: cancelled after 0.30 s: it stopped when asked (ASKED)"
    await until(lambda: app.query_one(Table).total == 4)
    await pilot.press("escape")
    await until(lambda: not app.query_one("#verdicts").has_class("open"))


@screen()
async def test_cancel_with_grace_and_buttons(pilot, app, fake):
    await move_to(app, pilot, "crawl")
    await pilot.press("c")
    await until(lambda: asks(app))
    assert "its 2 children are called off with it" in str(app.screen.query(Static).first().content)
    app.screen.query_one("#grace", Input).value = "soon"
    await pilot.click("#yes")
    wrong, yes = app.screen.query_one(".wrong", Static), app.screen.query_one("#yes", Button)
    # a button that was pressed is deaf for a fifth of a second
    await until(lambda: "not a duration" in str(wrong.content) and wrong.size and not yes.has_class("-active"))
    assert isinstance(app.screen, Ask), "not before the grace can be read"
    app.screen.query_one("#grace", Input).value = "500ms"
    await pilot.click("#yes")
    await until(lambda: fake.cancels)
    assert fake.cancels == [(("4312.1",), "", 0.5, 10.0)]
    fake.ending.set()
    await until(lambda: "cancelled after" in text(app, "#verdicts"))


@screen()
async def test_cancel_taken_back(pilot, app, fake):
    await move_to(app, pilot, "crawl")
    for leave in ("escape", "#no"):
        await pilot.press("c")
        await until(lambda: asks(app))
        if leave.startswith("#"):
            assert isinstance(app.screen.query_one(leave), Button)
            await pilot.click(leave)
        else:
            await pilot.press(leave)
        await until(lambda: not isinstance(app.screen, Ask))
    assert fake.cancels == []


@screen()
async def test_the_verdict_is_true(pilot, app, fake):
    await move_to(app, pilot, "compress")
    stuck = row(4, "compress")
    fake.stopped = Stopped(row=stuck, seconds=10.0, outcome=None)
    fake.ending.set()
    await pilot.press("c")
    await until(lambda: asks(app))
    await pilot.press("enter")
    await until(lambda: "still runs" in text(app, "#verdicts"))
    where = "crunch (/srv/work.py:7): total += 1"
    assert text(app, "#verdicts") == f"4312.4 compress: still runs after 10.0 s: stuck at {where}"


@screen([*TREE, ended(20, "old"), ended(21, "broken", "failed", error="ValueError: no"), row(22, "fresh")])
async def test_history(pilot, app, fake):
    table = app.query_one(Table)
    await until(lambda: table.total == 6)
    await pilot.press("h")
    await until(lambda: "broken" in lines(app)[1])
    assert lines(app)[0].split() == ["ID", "NAME", "PLACE", "OUTCOME", "TOOK", "CLEAN-UP", "WHY"]
    assert lines(app)[1].endswith("ValueError: no")
    assert "old" in lines(app)[2]
    assert (fake.asked[-1].sort, fake.asked[-1].ended) == ("ended", True)
    await pilot.press("c")
    await until(lambda: any("nothing to call off" in each.message for each in app._notifications))
    assert not isinstance(app.screen, Ask)
    await pilot.press("h")
    await until(lambda: table.total == 6)


@screen(())
async def test_processes_that_come_and_go(pilot, app, fake):
    table = app.query_one(Table)
    await until(lambda: app.query_one("#nothing").has_class("open"))
    assert "CALLOFF_EXPOSE=1" in text(app, "#nothing")
    assert not table.display
    fake.rows = list(TREE)
    await until(lambda: table.display and table.total == 5)
    await pilot.press("down")
    fake.error = Unreachable("/run/calloff is open to other users")
    await until(lambda: app.query_one("#nothing").has_class("open"))
    assert text(app, "#nothing") == "/run/calloff is open to other users"
    fake.error = None
    fake.silent = (Process(77, ("python", "stuck.py"), 0.0, "/run/77.sock"),)
    await until(lambda: "no answer from 77 python stuck.py" in text(app, "#counts"))
    assert table.display
    fake.rows = []
    fake.silent = ()
    await until(lambda: not table.display)


@screen()
async def test_the_keys_work_again_after_trouble(pilot, app, fake):
    table = app.query_one(Table)
    await until(lambda: table.total == 5)
    fake.error = OSError("nobody answers")
    await until(lambda: not table.display)
    fake.error = None
    await until(lambda: table.display and app.focused is table)
    await pilot.press("down")
    await until(lambda: table.cursor == 1)


@screen()
async def test_the_cursor_stays_with_its_operation(pilot, app, fake):
    await move_to(app, pilot, "fetch-2")
    fake.rows = [row(99, "first", pid=1), *fake.rows]
    await until(lambda: "first" in lines(app)[1])
    table = app.query_one(Table)
    assert (table.cursor, table.row.name) == (3, "fetch-2")


@screen([row(1, "crawl", age=100.0, deadline_at=1300.0, remaining=200.0)], every=3600.0)
async def test_ages_go_on_between_two_looks(pilot, app, fake):
    table = app.query_one(Table)
    await until(lambda: " 1m4" in lines(app)[1])
    table._seen_at -= 60
    assert " 2m4" in lines(app)[1]
    assert " 2m2" in lines(app)[1] or " 2m1" in lines(app)[1], "what is left of its deadline"
    await pilot.press("space")
    await until(lambda: "PAUSED" in text(app, "#view"))
    assert " 1m40s" in lines(app)[1]
    assert " 3m20s" in lines(app)[1]


@screen()
async def test_paused_it_does_not_ask(pilot, app, fake):
    await pilot.press("space")
    await until(lambda: "PAUSED" in text(app, "#view"))
    number = len(fake.asked) + 1  # it looks once more, with the key
    await pilot.pause(0.5)  # five times as long as it waits between two looks
    assert len(fake.asked) <= number
    await pilot.press("space")
    await until(lambda: len(fake.asked) > number)


@screen([row(1, "[red]\x1b[2Jevil[/]\n", reason=None, progress="\x1b[31m", error=None), row(2, "木木木" * 20)])
async def test_names_that_would_move_the_cursor(pilot, app, fake):
    await until(lambda: "evil" in lines(app)[1])
    assert not any(char in line for line in lines(app) for char in "\x1b\n")
    assert "[red]·[2Jevil" in lines(app)[1]
    assert "木…" in lines(app)[2]
    await pilot.press("enter")
    await until(lambda: "stack" in str(app.query_one(Pane).query_one(Static).content))
    await pilot.press("c")
    await until(lambda: asks(app))
    fake.ending.set()
    await pilot.press("enter")
    await until(lambda: "cancelled after" in text(app, "#verdicts"))


@screen()
async def test_one_that_ends_before_it_is_called_off(pilot, app, fake):
    await move_to(app, pilot, "fetch-1")

    async def gone(id):
        raise NotFound(f"there is no operation {id!r}")

    fake.show = gone
    await pilot.press("c")
    await until(lambda: "there is no operation '4312.2'" in text(app, "#verdicts"))
    assert fake.cancels == []


@screen(size=(60, 12))
async def test_a_small_terminal(pilot, app, fake):
    await until(lambda: "crawl" in lines(app)[1])
    assert all(len(line) <= 60 for line in lines(app))
    await until(
        lambda: keys(app) == ["Details", "Mark", "Call off", "Filter", "Fold", "Keys"]
    )  # the others have no room
    await pilot.resize_terminal(160, 40)
    await until(lambda: "PROGRESS" in lines(app)[0])
    await until(lambda: keys(app)[-1:] == ["Pause"])


@screen([row(1, "job [/nothing] [x"), row(2, "job [bold]b[/bold]")])
async def test_a_name_is_never_markup(pilot, app, fake):
    pane = app.query_one(Pane)
    for number, name in ((1, "job [/nothing] [x"), (2, "job [bold]b[/bold]")):
        await move_to(app, pilot, name)
        await pilot.press("enter")
        await until(lambda title=f"4312.{number} {name}": pane._border_title and pane._border_title.plain == title)
        await pilot.press("escape", "c")
        await until(lambda: asks(app))
        assert app.screen.query_one("Vertical")._border_title.plain == f"Call off 4312.{number} {name}?"
        await pilot.press("escape")
        await until(lambda: not isinstance(app.screen, Ask))
