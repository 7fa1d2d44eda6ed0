"""What is run at the places: bodies that show that they live by beats, and end in all sorts of ways."""

import asyncio
import os
import time
from asyncio import CancelledError
from pathlib import Path

import calloff


def beat(mark: Path) -> None:
    number = os.open(mark, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(number, b".")
    finally:
        os.close(number)


def is_free(release: Path) -> bool:
    return release.exists()


def tell(done: Path) -> None:
    done.touch()


# --- blocking functions


def give(value: str) -> str:
    return value


def fail(text: str) -> None:
    raise RuntimeError(text)


def wait(mark: Path) -> None:
    while True:
        beat(mark)
        calloff.checkpoint(wait=0.01)


def refuse(mark: Path) -> None:
    while True:
        try:
            wait(mark)
        except CancelledError:
            pass


def refuse_force(mark: Path, release: Path) -> None:
    while True:
        try:
            while not is_free(release):
                beat(mark)
                time.sleep(0.01)
            return
        except BaseException:
            pass


def decline(mark: Path, value: str) -> str:
    try:
        wait(mark)
    except CancelledError:
        pass
    return value


def clean_up(mark: Path, done: Path) -> None:
    try:
        wait(mark)
    finally:
        time.sleep(0.2)
        tell(done)


def report(mark: Path) -> None:
    number = 0
    while True:
        beat(mark)
        number += 1
        calloff.progress(number)
        calloff.checkpoint(wait=0.01)


def look() -> tuple[str, float]:
    operation = calloff.current()
    assert operation is not None
    calloff.checkpoint()
    return operation.name, calloff.remaining()


# --- coroutines


async def give_async(value: str) -> str:
    await asyncio.sleep(0)
    return value


async def fail_async(text: str) -> None:
    await asyncio.sleep(0)
    raise RuntimeError(text)


async def wait_async(mark: Path) -> None:
    while True:
        beat(mark)
        await asyncio.sleep(0.01)


async def refuse_async(mark: Path) -> None:
    while True:
        try:
            await wait_async(mark)
        except CancelledError:
            pass


async def refuse_force_async(mark: Path, release: Path) -> None:
    while not is_free(release):
        try:
            while not is_free(release):
                beat(mark)
                await asyncio.sleep(0.01)
        except BaseException:
            pass


async def decline_async(mark: Path, value: str) -> str:
    try:
        await wait_async(mark)
    except CancelledError:
        pass
    return value


async def clean_up_async(mark: Path, done: Path) -> None:
    try:
        await wait_async(mark)
    finally:
        await asyncio.sleep(0.2)
        tell(done)


async def report_async(mark: Path) -> None:
    number = 0
    while True:
        beat(mark)
        number += 1
        calloff.progress(number)
        await calloff.checkpoint()
        await asyncio.sleep(0.01)


async def look_async() -> tuple[str, float]:
    return look()
