"""Chromium of the system, without a window, driven through playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: it is to speak to our page and to nobody else
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


def find() -> str | None:
    """The path of the browser; `CALLOFF_CHROMIUM` names another one."""
    return os.environ.get("CALLOFF_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A fresh one with an empty profile, ended with the block. Its sandbox does not work as root."""
    path = find()
    assert path is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*QUIET], chromium_sandbox=os.getuid() != 0)
        try:
            yield browser
        finally:
            browser.close()
