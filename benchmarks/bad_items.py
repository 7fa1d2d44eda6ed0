"""One bad item among 400: how many of the 399 others have their result, and how long it took; and maps that are left early.

    python -m benchmarks.bad_items

as two tables in Markdown, and as rows of ``python -m benchmarks --only bad_items``.

Every case runs in an interpreter of its own, two workers, a limit of a second for an item where the library has one, and
is killed after 40 s. Then item 23 hangs in each, and after a hundred results the program leaves the loop, or is sent
SIGINT or SIGKILL: how long until it has ended, and how many of its processes are there two seconds later. GNU parallel runs
commands that do the same as far as a shell can; so does calloff beside it.

The page `explanation/bad-items.md` shows a run.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import psutil

from ._rows import AtLeast, AtMost, Figure, Row

BAD, COUNT, WORKERS, LIMIT, PATIENCE = 23, 400, 2, 1.0, 40.0
KINDS = ("raises", "hangs", "loops in C", "crashes", "refuses", "os._exit")
#: ways to leave a map early, in which item 23 hangs; after so many results
WAYS = ("break", "SIGINT", "SIGKILL")
ENOUGH, LEFT = 100, 2.0
_MARK = "CALLOFF_BAD_ITEMS"


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


#: the same as a command: a dot says that it was a good one
SHELL = f"""
if [ "$1" != {BAD} ]; then sleep 0.001; printf .; exit; fi
case $2 in
raises) exit 1 ;;
hangs) exec sleep 3600 ;;
"loops in C") exec {sys.executable} -c 'sum(range(1 << 40))' ;;
crashes) kill -SEGV $$ ;;
refuses) trap '' INT TERM HUP; while :; do sleep 1; done ;;
os._exit) exit 3 ;;
esac
"""


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


def by_calloff_commands(fn: Work, good: Callable[[], object]) -> None:
    import calloff

    async def main() -> None:
        words = ["sh", "-c", SHELL, "sh", "{}", fn.kind]
        results = calloff.map(
            words, range(COUNT), jobs=WORKERS, place=calloff.command, timeout=LIMIT, grace=0.5
        )  # what they print is in their outcome
        async with results:
            async for _, outcome in results:
                if isinstance(outcome, calloff.Completed):
                    good()

    calloff.run(main())


def by_parallel(fn: Work, good: Callable[[], object]) -> None:  # the good ones print their dots themselves
    words = [
        "parallel",
        "--will-cite",
        f"-j{WORKERS}",
        "--timeout",
        f"{LIMIT:g}",
        "-q",
        "sh",
        "-c",
        SHELL,
        "sh",
        "{}",
        fn.kind,
    ]
    os.execvp(words[0], [*words, ":::", *map(str, range(COUNT))])


CONTENDERS: dict[str, Callable[[Work, Callable[[], object]], None]] = {
    "calloff": by_calloff,
    "pebble": by_pebble,
    "ProcessPoolExecutor": by_executor,
    "loky": by_loky,
    "joblib": by_joblib,
    "mpire": by_mpire,
    "multiprocessing.Pool": by_pool,
    "calloff, commands": by_calloff_commands,
}
if shutil.which("parallel"):
    CONTENDERS["GNU parallel"] = by_parallel


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


class Left(BaseException):
    """The program has seen enough."""


def leave(contender: str, way: str) -> None:
    """In an interpreter of its own: a dot for each good result, and out of the loop after a hundred of them."""
    warnings.simplefilter("ignore")
    good = 0

    def told() -> None:
        nonlocal good
        os.write(1, b".")
        good += 1
        if way == "break" and good == ENOUGH:
            raise Left

    with contextlib.suppress(Left, KeyboardInterrupt):
        CONTENDERS[contender](Work("hangs"), told)


def left(contender: str, way: str) -> tuple[float | None, int]:
    """Seconds until the program has ended, if it did, and how many of its processes are there a while after that."""
    code = f"from benchmarks.bad_items import leave; leave({contender!r}, {way!r})"
    mark = f"{os.getpid()}.{time.monotonic()}"
    command = [sys.executable, "-W", "ignore", "-c", code]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell; they would inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.DEVNULL, start_new_session=True, env={**os.environ, _MARK: mark}
        )
        until = time.monotonic() + PATIENCE
        while os.fstat(output.fileno()).st_size < ENOUGH and time.monotonic() < until:
            time.sleep(0.01)
        began = time.monotonic()
        if way != "break":
            process.send_signal(getattr(signal, way))
        took = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
            took = time.monotonic() - began
    time.sleep(LEFT if took is not None else 0)
    remain = [each for each in psutil.process_iter() if each.pid != process.pid and _is_of(each, mark)]
    process.kill()
    process.wait()
    for each in remain:
        with contextlib.suppress(psutil.Error):
            each.kill()
    return took, len(remain)


def _is_of(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def case(contender: str, kind: str, patience: float = PATIENCE) -> tuple[int, float, str]:
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
            process.wait(patience)
        except subprocess.TimeoutExpired:
            end = "hangs"
        took = time.monotonic() - began
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        output.seek(0)
        text = output.read()
    end = end or text.decode().rpartition(" ")[2].strip(" .\n")
    return text.count(b"."), took, end or ("done" if process.returncode in {0, 1} else f"status {process.returncode}")


def run(quick: bool) -> list[Row]:
    """The good results, and what is left of a program that was left or killed."""
    rows: list[Row] = []
    peers = [name for name in CONTENDERS if not name.startswith("calloff")]
    for kind in ("hangs", "crashes") if quick else KINDS:
        good = {name: Figure((case(name, kind, 8.0 if quick else PATIENCE)[0],)) for name in CONTENDERS}
        name = f"one of {COUNT} {kind}: good ones"
        rows += [
            Row(f"{name}, {ours}", "", good[ours], goal=AtLeast(COUNT - 1)) for ours in CONTENDERS if ours not in peers
        ]
        rows += [Row(f"{name}, calloff", "", good["calloff"], peer, good[peer], AtLeast(1)) for peer in peers]
    for way in ("SIGKILL",) if quick else WAYS:
        there = {name: Figure((left(name, way)[1],)) for name in CONTENDERS if (name, way) != ("GNU parallel", "break")}
        name = f"left by {way}: processes still there"
        rows += [Row(f"{name}, {ours}", "", there[ours], goal=AtMost(0)) for ours in there if ours not in peers]
        rows += [Row(f"{name}, calloff", "", there["calloff"], peer, there[peer]) for peer in peers if peer in there]
    return rows


def main() -> None:
    """Print the table, as Markdown."""
    print("| 399 good, of them told |", " | ".join(KINDS), "|")
    print("|---" * (len(KINDS) + 1) + "|")
    found: dict[str, Any] = {}
    for contender in CONTENDERS:
        cells = []
        for kind in KINDS:
            good, seconds, end = found[f"{contender}, {kind}"] = case(contender, kind)
            cells.append(f"{good}" if end == "done" else f"{good}, {end}")
            cells[-1] += f" ({seconds:.1f} s)"
        print(f"| {contender} |", " | ".join(cells), "|", flush=True)
    print("\n| left after 100 results | " + " | ".join(WAYS), "|")
    print("|---" * (len(WAYS) + 1) + "|")
    for contender in CONTENDERS:
        cells = []
        for way in WAYS:
            if (contender, way) == ("GNU parallel", "break"):  # nobody reads it
                cells.append("")
                continue
            took, remain = found[f"{contender}, {way}"] = left(contender, way)
            cells.append("hangs" if took is None else f"ends in {took:.1f} s")
            cells[-1] += f", {remain} processes left" if remain else ""
        print(f"| {contender} |", " | ".join(cells), "|", flush=True)
    print(json.dumps(found), file=sys.stderr)


if __name__ == "__main__":
    main()
