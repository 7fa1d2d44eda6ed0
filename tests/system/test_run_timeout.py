"""``calloff.run(main, timeout=...)`` returns within the bound, whatever `main` does, and the process exits."""

from pathlib import Path

import pytest
from system.run_script import LATE, Program

#: the body, the rung that ends it, the least number of refusals, what it prints
BODIES: dict[str, tuple[str, str, int, list[str]]] = {
    "obeys": ("await asyncio.sleep(60)  # here", "ASKED", 0, []),
    "cleans up": (
        """
        try:
            await asyncio.sleep(60)  # here
        finally:
            await asyncio.sleep(0.2)
            say("cleaned up")
        """,
        "ASKED",
        0,
        ["cleaned up"],
    ),
    "swallows three times": (
        """
        for _ in range(3):
            try:
                await asyncio.sleep(60)  # here
            except asyncio.CancelledError:
                pass
        await asyncio.sleep(60)
        """,
        "INSISTED",
        3,
        [],
    ),
    "swallows for ever": (
        """
        try:
            while True:
                try:
                    await asyncio.sleep(60)  # here
                except asyncio.CancelledError:
                    pass
        finally:
            say("finally")
        """,
        "FORCED",
        2,
        ["finally"],
    ),
    "catches everything for ever": (
        """
        while True:
            try:
                await asyncio.sleep(60)  # here
            except BaseException:
                pass
        """,
        "ABANDONED",
        3,
        [],
    ),
    "cleans up for ever": (
        """
        try:
            await asyncio.sleep(60)  # here
        finally:
            await asyncio.sleep(60)
        """,
        "FORCED",
        0,
        [],
    ),
    "sleeps": ("time.sleep(60)  # here", "INTERRUPTED", 0, []),
    "receives": ("pair = socket.socketpair(); pair[0].recv(1)  # here", "INTERRUPTED", 0, []),
    "locks": ("lock = threading.Lock(); lock.acquire(); lock.acquire()  # here", "INTERRUPTED", 0, []),
    "runs a program": ('subprocess.run(["sleep", "60"])  # here', "INTERRUPTED", 0, []),
    "computes": ("while True: pass  # here", "INTERRUPTED", 0, []),
    "blocks and swallows": (
        """
        while True:
            try:
                time.sleep(60)  # here
            except asyncio.CancelledError:
                pass
        """,
        "FORCED",
        2,
        [],
    ),
}


@pytest.mark.parametrize(
    ("what", "deep"),
    [(what, False) for what in BODIES]
    + [(what, True) for what in ("swallows for ever", "sleeps", "blocks and swallows")],
)
def test_within_the_bound(tmp_path: Path, loop_kind: str, what: str, deep: bool) -> None:
    body, rung, refusals, printed = BODIES[what]
    lines = [line[8:] if body.startswith("\n") else line for line in body.strip("\n").split("\n")]
    source = "async def body():\n    say('begun')\n" + "".join(f"    {line}\n" for line in lines)
    source += """
async def main():
    return await calloff.call(body())

seen = []
if DEEP:
    async def main():
        seen.append(calloff.start(body()))
        await seen[0]
else:
    main = body

try:
    run(main, timeout=1.0, grace=GRACE)
except calloff.TimedOut as error:
    say(error.reason.kind)
    report = seen[0].report if seen else error.report
    import linecache  # a line that a busy machine has not read in time is read now
    where = [linecache.getline(frame.file, frame.line).strip() for frame in report.where if frame.file == __file__]
    say(report.rung, report.refusals, where[-1])
atexit.register(say, "atexit ran")
"""
    # whoever obeys in the end is not forced before that, on a busy machine either
    grace = "0.4" if rung in ("FORCED", "ABANDONED") else "20"
    source = source.replace("DEEP", str(deep)).replace("GRACE", grace)
    with Program(tmp_path, loop_kind, source) as program:
        since = program.wait_for("begun")
        took = program.end() - since
        assert program.status == 0, program.errors
        assert program.out[1 : 1 + len(printed)] == printed
        kind, evidence, last = program.out[1 + len(printed) :]
        assert (kind, last) == ("deadline", "atexit ran")
        told_rung, told_refusals, where = evidence.split(maxsplit=2)
        assert told_rung == rung
        assert int(told_refusals) >= refusals
        assert refusals or told_refusals == "0"
        assert "# here" in where or "await asyncio.sleep(60)" in where
        assert took < 1.0 + 0.4 + 2 + LATE
