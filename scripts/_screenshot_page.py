"""Makes the pictures of the page of `calloff serve` for the documentation: docs/images/page.png and page-many.png.

    .venv/bin/python scripts/_screenshot_page.py [FOLDER]

Nothing in it is made up: two programs run, with work of every kind, and in a real Chromium somebody calls off an
operation that refuses; then ten thousand calls run. With a folder the pages in the dark and on a phone are put there, too,
and one of 150 calls. Needs Chromium and, to look as it does here, the font Inter (scripts/_browser.sh installs both where
it can).
"""

import contextlib
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from web.browser import chromium  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "page.png"
MANY = PICTURE.with_name("page-many.png")
SIZE = {"width": 1320, "height": 868}
PHONE = {"width": 390, "height": 844}
LARGEST = 200_000


@contextlib.contextmanager
def started(*words: str) -> "Iterator[subprocess.Popen[str]]":
    """Runs `calloff` in the folder of the project until the block is left."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        ["calloff", *words],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def take(browser: Browser, link: str, folder: Path | None) -> None:
    """Looks at the page, calls an operation off, and takes the pictures."""
    tab = browser.new_context(viewport=SIZE, color_scheme="light").new_page()
    tab.set_default_timeout(60_000)
    tab.goto(link)
    expect(tab.locator("#bars").get_by_text("sync-ledger")).to_be_visible(timeout=60_000)
    tab.wait_for_timeout(7000)
    call_off(tab, "upload-backup", "the disk is full")
    expect(tab.locator(".verdict")).to_contain_text("Still runs", timeout=30_000)
    tab.mouse.move(0, 0)
    tab.evaluate("scrollTo(0, 0); document.activeElement.blur()")
    tab.screenshot(path=PICTURE)
    if folder is not None:
        others(browser, tab, link, folder, "few")


def others(browser: Browser, tab: Page, link: str, folder: Path, name: str) -> None:
    """The same in the dark, and on a phone."""
    tab.emulate_media(color_scheme="dark")
    tab.screenshot(path=folder / f"page-{name}-dark.png")
    phone = browser.new_context(viewport=PHONE, color_scheme="light", device_scale_factor=2).new_page()
    phone.goto(link)
    phone.wait_for_selector("#ended-table .open")
    phone.screenshot(path=folder / f"page-{name}-phone.png")


def take_many(browser: Browser, link: str, number: int, picture: Path, folder: Path | None) -> None:
    """So many calls; those that are alike are folded, the oldest first."""
    tab = browser.new_context(viewport=SIZE, color_scheme="light").new_page()
    tab.set_default_timeout(90_000)
    tab.goto(link)
    while int(tab.locator("#states .s-running b").text_content() or 0) < 0.95 * number:
        tab.wait_for_timeout(500)
    tab.get_by_label("Fold what is alike").check()
    tab.locator("#sort").select_option("age")
    tab.wait_for_timeout(12_000)
    tab.evaluate("scrollTo(0, 0); document.activeElement.blur()")
    tab.screenshot(path=picture)
    if folder is not None:
        others(browser, tab, link, folder, str(number))


def squeeze(picture: Path) -> None:
    """Packs a PNG again, as tight as zlib can."""
    data = picture.read_bytes()
    chunks: list[tuple[bytes, bytes]] = []
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += length + 12
    pixels = zlib.decompress(b"".join(content for name, content in chunks if name == b"IDAT"))
    whole = [(b"IHDR", chunks[0][1]), (b"IDAT", zlib.compress(pixels, 9)), (b"IEND", b"")]
    with picture.open("wb") as file:
        file.write(data[:8])
        for name, content in whole:
            file.write(struct.pack(">I", len(content)) + name + content)
            file.write(struct.pack(">I", zlib.crc32(name + content)))


def call_off(tab: Page, name: str, reason: str) -> None:
    """As a person does it."""
    tab.locator("#running-table").get_by_role("button", name=name, exact=True).click()
    tab.get_by_role("button", name="Call off").click()
    tab.get_by_label("Reason").fill(reason)
    tab.get_by_role("button", name="Call it off").click()


def main() -> None:
    """Starts the programs and the server, and takes the pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with chromium() as browser:
        with served("main", "build_report") as link:
            take(browser, link, folder)
        with served("crowd 10000") as link:
            take_many(browser, link, 10_000, MANY, folder)
        if folder is not None:
            with served("crowd 150") as link:
                take_many(browser, link, 150, folder / "page-150.png", folder)
    for picture in (PICTURE, MANY):
        squeeze(picture)
        size = picture.stat().st_size
        if size > LARGEST:
            raise SystemExit(f"{picture} has {size:,} bytes, that is too many")
        print(f"{picture.relative_to(ROOT)}: {size:,} bytes")


@contextlib.contextmanager
def served(*targets: str) -> Iterator[str]:
    """The link of a page on which functions of `_demo.py` run, and nothing else."""
    with contextlib.ExitStack() as stack:
        os.environ["CALLOFF_SOCKETS"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="calloff-"))
        server = stack.enter_context(started("serve", "--port", "0"))
        for target in targets:
            stack.enter_context(started("run", "--timeout", "3m", *f"scripts/_demo.py:{target}".split()))
        assert server.stdout is not None
        yield server.stdout.readline().strip()


if __name__ == "__main__":
    main()
