"""The client's side of a cancel: whatever happens to the process meanwhile, each operation gets one answer, a true one."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence

from ._errors import NotFound
from ._links import PATIENCE, Lost, Server, deaf, expect
from ._records import LIVE, Accepted, Cancel, Details, Row, Show, Stopped

__all__ = ["call_off"]


async def call_off(
    server: Server, request: Cancel, rows: Sequence[Row], tell: Callable[[Stopped | Exception | None], None]
) -> None:
    """Cancel in one process.

    Args:
        rows: the operations whose ids are in the request, as they were looked up.
        tell: gets every answer, and ``None`` at the end.
    """
    loop = asyncio.get_running_loop()
    open_ = {row.id: row for row in rows}
    met: dict[str, Row] = {}
    missed: list[Row] = []
    accepted = False
    handle: int | None = None
    try:
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(server.process.pid)
        async with asyncio.timeout(PATIENCE) as silence, contextlib.aclosing(server.exchange(request)) as answers:
            async for answer in answers:
                silence.reschedule(loop.time() + request.wait + PATIENCE)
                if not accepted:
                    part = expect(answer, Accepted)
                    met.update((row.id, row) for row in part.rows)
                    if part.more:
                        continue
                    accepted = True
                    missed = [row for row in open_.values() if row.id not in met]
                    open_ = {} if request.dry_run else met
                    for row in met.values() if request.dry_run else ():
                        tell(Stopped(row=row))
                    continue
                stopped: Stopped = expect(answer, Stopped)
                if stopped.row is not None:
                    open_.pop(stopped.row.id, None)
                tell(stopped)
        for row in missed:
            if (ended := await _ended_before(server, row)) is not None:
                tell(ended)
    except Lost:
        outcome = "gone" if await _is_gone(handle) else None
        for row in open_.values():
            tell(Stopped(row=row, outcome=outcome))
    except TimeoutError:
        if not accepted:
            tell(deaf(server.process))
        else:
            for row in open_.values():
                tell(Stopped(row=row, seconds=request.wait))
    except Exception as error:
        tell(error)
    finally:
        if handle is not None:
            os.close(handle)
        tell(None)


async def _ended_before(server: Server, row: Row) -> Stopped | None:
    """What became of one that had ended when the cancel arrived; nothing of one that runs: conditions did not hold."""
    try:
        answer: Details = expect(await server.ask(Show(id=row.id)), Details)
    except NotFound:  # and is forgotten already
        return Stopped(row=row, outcome="gone")
    assert answer.detail is not None
    seen = answer.detail.row
    return None if seen.state in LIVE else Stopped(row=seen, outcome=seen.outcome)


async def _is_gone(handle: int | None) -> bool:
    """Whether a process has ended, or does so within a second."""
    if handle is None:
        return True
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(handle, gone.set)
    try:
        return await asyncio.wait_for(gone.wait(), 1.0)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(handle)
