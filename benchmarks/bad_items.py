"""One bad item among 400: how many of the 399 others have their result, and how long it took.

    python -m benchmarks.bad_items

Every case runs in an interpreter of its own, two workers, a limit of a second for an item where the library has one, and
is killed after 20 s. The page `explanation/bad-items.md` shows a run. It is not one of the benchmarks of
``python -m benchmarks``: what hangs takes its 20 s.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

BAD, COUNT, WORKERS, LIMIT, PATIENCE = 23, 400, 2, 1.0, 20.0
KINDS = ("raises", "hangs", "loops in C", "crashes", "refuses", "os._exit")


def work(item: int, kind: str) -> int:
    """A millisecond, and one that misbehaves."""
    if item != BAD:
        time.sleep(0.001)
        return item
    match kind:
        case "raises":
            raise ValueError(item)
        case "hangs":
            time.sleep(3600)
        case "loops in C":
            sum(range(1 << 40))
        case "crashes":
            ctypes.string_at(0)
        case "refuses":
            while True:
                try:
                    time.sleep(3600)
                except BaseException:
                    pass
        case "os._exit":
            os._exit(3)
    return item


class Work:
    """The same as a function of one argument that every library can send."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, item: int) -> int:
        return work(item, self.kind)


def by_calloff(fn: Work, good: Callable[[], object]) -> None:
    import calloff

    async def main() -> None:
        results = calloff.map(fn, range(COUNT), jobs=WORKERS, place=calloff.process, timeout=LIMIT, grace=0.5)
        async with results:
            async for _, outcome in results:
                if isinstance(outcome, calloff.Completed):
                    good()

    calloff.run(main())


def by_pebble(fn: Work, good: Callable[[], object]) -> None:
    import pebble

    with pebble.ProcessPool(WORKERS) as pool:
        results = pool.map(fn, range(COUNT), timeout=LIMIT).result()
        while True:
            try:
                next(results)
            except StopIteration:
                return
            except Exception:  # that of one item
                continue
            good()


def by_executor(fn: Work, good: Callable[[], object]) -> None:
    from concurrent.futures import ProcessPoolExecutor, as_completed

    with ProcessPoolExecutor(WORKERS) as pool:
        for future in as_completed([pool.submit(fn, item) for item in range(COUNT)]):
            if future.exception() is None:
                good()


def by_loky(fn: Work, good: Callable[[], object]) -> None:
    from concurrent.futures import as_completed

    import loky

    pool = loky.get_reusable_executor(WORKERS)
    for future in as_completed([pool.submit(fn, item) for item in range(COUNT)]):
        if future.exception() is None:
            good()


def by_joblib(fn: Work, good: Callable[[], object]) -> None:
    import joblib

    joblib.Parallel(WORKERS)(
        joblib.delayed(abs)(item) for item in range(8)
    )  # its limit counts the start of workers, too
    calls = (joblib.delayed(fn)(item) for item in range(COUNT))
    for _ in joblib.Parallel(WORKERS, timeout=LIMIT, return_as="generator_unordered")(calls):
        good()


def by_mpire(fn: Work, good: Callable[[], object]) -> None:
    import mpire

    with mpire.WorkerPool(WORKERS) as pool:
        for _ in pool.imap_unordered(fn, range(COUNT), task_timeout=LIMIT):
            good()


def by_pool(fn: Work, good: Callable[[], object]) -> None:
    import multiprocessing

    with multiprocessing.Pool(WORKERS) as pool:
        results = [pool.apply_async(fn, [item], callback=lambda _: good()) for item in range(COUNT)]
        for result in results:
            result.wait()


CONTENDERS: dict[str, Callable[[Work, Callable[[], object]], None]] = {
    "calloff": by_calloff,
    "pebble": by_pebble,
    "ProcessPoolExecutor": by_executor,
    "loky": by_loky,
    "joblib": by_joblib,
    "mpire": by_mpire,
    "multiprocessing.Pool": by_pool,
}


def alone(contender: str, kind: str) -> None:
    """In an interpreter of its own: a dot for each good result, and a word for the end."""
    warnings.simplefilter("ignore")
    end = "done"
    try:
        CONTENDERS[contender](Work(kind), lambda: os.write(1, b"."))
    except BaseException as error:
        end = type(error).__name__
    os.write(1, f" {end}\n".encode())
    os._exit(0)


def case(contender: str, kind: str) -> tuple[int, float, str]:
    """Good results, seconds, and how it ended."""
    code = f"from benchmarks.bad_items import alone; alone({contender!r}, {kind!r})"
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:  # no pipe, which workers that stay behind would hold open
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code],
            stdout=output,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = ""
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            end = "hangs"
        took = time.monotonic() - began
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        output.seek(0)
        text = output.read()
    return text.count(b"."), took, end or text.decode().rpartition(" ")[2].strip() or f"status {process.returncode}"


def main() -> None:
    """Print the table, as Markdown."""
    print("| 399 good, of them told |", " | ".join(KINDS), "|")
    print("|---" * (len(KINDS) + 1) + "|")
    found: dict[str, Any] = {}
    for contender in CONTENDERS:
        cells = []
        for kind in KINDS:
            good, seconds, end = found[f"{contender}, {kind}"] = case(contender, kind)
            cells.append(f"{good}" if good == COUNT - 1 and end == "done" else f"{good}, {end}")
            cells[-1] += f" ({seconds:.1f} s)"
        print(f"| {contender} |", " | ".join(cells), "|", flush=True)
    print(json.dumps(found), file=sys.stderr)


if __name__ == "__main__":
    main()
