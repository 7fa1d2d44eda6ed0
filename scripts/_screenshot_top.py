"""Makes the pictures of `calloff top` for the documentation: docs/images/top.svg and top-many.svg.

    .venv/bin/python scripts/_screenshot_top.py [FOLDER]

Nothing in them is made up: programs run, with work at every place, and the screen that is photographed is the one that
everybody gets. Only the terminal is missing: Textual draws into memory. With a folder the screen at other sizes, with other
numbers of operations and in the light is put there, too.
"""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from calloff.control import Client
from calloff.top._app import Top
from calloff.top._table import Table

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "images"
WIDE, USUAL = (122, 34), (80, 24)
LARGEST = 150_000


@contextlib.asynccontextmanager
async def programs(*targets: str) -> AsyncIterator[Client]:
    """Runs functions of `_demo.py`, and looks at them, until the block is left."""
    with tempfile.TemporaryDirectory(prefix="calloff-") as sockets:
        os.environ["CALLOFF_SOCKETS"] = sockets
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        running = [
            subprocess.Popen(  # noqa: ASYNC220
                ["python", "-m", "calloff", "run", *f"scripts/_demo.py:{target}".split()],
                cwd=ROOT,
                env={**os.environ, "PATH": path},
                stderr=subprocess.DEVNULL,
            )
            for target in targets
        ]
        try:
            async with asyncio.timeout(180), Client() as client:
                yield client
        finally:
            for program in running:
                program.kill()
                program.wait()


async def a_few() -> None:
    """An operation is being called off, and the details of another are open."""
    async with programs("main", "build_report") as client:
        app = Top(client)
        async with app.run_test(size=WIDE) as pilot:
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
            keep(app, PICTURES / "top.svg")


async def many(number: int, size: tuple[int, int], picture: Path, *, light: bool = False, fold: bool = True) -> None:
    """So many calls, those that are alike folded, what has been silent or has run the longest first."""
    async with programs(f"crowd {number}") as client:
        app = Top(client, sort="age")
        if light:
            app.theme = "textual-light"
        async with app.run_test(size=size) as pilot:
            while (await client.list()).counts.get("running", 0) < 0.95 * number:
                await asyncio.sleep(0.2)
            if fold:
                await pilot.press("f")
            await asyncio.sleep(11)
            await pilot.pause()
            keep(app, picture)


def keep(app: Top, picture: Path) -> None:
    """Writes what the screen shows."""
    drawn = app.export_screenshot(title="calloff top", simplify=True)
    drawn = re.sub(r"terminal-\d+", picture.stem, drawn)
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)  # pages load nothing from elsewhere
    drawn = drawn.replace("Fira Code", "ui-monospace")
    if len(drawn) > LARGEST:
        raise SystemExit(f"{picture} has {len(drawn):,} bytes, that is too many")
    picture.parent.mkdir(exist_ok=True)
    picture.write_text(drawn)
    print(f"{picture}: {len(drawn):,} bytes")


async def choose(app: Top, pilot: object, name: str) -> None:
    """Move the cursor to the operation of that name."""
    table = app.query_one(Table)
    await pilot.press("home")  # type: ignore[attr-defined]
    while table.row is None or table.row.name != name:
        await pilot.press("down")  # type: ignore[attr-defined]
        await pilot.pause(0.02)  # type: ignore[attr-defined]


async def main() -> None:
    """All of them."""
    if len(sys.argv) < 3:
        await a_few()
    await many(10_000, WIDE, PICTURES / "top-many.svg")
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        await many(150, USUAL, folder / "top-150-80x24.svg")
        await many(150, WIDE, folder / "top-150-light.svg", light=True, fold=False)
        await many(10_000, USUAL, folder / "top-10000-80x24.svg")


if __name__ == "__main__":
    asyncio.run(main())
