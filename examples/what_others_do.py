"""The same stubborn work under asyncio, anyio, trio and calloff: who gets control back, when, and what is said.

The work swallows every cancel, as code with a bare ``except`` in a retry loop does. Each contender gives it a limit of
0.2 s, runs in a process of its own, and is given four seconds to come back.

    python examples/what_others_do.py
"""

import importlib.util
import resource
import subprocess
import sys
import time

PATIENCE = 4.0

STUBBORN = """
async def work(sleep, cancelled):
    while True:
        try:
            await sleep(3600)
        except cancelled:
            pass
"""

PROGRAMS = {
    "asyncio.timeout": """
import asyncio
async def main():
    async with asyncio.timeout(0.2):
        await work(asyncio.sleep, asyncio.CancelledError)
asyncio.run(main())
""",
    "asyncio.wait_for": """
import asyncio
asyncio.run(asyncio.wait_for(work(asyncio.sleep, asyncio.CancelledError), 0.2))
""",
    "anyio.move_on_after": """
import anyio
async def main():
    with anyio.move_on_after(0.2):
        await work(anyio.sleep, anyio.get_cancelled_exc_class())
anyio.run(main)
""",
    "trio.move_on_after": """
import trio
async def main():
    with trio.move_on_after(0.2):
        await work(trio.sleep, trio.Cancelled)
trio.run(main)
""",
    "calloff.call": """
import asyncio, calloff
calloff.run(calloff.call(work(asyncio.sleep, asyncio.CancelledError), timeout=0.2, grace=1))
""",
}


def try_out(program: str) -> tuple[float | None, float, str]:
    """Seconds until the program came back (None: it had to be killed), CPU seconds, and its last word."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", STUBBORN + program], stderr=subprocess.PIPE, text=True)
    seconds: float | None = None
    try:
        said = process.communicate(timeout=PATIENCE)[1]
        seconds = time.monotonic() - started
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()[1]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, (said.strip().splitlines() or [""])[-1]


def main() -> None:
    print(f"{'':20} {'control came back':20} {'CPU':>6}  what it said")
    for name, program in PROGRAMS.items():
        library = name.partition(".")[0]
        if importlib.util.find_spec(library) is None:
            print(f"{name:20} not installed")
            continue
        seconds, cpu, said = try_out(program)
        back = f"not in {PATIENCE:g} s" if seconds is None else f"after {seconds:.1f} s"
        print(f"{name:20} {back:20} {cpu:5.1f}s  {said or '-'}")


if __name__ == "__main__":
    main()
