"""The client: all processes of the user side by side, each over a connection of its own that is kept and used again.

Processes may come and go at any time; one that can't answer (all of its threads are held up, or it is stopped) is named
and not waited for. Ids are looked up first, over all processes, and what is done then is done to exact ids, so that a
prefix never hits an operation that was not there when it was looked up.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from math import inf
from typing import Any

import msgspec
from msgspec import Struct

from ._errors import Ambiguous, ControlError, NotFound
from ._ids import best
from ._links import PATIENCE, Lost, Process, Server, began_at, deaf, expect, process_of, reachable
from ._records import STATES, Cancel, Detail, Details, List, Listing, Query, Row, Show, Stopped, Watch
from ._stops import call_off

__all__ = ["Client", "Overview", "Process"]

_MOST = 20


class Overview(Struct, frozen=True):
    """What `Client.list` returns.

    Attributes:
        rows: the operations.
        total: how many match, those beyond the limit included.
        counts: how many of them are in each state.
        silent: the processes that did not answer in time.
        processes: all processes, the silent ones included.
        over: for each process that answered how many of its operations have ended so far, by its number.
        failed: for processes that answered with something else than rows, by their number: what.
    """

    rows: tuple[Row, ...] = ()
    total: int = 0
    counts: dict[str, int] = {}
    silent: tuple[Process, ...] = ()
    processes: tuple[Process, ...] = ()
    failed: dict[int, str] = {}
    over: dict[int, int] = {}


class Client:
    """Asks all processes of this user what they do, and calls it off.

    Args:
        directory: where their sockets are; by default in all the usual places.

    To be entered: leaving the block closes its connections. It may be used by several tasks at once.

        async with calloff.control.Client() as client:
            overview = await client.list()
            for row in overview.rows:
                print(row.id, row.name, row.where)
    """

    def __init__(self, directory: str | None = None) -> None:
        self._directory = directory
        self._servers: dict[str, Server] = {}

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        late = [server.late for server in self._servers.values() if server.late is not None]
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        if late:  # questions whose answer nobody waits for any more: they were called off, and end before we do
            await asyncio.wait(late)

    def _known(self) -> list[Server]:
        """A server for each process that is there now."""
        found = {path: pid for pid, path in reachable(self._directory)}
        for path in [path for path in self._servers if path not in found]:
            self._servers.pop(path).close()
        for path, pid in found.items():
            known = self._servers.get(path)
            if (
                known is None or known.ended or known.process.started_at != began_at(pid, path)
            ):  # the number is another process's now
                if known is not None:
                    known.close()
                self._servers[path] = Server(process_of(pid, path))
        return [self._servers[path] for path in found]

    async def list(self, query: Query | None = None) -> Overview:
        """The operations that a query means, of all processes.

        Args:
            query: which ones, in which order, how many; by default all that run, as a tree, process by process.

        Returns:
            Their rows and counts. A process that does not answer within 2 s is named in `silent`; once it is known to
            be silent it is not waited for again, and it is back in the list as soon as it answers.

        Raises:
            Unreachable: the directory of the sockets can't be trusted.
        """
        query = Query() if query is None else query
        servers = self._known()
        failed: dict[int, str] = {}
        answers, silent = await _ask_all(dict.fromkeys(servers, _first(query, len(servers))), failed)
        total = sum(answer.total for answer in answers.values())
        counts: dict[str, int] = {}
        for answer in answers.values():
            for state, number in answer.counts.items():
                counts[state] = counts.get(state, 0) + number
        over = {server.process.pid: answer.over for server, answer in answers.items()}
        if len(servers) > 1 and query.limit is not None and query.sort == "tree":
            answers, _ = await _ask_all(_pages(answers, query), failed)
        rows = [row for answer in answers.values() for row in answer.rows]
        if len(servers) > 1 and (query.sort != "tree" or query.limit is None):
            if query.sort != "tree":
                rows.sort(key=_KEYS[query.sort], reverse=query.reverse)
            rows = rows[query.offset : None if query.limit is None else query.offset + query.limit]
        every = tuple(server.process for server in servers if not server.ended)
        return Overview(tuple(rows), total, counts, silent, every, failed, over)

    async def show(self, id: str) -> Detail:
        """Everything about one operation, its stack included.

        Args:
            id: ``4312.7``, or as much of it as is unique; ``7`` where no other process has a number 7.

        Raises:
            NotFound: there is none.
            Ambiguous: there are several.
            Unreachable: its process does not answer.
        """
        row, server = await self._resolve(id)
        try:
            async with asyncio.timeout(PATIENCE):
                answer: Details = expect(await server.ask(Show(id=row.id)), Details)
        except TimeoutError:
            raise deaf(server.process) from None
        except Lost:
            raise NotFound(f"process {row.pid} has ended, and {row.id} with it") from None
        assert answer.detail is not None
        return answer.detail

    async def watch(self, id: str, every: float = 1.0) -> AsyncGenerator[Row, None]:
        """Look at one operation at once and every `every` seconds; the last row has its outcome.

        Args:
            id: as for `show`.
            every: seconds between two looks, at least 0.05.

        Raises:
            NotFound: there is none, or its process ended without a word.
            Ambiguous: there are several.
            Unreachable: its process does not answer.
        """
        row, server = await self._resolve(id)
        try:
            async with contextlib.aclosing(server.exchange(Watch(id=row.id, every=every))) as answers:
                async for answer in answers:
                    for seen in expect(answer, Listing).rows:
                        yield seen
        except Lost:
            raise NotFound(f"process {row.pid} has ended, and {row.id} with it") from None

    async def cancel(
        self,
        query: Query,
        *,
        reason: str = "",
        grace: float | None = None,
        wait: float = 10.0,
        dry_run: bool = False,
    ) -> AsyncGenerator[Stopped, None]:
        """Call operations off and wait for their real endings; one answer for each, as they come.

        Args:
            query: which ones; `ids` as for `show`, or ``4312`` for all of a process.
            reason: why, in words; arrives in their reports.
            grace: seconds from asking to force, by default what they were started with; 0 forces at once.
            wait: seconds to wait at most.
            dry_run: only tell which ones it would be.

        Returns:
            An iterator of `Stopped`. `outcome` is that of the operation, ``"abandoned"`` included: then it could not be
            stopped and still runs; ``"gone"`` when its process ended before it could answer; ``None`` when `wait` is
            over: then ``row.where`` is where it is stuck. It is empty when nothing matches.

        Raises:
            NotFound: one of the ids does not exist. Nothing was cancelled.
            Ambiguous: one of the ids fits several. Nothing was cancelled.
            Unreachable: a process did not answer, which is told when all others have; or the directory of the sockets
                can't be trusted.

        A cancel of the caller ends the waiting; what was asked for goes on.
        """
        targets: dict[Server, list[Row]] = {}
        if query.ids:
            for text in query.ids:
                rows, server = await self._meant(text, query)
                for row in rows:
                    if row.outcome is not None and row.state != "abandoned":
                        yield Stopped(row=row, outcome=row.outcome)
                    else:
                        targets.setdefault(server, []).append(row)
        else:
            targets = {server: [] for server in self._known()}
        arrived: asyncio.Queue[Stopped | Exception | None] = asyncio.Queue()
        tasks: list[asyncio.Task[None]] = []
        for server, rows in targets.items():
            mine = msgspec.structs.replace(query, ids=tuple(row.id for row in rows))
            request = Cancel(query=mine, reason=reason, grace=grace, wait=wait, dry_run=dry_run)
            tasks.append(asyncio.create_task(call_off(server, request, rows, arrived.put_nowait)))
        open_, errors = len(tasks), list[Exception]()
        try:
            while open_:
                item = await arrived.get()
                if item is None:
                    open_ -= 1
                elif isinstance(item, Exception):
                    errors.append(item)
                else:
                    yield item
        finally:
            for task in tasks:
                task.cancel()
        if errors:
            raise errors[0]

    async def _meant(self, text: str, query: Query) -> tuple[Sequence[Row], Server]:
        """What is meant by an id in a cancel, which may be the number of a whole process: then all at the top of its tree.

        With conditions beside it those that meet them are meant, wherever they stand in the tree.
        """
        try:
            row, server = await self._resolve(text, tasks=query.tasks)
        except Ambiguous as several:
            if any(str(row.pid) != text for row in several.candidates):
                raise
        else:
            return [row], server
        whole = msgspec.structs.replace(query, ids=(f"{text}.",), where=False)
        overview = await self.list(whole)
        self._explain_silence(text, overview)
        rows = overview.rows
        if whole == Query(ids=whole.ids, tasks=query.tasks, where=False):
            present = {row.id for row in rows}
            rows = tuple(row for row in rows if row.parent not in present)
        for server in self._servers.values():
            if str(server.process.pid) == text and rows:
                return rows, server
        raise NotFound(f"no operation of process {text} runs that is meant")

    async def _resolve(self, text: str, *, tasks: bool = False) -> tuple[Row, Server]:
        """The one operation that is meant, and its process; one that runs before one that has ended."""
        query = Query(ids=(text,), tasks=tasks, ended=True, where=False, limit=_MOST)
        overview = await self.list(query)
        rows = best([(row.id, row) for row in overview.rows], text)
        if len(rows) > 1:
            rows = [row for row in rows if row.outcome is None or row.state == "abandoned"] or rows
        if not rows:
            self._explain_silence(text, overview)
            raise NotFound(f"there is no operation {text!r}")
        if len(rows) > 1:
            listed = ", ".join(f"{row.id} ({row.name})" for row in rows[:5])
            more = ", ..." if len(rows) > 5 else ""
            raise Ambiguous(f"{text!r} fits several operations: {listed}{more}", tuple(rows))
        for server in self._servers.values():
            if server.process.pid == rows[0].pid:
                return rows[0], server
        raise NotFound(f"process {rows[0].pid} has ended, and {rows[0].id} with it")

    def _explain_silence(self, text: str, overview: Overview) -> None:
        pid = text.partition(".")[0]
        for process in overview.silent:
            if str(process.pid) == pid:
                raise deaf(process)


def _first(query: Query, servers: int) -> Query:
    """What every process is asked first.

    Of one process, the page itself. A tree goes on from process to process, so that with the counts of all it is known
    which of them have rows on the page: only the counts. Any other order is made of the first rows of each.
    """
    if servers == 1 or (query.limit is None and query.sort == "tree" and not query.offset):
        return query
    if query.sort == "tree" and query.limit is not None:
        return msgspec.structs.replace(query, offset=0, limit=0)
    limit = None if query.limit is None else query.offset + query.limit
    return msgspec.structs.replace(query, offset=0, limit=limit)


def _pages(counted: "dict[Server, Listing]", query: Query) -> "dict[Server, Query]":
    """The part of a page of a tree that is in each process."""
    assert query.limit is not None
    begin, end, before = query.offset, query.offset + query.limit, 0
    pages: dict[Server, Query] = {}
    for server, listing in counted.items():
        first, last = max(begin - before, 0), min(end - before, listing.total)
        if first < last:
            pages[server] = msgspec.structs.replace(query, offset=first, limit=last - first)
        before += listing.total
    return pages


async def _ask_all(
    queries: dict[Server, Query], failed: dict[int, str]
) -> tuple[dict[Server, Listing], tuple[Process, ...]]:
    """The answers of all that answer in time, and those that do not; in `failed` what others answered instead."""
    asked: dict[asyncio.Task[Any], Server] = {}
    silent: list[Process] = []
    for server, query in queries.items():
        if server.late is not None and server.late.done():
            server.late.exception()
            server.late = None
        if server.late is not None:
            silent.append(server.process)
        else:
            asked[asyncio.create_task(server.ask(List(query=query)))] = server
    try:
        if asked:
            await asyncio.wait(asked, timeout=PATIENCE)
    except BaseException:
        for task in asked:
            task.cancel()
        raise
    answers: dict[Server, Listing] = {}
    for task, server in asked.items():
        if not task.done():
            server.late = task
            silent.append(server.process)
            continue
        error = task.exception()
        if isinstance(error, Lost):  # it has ended
            server.ended = True
            server.close()
        elif error is not None and not isinstance(error, (ControlError, OSError)):
            raise error
        else:
            try:
                answers[server] = expect(task.result(), Listing)
            except (ControlError, OSError) as problem:  # one that fails must not hide the others
                failed[server.process.pid] = str(problem)
    return answers, tuple(silent)


def _remaining(row: Row) -> float:
    return inf if row.remaining is None else row.remaining


_KEYS: dict[str, Callable[[Row], Any]] = {
    "age": lambda row: -row.age,
    "name": lambda row: row.name,
    "state": lambda row: STATES.index(row.state),
    "place": lambda row: row.place,
    "remaining": _remaining,
    "silent": lambda row: -(row.silent or 0.0),
    "ended": lambda row: -inf if row.ended_at is None else -row.ended_at,
}
