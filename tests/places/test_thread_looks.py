"""Looking at all threads holds nothing up, and keeps nothing."""

import gc
import subprocess
import sys
import weakref

from calloff._os.threads import looks

#: each object that is made begins a collection, in which other threads get a turn: they begin and end all the time
HANGS = """
import asyncio, gc, sys, threading, time, calloff

def ends():
    while not over:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

def deep(levels, inside, release):
    if levels:
        return deep(levels - 1, inside, release)
    inside.set()
    release.wait()

async def main():
    inside, release = threading.Event(), threading.Event()
    operation = calloff.start(calloff.thread(deep, 20, inside, release))
    while not inside.is_set():
        await asyncio.sleep(0.001)
    gc.callbacks.append(lambda *_: time.sleep(0.0001))
    gc.set_threshold(1)
    for _ in range(60):
        assert operation.where()
    gc.set_threshold(700)
    gc.callbacks.pop()
    release.set()
    await operation

sys.setswitchinterval(1e-5)  # else each of them keeps the others waiting for 5 ms, thousands of times
over = []
threads = [threading.Thread(target=ends) for _ in range(4)]
for thread in threads:
    thread.start()
asyncio.run(main())
over.append(1)
print("fine")
"""


def test_a_collection_in_a_look_at_threads_that_begin_and_end_does_not_stop_the_program() -> None:
    """Up to Python 3.11.8 all threads waited for ever (cpython#106883)."""
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "fine\n", done.stderr


def test_garbage_is_collected_as_before() -> None:
    for enable in (gc.enable, gc.disable):
        enable()
        before = gc.isenabled()
        try:
            look = looks(sys._current_frames)
            assert next(look)
            assert next(look).keys() == sys._current_frames().keys()
            assert gc.isenabled() is before
        finally:
            gc.enable()


def test_a_look_keeps_no_frame() -> None:
    class Kept:
        pass

    def looked() -> "tuple[weakref.ref[Kept], object]":
        kept, look = Kept(), looks(sys._current_frames)
        assert any(frame.f_code is looked.__code__ for frame in next(look).values())
        return weakref.ref(kept), look

    thresholds = gc.get_threshold()
    gc.set_threshold(0)  # nothing is collected, and that is not switched off
    try:
        assert looked()[0]() is None
    finally:
        gc.set_threshold(*thresholds)
