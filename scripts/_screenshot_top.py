"""Makes the picture of `calloff top` for the documentation: docs/images/top.svg.

    .venv/bin/python scripts/_screenshot_top.py

Nothing in it is made up: two programs run, with work at every place, and the screen that is photographed is the one that
everybody gets. Only the terminal is missing: Textual draws into memory.
"""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from calloff.control import Client
from calloff.top._app import Top
from calloff.top._table import Table

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "top.svg"
SIZE = (122, 34)
LARGEST = 150_000


async def main() -> None:
    """Start the programs, look, wait until there is something to see, and take the picture."""
    with tempfile.TemporaryDirectory(prefix="calloff-") as sockets:
        os.environ["CALLOFF_SOCKETS"] = sockets
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        programs = [
            subprocess.Popen(  # noqa: ASYNC220
                ["python", "-m", "calloff", "run", f"scripts/_demo.py:{target}"],
                cwd=ROOT,
                env={**os.environ, "PATH": path},
                stderr=subprocess.DEVNULL,
            )
            for target in ("main", "build_report")
        ]
        try:
            async with asyncio.timeout(60), Client() as client:
                await take(client)
        finally:
            for program in programs:
                program.kill()
                program.wait()


async def take(client: Client) -> None:
    """The picture itself: an operation is being called off, and its details are open."""
    app = Top(client)
    async with app.run_test(size=SIZE) as pilot:
        while "sync-ledger" not in [row.name for row in (await client.list()).rows]:
            await asyncio.sleep(0.2)
        await choose(app, pilot, "encode")
        await pilot.press("c")
        await pilot.pause(0.5)
        await pilot.press(*"not needed any more", "enter")
        await asyncio.sleep(1.5)
        await choose(app, pilot, "sync-ledger")
        await pilot.press("enter")
        await asyncio.sleep(2.2)
        app.clear_notifications()
        await pilot.pause()
        picture = app.export_screenshot(title="calloff top", simplify=True)
    picture = re.sub(r"terminal-\d+", "top", picture)
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)  # pages load nothing from elsewhere
    picture = picture.replace("Fira Code", "ui-monospace")
    if len(picture) > LARGEST:
        raise SystemExit(f"the picture has {len(picture):,} bytes, that is too many")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture)
    print(f"{PICTURE.relative_to(ROOT)}: {len(picture):,} bytes")


async def choose(app: Top, pilot: object, name: str) -> None:
    """Move the cursor to the operation of that name."""
    table = app.query_one(Table)
    await pilot.press("home")  # type: ignore[attr-defined]
    while table.row is None or table.row.name != name:
        await pilot.press("down")  # type: ignore[attr-defined]
        await pilot.pause(0.02)  # type: ignore[attr-defined]


if __name__ == "__main__":
    asyncio.run(main())
