"""Two versions of calloff side by side: the one that asks and the program that is asked need not be the same.

What stands here as text was recorded of programs of the first version: it does not change with the code. An older client
only reads what it knows, an older program only sends what it knows, and neither may be told less than the truth for it.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from control.raw import Raw

import calloff
from calloff.control import Client, ControlError, Query, expose
from calloff.control._filter import read_filter

HELLO = '{"answer":"hello","last":false,"pid":1,"argv":["calloff","run","old.py:main"],"started_at":1795730438.0}'
#: its client's requests, which do not tell their version
LIST = '{"verb":"list","query":{"ids":["1"],"ended":true,"limit":20,"where":false}}'
CANCEL = '{"verb":"cancel","query":{"name":"works*"},"reason":"enough","wait":10.0}'
ROW = {
    "id": "1.7", "pid": 1, "name": "fetch", "place": "process", "state": "running", "started_at": 1.0, "age": 2.0,
    "where": {"file": "a.py", "line": 3, "function": "fetch", "source": "read()"},
}  # fmt: skip
#: what the first version needs of a row, and of an answer
NEEDED = {"id", "pid", "name", "place", "state", "started_at", "age"}


class Old:
    """A program of the first version, which ignores every field that came later."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(HELLO.encode() + b"\n")
            while line := await reader.readline():
                for answer in self.answers(json.loads(line)):
                    writer.write(json.dumps(answer).encode() + b"\n")
        finally:
            writer.close()

    def answers(self, request: Any) -> list[Any]:
        self.asked.append(request)
        verb, query = request["verb"], request.get("query", {})
        known = {"ids", "name", "states", "places", "older_than", "tasks", "ended", "sort", "limit", "offset", "where"}
        query = {key: value for key, value in query.items() if key in known}
        meets = not query.get("places") or ROW["place"] in query["places"]
        rows = [ROW] if meets else []
        if verb == "list":
            return [{"answer": "listing", "rows": rows, "total": len(rows), "counts": {"running": len(rows)}}]
        if verb == "show":
            return [{"answer": "details", "detail": {"row": ROW, "argv": ["old.py"]}}]
        ended = {**ROW, "state": "cancelled", "outcome": "cancelled", "rung": "KILLED"}
        return [
            {"answer": "accepted", "last": not rows, "rows": rows},
            *({"answer": "stopped", "row": ended, "seconds": 0.1, "outcome": "cancelled"} for _ in rows),
        ]


@asynccontextmanager
async def beside_an_old_program(sockets: Path) -> AsyncIterator[tuple[Client, Old]]:
    sockets.mkdir(mode=0o700)
    old = Old()
    async with await asyncio.start_unix_server(old.serve, sockets / "1.sock"), Client() as client:
        yield client, old


def test_a_new_client_reads_an_old_program(sockets: Path) -> None:
    async def main() -> None:
        async with beside_an_old_program(sockets) as (client, old):
            overview = await client.list()
            assert [(row.id, row.name, row.count, row.silent) for row in overview.rows] == [("1.7", "fetch", 1, None)]
            assert overview.over == {1: 0}
            assert old.asked[-1]["version"] == 2
            detail = await client.show("1.7")
            assert (detail.usage, detail.stack, detail.argv) == (None, (), ("old.py",))
            (stopped,) = [each async for each in client.cancel(Query(ids=("1.7",)))]
            assert (stopped.outcome, stopped.row and stopped.row.rung) == ("cancelled", "KILLED")

    asyncio.run(main())


def test_what_an_old_program_does_not_know_never_makes_it_call_off_more(sockets: Path) -> None:
    """It ignores fields, so a condition that came later has to stand in a field that it knows."""

    async def main() -> None:
        async with beside_an_old_program(sockets) as (client, old):
            query = read_filter("node:oak fetch")
            assert [each async for each in client.cancel(query)] == []
            assert old.asked[-1]["verb"] == "cancel"

    asyncio.run(main())


