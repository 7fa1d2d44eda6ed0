"""Looks at every page of the built site with the rules of axe, in Chromium, light and dark. Started by the test job.

    python scripts/_axe.py SITE [PAGE...]

Without pages it looks at all, which takes some minutes. Prints what axe calls serious or critical, with the page and the
first place, and ends with 1 if there is any.
"""

from __future__ import annotations

import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from web import browser as browsers  # noqa: E402

GRAVE = ("serious", "critical")


class Silent(SimpleHTTPRequestHandler):
    """Serves files and prints nothing of them."""

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


def main(site: Path, *only: str) -> int:
    """Looks at these pages of `site`, or at all; returns the exit status."""
    if browsers.find() is None:
        print("there is no Chromium: the site was not looked at with axe")
        return 0
    pages = only or sorted(str(path.parent.relative_to(site)) for path in site.rglob("index.html"))
    found = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with browsers.chromium() as browser:
        for scheme in ("light", "dark"):
            tab = browser.new_context(color_scheme=scheme).new_page()
            for page in pages:
                tab.goto(f"http://127.0.0.1:{server.server_port}/{'' if page == '.' else f'{page}/'}")
                for each in Axe().run(tab).response["violations"]:
                    if each["impact"] in GRAVE:
                        found += 1
                        nodes = each["nodes"]
                        print(f"{page} ({scheme}): {each['help']}: {len(nodes)} times, first {nodes[0]['html']}")
    print(f"axe looked at {len(pages)} pages, twice each: {found} findings")
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
