"""The page in a real headless Chromium.

The first test is the whole way: programs run by `calloff run`, the page served by `calloff serve`, clicks, and a look at
/proc whether the answers are true. The others have a fake behind the page, and look at it closer.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from places.process_table import below, until
from playwright.sync_api import Browser, Page, expect
from web import browser as browsers
from web.fake import FakeSource
from web.serving import TOKEN, Served

from calloff.control import Cause, Frame, Step

if browsers.find() is None:
    pytest.skip("there is no Chromium: apt-get install chromium", allow_module_level=True)

PROGRAM = Path(__file__).with_name("program.py")
BUILD = Path(__file__).parents[2] / "build"
expect.set_options(timeout=30_000)
NAP = f"600.{os.getpid()}"  # seconds that nobody else sleeps
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a link in a tab of its own. What the browser complains about fails the test."""
    complaints: list[str] = []
    contexts = []

    def open_(link: str, **settings: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        context.set_default_timeout(30_000)
        contexts.append(context)
        tab = context.new_page()
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        tab.goto(link)
        return tab

    yield open_
    for context in contexts:
        context.close()
    assert [text for text in complaints if "401" not in text] == []


# --- the whole way


@contextmanager
def started(*words: str, sockets: Path) -> "Iterator[subprocess.Popen[str]]":
    env = {**os.environ, "CALLOFF_SOCKETS": str(sockets), "PYTHONUNBUFFERED": "1", "NAP": NAP}
    process = subprocess.Popen(
        [sys.executable, "-m", "calloff", *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def sleepers() -> list[int]:
    """The processes that sleep for our program now, daemons included."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == f"sleep\0{NAP}\0".encode():
                found.append(int(path.parent.name))
        except OSError:  # it has just ended
            pass
    return found


def call_off(tab: Page, name: str, reason: str) -> str:
    """Clicks through the cancel of one; returns the verdict."""
    tab.locator("#running-table").get_by_role("button", name=name, exact=True).click()
    expect(tab.get_by_role("heading", name=name, exact=True)).to_be_visible()
    tab.get_by_role("button", name="Call off").click()
    tab.get_by_label("Reason").fill(reason)
    tab.get_by_role("button", name="Call it off").click()
    verdict = tab.locator(".verdict strong")
    expect(verdict).to_have_text(re.compile("^(Cancelled|Completed|Failed|Could|Still|Gone)"), timeout=30_000)
    return tab.locator(".verdict").inner_text()


def test_see_it_appear_call_it_off_and_the_answer_is_true(visit: Callable[..., Page], tmp_path: Path) -> None:
    sockets = tmp_path / "sockets"
    with started("serve", "--port", "0", sockets=sockets) as server:
        assert server.stdout is not None
        tab = visit(server.stdout.readline().strip())
        expect(tab.locator("#running-none")).to_contain_text("No process of yours answers")
        with (
            started("run", f"{PROGRAM}:main", sockets=sockets) as program,
            started("run", f"{PROGRAM}:block", sockets=sockets) as blocker,
        ):
            running = tab.locator("#running-table")
            for name, line in (
                ("swallower", "await asyncio.sleep(3600)"),
                ("c-loop", "return sum(itertools.repeat(1, 10**13))"),
                ("daemon-maker", f"setsid sleep {NAP}"),
                ("block", "time.sleep(600)"),
            ):
                row = running.get_by_role("row").filter(has=tab.get_by_role("button", name=name, exact=True))
                expect(row).to_contain_text(line)
            assert until(lambda: len(sleepers()) == 2, 60)
            (worker,) = [int(pid) for pid in _pids_of(tab, "c-loop")]
            assert worker in below(program.pid)

            verdict = call_off(tab, "swallower", "by a click")
            assert "Cancelled a" in verdict
            assert "Ended by force (FORCED)" in verdict
            expect(tab.locator("#detail .under")).to_contain_text("cancelled")
            tab.screenshot(path=BUILD / f"page-{PYTHON}.png")

            assert "Killed (KILLED)" in call_off(tab, "c-loop", "by a click")
            assert not Path(f"/proc/{worker}").exists()

            assert "Cancelled a" in call_off(tab, "daemon-maker", "by a click")
            assert sleepers() == []

            assert "Cancelled a" in call_off(tab, "block", "by a click")
            assert blocker.wait(60) != 0

            said, complaints = program.communicate(timeout=60)
            assert complaints == ""
            assert said.splitlines() == [
                "swallower: Cancelled FORCED by a click",
                "c-loop: Cancelled KILLED by a click",
                "daemon-maker: Cancelled TERMINATED by a click",
            ]
            expect(tab.locator("#running-none")).to_be_visible()
        tab.close()


def _pids_of(tab: Page, name: str) -> list[str]:
    """The process that an operation runs in, as its details tell."""
    tab.locator("#running-table").get_by_role("button", name=name, exact=True).click()
    expect(tab.locator("#detail dl")).to_contain_text("pid ")
    found = re.findall(r"pid (\d+)", tab.locator("#detail dl").inner_text())
    tab.keyboard.press("Escape")
    return found


# --- closer looks, with a fake behind the page


def fill(source: FakeSource) -> None:
    now = time.time()
    source.add("100.1", "main", started_at=now - 90)
    source.add("100.2", "fetch", parent="100.1", started_at=now - 60, deadline_at=now + 30, timeout=90, progress=0.25,
               where=Frame("/srv/fetch.py", 12, "fetch", "await client.get(url)"))  # fmt: skip
    source.add("100.3", "stubborn", parent="100.1", place="thread", started_at=now - 40, progress=(3, 12))
    source.add(
        "100.4", "old", state="cancelled", outcome="cancelled", started_at=now - 80, ended_at=now - 50, age=30.0,
        deadline_at=now - 52, requested_at=now - 52, reason=Cause("deadline", "within 28 s"),
        rung="FORCED", steps=(Step("ASKED", now - 52), Step("FORCED", now - 50)), clean_up=2.0,
    )  # fmt: skip
    source.stacks["100.2"] = (
        Frame("/srv/main.py", 5, "main", "await fetch()"),
        Frame("/srv/fetch.py", 12, "fetch", "await client.get(url)"),
    )
    source.sturdy.add("100.3")


def test_what_is_shown(page: Served, source: FakeSource, visit: Callable[..., Page]) -> None:
    fill(source)
    tab = visit(page.link)
    row = tab.locator("#running-table [data-id='100.2']")
    expect(row).to_contain_text("fetch.py:12")
    expect(row).to_contain_text("25 %")
    expect(row).to_contain_text("left")
    expect(row.locator(".name")).to_have_attribute("data-level", "1")
    expect(tab.locator("#running-table [data-id='100.3']")).to_contain_text("3 / 12")
    expect(tab.locator("#ended-table [data-id='100.4']")).to_contain_text("deadline: within 28 s · FORCED")
    bar = tab.locator("#bars [data-id='100.4']")
    expect(bar.locator(".ran")).to_be_visible()
    expect(bar.locator(".stop")).to_be_visible()
    expect(bar.locator(".due")).to_be_visible()
    assert bar.locator(".steps i").count() == 2
    left, middle, right = bar.evaluate(
        "bar => { const [ran, stop] = ['.ran', '.stop'].map(name => bar.querySelector(name).getBoundingClientRect());"
        " return [ran.left, stop.left, stop.right]; }"
    )
    assert (middle - left) / (right - middle) == pytest.approx(28 / 2, rel=0.2)
    row.locator(".open").click()
    expect(tab.locator("#detail .stack li")).to_have_count(2)
    expect(tab.locator("#detail .here")).to_contain_text("await client.get(url)")
    expect(tab.locator("#detail dl")).to_contain_text("100.1")


def test_rows_come_change_and_go(page: Served, source: FakeSource, visit: Callable[..., Page]) -> None:
    source.add("100.1", "first")
    tab = visit(page.link)
    expect(tab.locator("#running-table [data-id='100.1']")).to_be_visible()
    source.add("100.2", "second")
    expect(tab.locator("#running-table [data-id='100.2']")).to_be_visible()
    source.add("100.1", "first", state="failed", outcome="failed", error="ValueError: 7", ended_at=time.time())
    expect(tab.locator("#ended-table [data-id='100.1']")).to_contain_text("ValueError: 7")
    expect(tab.locator("#running-table [data-id='100.1']")).to_have_count(0)


def test_what_is_pressed_stays_there_until_it_is_let_go(
    page: Served, source: FakeSource, visit: Callable[..., Page]
) -> None:
    source.add("100.1", "first")
    source.add("100.2", "second")
    other, tab = visit(page.link), visit(page.link)
    tab.get_by_role("button", name="second", exact=True).hover()
    tab.mouse.down()
    source.add("100.1", "first", state="completed", outcome="completed", ended_at=time.time())
    expect(other.locator("#running-table [data-id='100.1']")).to_have_count(0)
    looks = len(source.asked) + 4
    assert until(lambda: len(source.asked) > looks, 60)  # both have been told of that by now
    tab.mouse.up()
    expect(tab.get_by_role("heading", name="second", exact=True)).to_be_visible()
    expect(tab.locator("#running-table [data-id='100.1']")).to_have_count(0)


def test_one_that_goes_on_is_said_to_and_can_be_forced(
    page: Served, source: FakeSource, visit: Callable[..., Page]
) -> None:
    fill(source)
    tab = visit(page.link)
    verdict = call_off(tab, "stubborn", "enough")
    assert verdict.startswith("Still runs after 10.0 s")
    source.left = ("42 (su): of another user",)
    tab.get_by_role("button", name="Use force now").click()
    expect(tab.locator(".verdict")).to_contain_text("Ended by force (FORCED); still running: 42 (su): of another user.")
    expect(tab.locator(".survivors")).to_contain_text("42 (su): of another user")
    expect(tab.get_by_role("button", name="Call off")).to_be_hidden()
    assert [(asked["reason"], asked["grace"]) for asked in source.cancelled] == [("enough", None), ("", 0.0)]


def test_without_a_yes_nothing_is_called_off(page: Served, source: FakeSource, visit: Callable[..., Page]) -> None:
    fill(source)
    tab = visit(page.link)
    tab.locator("#running-table").get_by_role("button", name="fetch", exact=True).click()
    for way_out in (lambda: tab.keyboard.press("Escape"), tab.get_by_role("button", name="Keep it running").click):
        tab.get_by_role("button", name="Call off").click()
        expect(tab.get_by_role("dialog")).to_be_visible()
        way_out()
        expect(tab.get_by_role("dialog")).to_be_hidden()
    assert source.cancelled == []


def test_everything_by_keyboard(page: Served, source: FakeSource, visit: Callable[..., Page]) -> None:
    fill(source)
    tab = visit(page.link)
    expect(tab.locator("#running-table [data-id='100.2']")).to_be_visible()
    press = tab.keyboard.press
    press("/")
    expect(tab.get_by_placeholder("Filter by name")).to_be_focused()
    tab.keyboard.type("fetch")
    expect(tab.locator("#running-table [data-id='100.3']")).to_have_count(0)
    row = tab.locator("#running-table [data-id='100.2'] .open")
    for _ in range(40):
        if row.evaluate("node => node === document.activeElement"):
            break
        press("Tab")
    expect(row).to_be_focused()
    assert row.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    press("Enter")
    expect(tab.locator("#detail")).to_be_focused()
    press("c")
    expect(tab.get_by_label("Reason")).to_be_focused()
    tab.keyboard.type("by hand")
    press("Enter")
    expect(tab.locator(".verdict")).to_contain_text("Cancelled a")
    assert source.cancelled[0]["reason"] == "by hand"
    press("Escape")
    expect(tab.locator("#detail")).to_be_hidden()


def test_arrows_move_and_focus_comes_back(page: Served, source: FakeSource, visit: Callable[..., Page]) -> None:
    fill(source)
    tab = visit(page.link)
    open_ = "#running-table [data-id='100.{}'] .open"
    tab.locator(open_.format(1)).focus()
    tab.keyboard.press("ArrowDown")
    expect(tab.locator(open_.format(2))).to_be_focused()
    tab.keyboard.press("Enter")
    expect(tab.locator("#detail")).to_be_focused()
    tab.keyboard.press("Escape")
    expect(tab.locator("[data-id='100.2'] .open").first).to_be_focused()


def test_ten_thousand_do_not_hang_the_page(page: Served, source: FakeSource, visit: Callable[..., Page]) -> None:
    for number in range(10_000):
        source.add(f"100.{number}", f"job-{number:05}")
    tab = visit(page.link)
    expect(tab.locator("#running-total")).to_have_text("10000")
    assert tab.locator("#running-table [data-id]").count() == 100
    tab.get_by_label("Pages of what runs").get_by_role("button", name="Next").click()
    expect(tab.locator("#running-table [data-id='100.100']")).to_be_visible()
    tab.get_by_placeholder("Filter by name").fill("job-0777?")
    expect(tab.locator("#running-total")).to_have_text("10")
    tab.locator("#running-table").get_by_role("button", name="Operation").click()
    expect(tab.locator("#running-table [aria-sort='ascending']")).to_have_text("Operation")
    longest = tab.evaluate(
        "() => new Promise(done => { let last = performance.now(), most = 0, left = 60; const look = now => {"
        " most = Math.max(most, now - last); last = now; --left ? requestAnimationFrame(look) : done(most) };"
        " requestAnimationFrame(look); })"
    )
    assert longest < 2000  # milliseconds between two frames: it is alive


def test_a_child_stands_as_deep_on_another_page_than_its_parent(
    page: Served, source: FakeSource, visit: Callable[..., Page]
) -> None:
    source.add("100.0", "parent")
    for number in range(1, 151):
        source.add(f"100.{number}", "child", parent="100.0")
    tab = visit(page.link)
    tab.get_by_label("Pages of what runs").get_by_role("button", name="Next").click()
    expect(tab.locator("#running-table [data-id='100.150'] .name")).to_have_attribute("data-level", "1")
    tab.locator("#running-table").get_by_role("button", name="Operation").click()
    expect(tab.locator("#running-table [data-id='100.0']")).to_be_visible()
    expect(tab.locator("#running-table [data-level]")).to_have_count(0)  # no tree, no levels


def test_states_are_filters(page: Served, source: FakeSource, visit: Callable[..., Page]) -> None:
    fill(source)
    tab = visit(page.link)
    chip = tab.get_by_role("group", name="Show only these states").get_by_role("button", name="cancelled")
    chip.click()
    expect(chip).to_have_attribute("aria-pressed", "true")
    expect(tab.locator("#running-table [data-id]")).to_have_count(0)
    expect(tab.locator("#ended-table [data-id]")).to_have_count(1)
    tab.reload()
    expect(tab.locator("#ended-table [data-id]")).to_have_count(1)
    expect(tab.locator("#running-table [data-id]")).to_have_count(0)


def test_the_token_leaves_the_address_and_a_wrong_one_opens_nothing(
    page: Served, source: FakeSource, visit: Callable[..., Page]
) -> None:
    fill(source)
    tab = visit(page.link)
    expect(tab.locator("#running-table [data-id='100.1']")).to_be_visible()
    assert TOKEN not in tab.url
    tab.reload()
    expect(tab.locator("#running-table [data-id='100.1']")).to_be_visible()
    other = visit(page.link.replace(TOKEN, "wrong-wrong-wrong-wrong"))
    expect(other.get_by_role("heading", name="Open the link")).to_be_visible()
    assert other.locator("[data-id]").count() == 0
    other.get_by_label("Or paste").fill(page.link)
    other.get_by_role("button", name="Open").click()
    expect(other.locator("#running-table [data-id='100.1']")).to_be_visible()


def test_names_are_text_and_never_code(page: Served, source: FakeSource, visit: Callable[..., Page]) -> None:
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    source.add("100.1", evil, where=Frame(evil, 1, evil, evil), progress=evil, reason=Cause("requested", evil, evil))
    source.stacks["100.1"] = (Frame(evil, 1, evil, evil),)
    tab = visit(page.link)
    tab.locator("#running-table .open").click()
    expect(tab.get_by_role("heading", name=evil, exact=True)).to_be_visible()
    assert tab.locator("main img, aside img, main script").count() == 0


RIGHTMOST = (
    "Math.max(0, ...[...document.querySelectorAll('#detail *')].map(node => node.getBoundingClientRect().right))"
)


@pytest.mark.parametrize("width", [320, 390, 768, 1100])
def test_nothing_is_wider_than_the_screen(
    page: Served, source: FakeSource, visit: Callable[..., Page], width: int
) -> None:
    fill(source)
    source.add("100.9", "a-name-that-goes-on-" * 8, parent="100.2", where=Frame("f" * 200, 1, "g" * 200, "h" * 400))
    tab = visit(page.link, viewport={"width": width, "height": 700})
    expect(tab.locator("#running-table [data-id='100.9']")).to_be_attached()
    for _ in range(2):
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate(RIGHTMOST) <= width
        if tab.locator("#detail").is_hidden():
            tab.locator("#running-table [data-id='100.9'] .open").click()
            expect(tab.locator("#detail .stack li")).to_have_count(1)


#: pairs of a text and what it stands on, in both themes
CONTRAST = """() => {
  const read = (text) => { const c = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    c.fillStyle = text; c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const f = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const behind = (node) => { for (; node; node = node.parentElement) {
    const found = read(getComputedStyle(node).backgroundColor); if (found[3] === 255) return found; }
    return [255, 255, 255, 255]; };
  const out = "[hidden], .hidden, .skip, noscript, option";
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility({visibilityProperty: true}) || node.disabled || node.closest(out)) continue;
    const a = light(read(getComputedStyle(node).color)), b = light(behind(node));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${node.tagName}.${node.className}: ${node.textContent.slice(0, 20)} ${ratio.toFixed(2)}`);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(page: Served, source: FakeSource, visit: Callable[..., Page], scheme: str) -> None:
    fill(source)
    for number, state in enumerate(("pending", "stopping", "completed", "failed", "abandoned"), 20):
        over = state in ("completed", "failed", "abandoned")
        source.add(f"100.{number}", state, state=state, **({"outcome": state, "ended_at": time.time()} if over else {}))
    tab = visit(page.link, color_scheme=scheme)
    call_off(tab, "stubborn", "")
    assert tab.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light dark"
    assert tab.evaluate(CONTRAST) == []
    tab.get_by_role("button", name="Theme").click()
    tab.get_by_role("button", name="Theme").click()
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    assert tab.evaluate(CONTRAST) == []


def test_everything_that_can_be_used_has_a_name(page: Served, source: FakeSource, visit: Callable[..., Page]) -> None:
    fill(source)
    tab = visit(page.link, reduced_motion="reduce")
    tab.locator("#running-table").get_by_role("button", name="fetch", exact=True).click()
    nameless = tab.evaluate(
        "() => [...document.querySelectorAll('button, input, select, a')].filter(node => node.checkVisibility() &&"
        "!(node.ariaLabel || node.textContent.trim() || node.labels?.length)).map(node => node.outerHTML)"
    )
    assert nameless == []
    for role, name in (("table", "Running"), ("table", "Ended"), ("complementary", "fetch"), ("search", "Filter")):
        assert tab.get_by_role(role, name=name).count() == 1, (role, name)  # type: ignore[arg-type]
    assert tab.get_by_role("main").count() == 1
    ids = tab.evaluate("() => [...document.querySelectorAll('[id]')].map(node => node.id)")
    assert len(ids) == len(set(ids))
    assert tab.evaluate("getComputedStyle(document.getElementById('link'), '::before').animationName") == "none"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (390, 844)], ids=["desk", "phone"])
def test_axe_has_nothing_serious_to_say(
    page: Served, source: FakeSource, visit: Callable[..., Page], scheme: str, size: tuple[int, int]
) -> None:
    fill(source)
    tab = visit(page.link, color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
    expect(tab.locator("#running-table [data-id='100.2']")).to_be_visible()
    assert _serious(tab) == []
    tab.locator("#running-table").get_by_role("button", name="fetch", exact=True).click()
    expect(tab.locator("#detail .stack li")).to_have_count(2)
    tab.get_by_role("button", name="Call off").click()
    expect(tab.get_by_role("dialog")).to_be_visible()
    assert _serious(tab) == []


def _serious(tab: Page) -> list[str]:
    found = Axe().run(tab).response["violations"]
    return [
        f"{each['help']}: {each['nodes'][0]['html']}" for each in found if each["impact"] in ("serious", "critical")
    ]