async def works() -> None:
    await asyncio.sleep(3600)


def test_an_old_client_reads_a_new_program(sockets: Path) -> None:
    """Its requests as it writes them, and in the answers at least what it needs."""

    def old_client() -> None:
        with Raw(sockets) as raw:
            assert {"answer", "pid", "argv", "started_at"} <= raw.hear().keys()
            listing = raw.ask(verb="list", version=1, query={"sort": "tree", "limit": 10})
            assert listing["answer"] == "listing"
            assert [row["name"] for row in listing["rows"]] == ["main", "works"]
            assert all(row.keys() >= NEEDED for row in listing["rows"])
            id = listing["rows"][1]["id"]
            detail = raw.ask(verb="show", version=1, id=id)
            assert detail["answer"] == "details"
            assert detail["detail"]["row"]["id"] == id
            accepted = raw.ask(verb="cancel", version=1, query={"ids": [id]}, reason="old", wait=10.0)
            assert (accepted["answer"], accepted["last"]) == ("accepted", False)
            stopped = raw.hear()
            assert (stopped["answer"], stopped["outcome"], stopped["row"]["rung"]) == ("stopped", "cancelled", "ASKED")

    async def main() -> None:
        op = calloff.start(works(), name="works")
        await asyncio.to_thread(old_client)
        assert (await op.outcome()).report.reason.text == "old"

    with expose():
        calloff.run(main())


@pytest.mark.parametrize("number", [3, 250])
def test_an_old_client_is_told_of_all_that_it_calls_off_at_once(sockets: Path, number: int) -> None:
    """It takes what follows the first line for endings; a newer one gets as many at a time as take no while."""

    def heard(raw: Raw, request: str) -> list[int]:
        assert raw.hear()["answer"] == "hello"
        raw.send(request.encode() + b"\n")
        parts = [raw.hear()]
        while parts[-1].get("more"):
            parts.append(raw.hear())
        ended = [raw.hear() for _ in range(number)]
        assert {(each["answer"], each["outcome"]) for each in ended} == {("stopped", "cancelled")}
        return [len(part["rows"]) for part in parts if part["answer"] == "accepted"]

    async def main() -> None:
        for request, parts in ((CANCEL, [number]), (CANCEL.replace("{", '{"version":2,', 1), [200, 50])):
            for _ in range(number):
                calloff.start(works())
            with Raw(sockets) as raw:
                told = await asyncio.to_thread(heard, raw, request)
                assert told == (parts if number > 200 else [number])

    with expose():
        calloff.run(main())


def test_the_requests_of_an_old_client_are_understood_as_it_wrote_them(sockets: Path) -> None:
    with expose(), Raw(sockets) as raw:
        assert raw.hear()["version"] == 2
        raw.send(f"{LIST}\n{CANCEL}\n".encode())
        assert raw.hear() == {"answer": "listing"}
        assert raw.hear() == {"answer": "accepted"}


def test_what_a_later_version_adds_is_ignored_or_told(sockets: Path) -> None:
    async def main() -> None:
        def later_client() -> None:
            with Raw(sockets) as raw:
                raw.hear()
                listing = raw.ask(verb="list", version=9, query={"colour": "green"}, speed=3)
                assert listing["answer"] == "listing"
                told = raw.ask(verb="sing", version=9)["text"]
                assert "version 2 of the protocol" in told

        calloff.start(works())
        await asyncio.to_thread(later_client)

    with expose():
        calloff.run(main(), grace=1)


def test_an_answer_of_a_later_version_is_told_with_what_to_do(sockets: Path) -> None:
    async def main() -> None:
        async with beside_an_old_program(sockets) as (client, old):
            old.answers = lambda request: [{"answer": "songs"}]  # type: ignore[method-assign]  # a version of tomorrow
            overview = await client.list()
            assert "may run another version of calloff" in overview.failed[1]
            with pytest.raises(ControlError):
                await client.show("1.7")

    asyncio.run(main())
