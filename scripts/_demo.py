"""A night's work for the pictures: operations of every place and every ending, some of which refuse to stop.

Run by the scripts that make them; `calloff run scripts/_demo.py:main` gives you the same to look at with `calloff top` or
`calloff serve`.
"""

import asyncio
import contextlib
import itertools
import random
import time

import calloff


async def fetch_prices() -> None:
    """Gets on, and reports how far it is."""
    for page in range(240):
        calloff.progress((page, 240))
        await asyncio.sleep(0.5)


async def sync_ledger() -> None:
    """Swallows every cancel."""
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


async def upload_backup() -> None:
    """Swallows every cancel, too, and reports how far it is."""
    for done in range(1000):
        with contextlib.suppress(asyncio.CancelledError):
            calloff.progress(done / 1000)
            await asyncio.sleep(0.06)


def hash_files() -> None:
    """A process that swallows every cancel."""
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            time.sleep(600)


def count_words() -> int:
    """A loop in C, in a process of its own."""
    return sum(itertools.repeat(1, 10**12))


def read_archive() -> None:
    """A thread that can be asked."""
    for number in itertools.count():
        calloff.progress(f"volume {number // 20 + 1}")
        calloff.checkpoint()
        time.sleep(0.05)


def wait_for_driver() -> None:
    """A thread that hears nothing: not even force gets it out of this call in time."""
    time.sleep(600)


async def render() -> None:
    """A parent with children in other places."""
    async with calloff.group() as group:
        group.start(calloff.process(count_words), name="count-words")
        group.start(calloff.command("sh", "-c", "setsid sleep 600 & exec sleep 600"), name="encode")
        group.start(calloff.thread(read_archive), name="read-archive")


async def warm_cache() -> str:
    """Completes."""
    await asyncio.sleep(4.5)
    return "warm"


async def send_mail() -> None:
    """Fails."""
    await asyncio.sleep(7.5)
    raise ConnectionError("mail.example.org: connection refused")


async def close_slowly() -> None:
    """Takes a while to put things away."""
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(2.2)


async def main() -> None:
    """Starts them all, stops some, and waits."""
    async with calloff.group(on_error="collect") as group:
        group.start(fetch_prices(), name="fetch-prices", timeout=60)
        group.start(warm_cache(), name="warm-cache")
        group.start(send_mail(), name="send-mail")
        group.start(render(), name="render", timeout=45)
        group.start(calloff.thread(wait_for_driver), name="wait-for-driver", timeout=6, grace=3)
        await asyncio.sleep(1)
        slow = group.start(close_slowly(), name="poll-queue")
        group.start(calloff.command("sh", "-c", "trap '' TERM; sleep 600"), name="old-importer", timeout=5, grace=3)
        await asyncio.sleep(1)
        group.start(calloff.process(hash_files), name="hash-files", timeout=9, grace=2)
        group.start(upload_backup(), name="upload-backup", grace=40)
        await asyncio.sleep(5)
        slow.cancel("a new version is being rolled out")
        await asyncio.sleep(1)
        group.start(sync_ledger(), name="sync-ledger", timeout=5, grace=25)


def lay_out() -> None:
    """What a careless library does."""
    time.sleep(600)


async def build_report() -> None:
    """Blocks its event loop."""
    await asyncio.sleep(0.5)
    lay_out()


async def fetch(number: int, seconds: float) -> int:
    """A call: it takes its time, some fail, and one in fifty never comes back."""
    if number % 50 == 7:
        await asyncio.Event().wait()
    await asyncio.sleep(random.uniform(0.02, 1.98) * seconds)
    if number % 40 == 3:
        raise ConnectionError(f"shard {number % 8} answered 503")
    return number


async def crowd(at_once: int) -> None:
    """So many calls at a time, for ever, beside a little other work."""
    random.seed(7)
    calloff.start(upload_backup(), name="upload-backup", timeout=90)
    calloff.start(sync_ledger(), name="sync-ledger")
    calls = (f"shard-{number % 8}/{number}" for number in itertools.count())
    async with calloff.group(on_error="collect") as group:
        room = asyncio.Semaphore(at_once)
        for number, name in enumerate(calls):
            await room.acquire()
            call = group.start(fetch(number, max(5.0, at_once / 100)), name=f"fetch {name}", timeout=600)
            call.add_done_callback(lambda _: room.release())
