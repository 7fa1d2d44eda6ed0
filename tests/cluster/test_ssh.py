"""Over SSH to this very machine: the suite of places, what is brought along, who is let in, and losses."""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import bodies
from cluster.nodes import Tree, agent, run, until
from cluster.places import OnCluster
from cluster.sshd import SSHD, serving

import calloff
import calloff.cluster
from calloff.cluster import NodeLost

asyncssh = pytest.importorskip("asyncssh", reason="asyncssh is not installed")
pytestmark = pytest.mark.skipif(SSHD is None, reason="there is no sshd on this machine")

#: a Python without calloff; it finds the modules of the tests
TESTS = str(Path(__file__).parent.parent)
PYTHON = f"env PYTHONPATH={shlex.quote(TESTS)} {shlex.quote(os.path.realpath(sys.executable))} -s"

Server = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sshd")
    with serving(folder) as (host, options):
        yield host, {**options, "python": f"env XDG_CACHE_HOME={folder}/cache {PYTHON}"}


class TestSsh(OnCluster):
    host: str
    options: dict[str, Any]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def server(cls, server: Server) -> None:
        cls.host, cls.options = server

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def runner(cls, server: None) -> Iterator[asyncio.Runner]:
        yield from cls.runs()

    @classmethod
    def made(cls) -> calloff.cluster.Cluster:
        return calloff.cluster.ssh([calloff.cluster.Node(cls.host, 8)], **cls.options)


def test_calloff_and_modules_are_brought_along(server: Server, tmp_path: Path) -> None:
    (tmp_path / "packed_module.py").write_text("import calloff\ndef where(): return __file__, calloff.__file__\n")
    sys.path.insert(0, str(tmp_path))
    try:
        host, options = server

        async def main() -> None:
            from packed_module import where  # type: ignore[import-not-found]

            async with calloff.cluster.ssh([host], modules=["packed_module"], **options) as cluster:
                module, package = await calloff.call(cluster.process(where))
                assert "/cache/calloff/" in module
                assert os.path.dirname(module) == os.path.dirname(os.path.dirname(package))

        run(main())
    finally:
        sys.path.remove(str(tmp_path))


def test_who_is_not_let_in(server: Server) -> None:
    host, options = server
    stranger = options["client_keys"][0].replace("user", "stranger")

    async def main() -> None:
        with pytest.raises(calloff.CalloffError, match=r"node 127\.0\.0\.1:\d+: PermissionDenied"):
            async with calloff.cluster.ssh([host], **{**options, "client_keys": [stranger]}):
                pass

    run(main())


@pytest.mark.parametrize(
    ("python", "words"),
    [("/nowhere/python3", "No such file"), ("sh -c 'echo old Python >&2; exit 1' x", "old Python")],
)
def test_there_is_no_python(server: Server, python: str, words: str) -> None:
    host, options = server

    async def main() -> None:
        with pytest.raises(calloff.CalloffError, match=words):
            async with calloff.cluster.ssh([host], **{**options, "python": python}):
                pass

    run(main())


def test_an_agent_is_killed(server: Server, tmp_path: Path) -> None:
    host, options = server

    async def main() -> None:
        async with calloff.cluster.ssh([host], lease=20, **options) as cluster:
            tree = Tree(cluster, tmp_path, f"82{os.getpid()}.1")
            await tree.begun()
            os.kill(agent(cluster), signal.SIGKILL)
            outcome = await asyncio.wait_for(tree.op.outcome(), 15)
            assert tree.is_dead()
            assert isinstance(outcome, calloff.Failed)
            assert isinstance(outcome.error, NodeLost)
            assert "a fresh agent there has seen" in str(outcome.error)

    run(main())


def test_the_connection_is_cut_by_the_other_side(server: Server, tmp_path: Path) -> None:
    """Its sshd dies, and so do the streams; the agent hears of it, and kills what it has."""
    host, options = server

    async def main() -> None:
        async with calloff.cluster.ssh([host], lease=20, **options) as cluster:
            tree = Tree(cluster, tmp_path, f"82{os.getpid()}.2")
            await tree.begun()
            parent = int(Path(f"/proc/{agent(cluster)}/stat").read_text().rpartition(")")[2].split()[1])
            while Path(f"/proc/{parent}/comm").read_text().strip() != "sshd":
                parent = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
            os.kill(parent, signal.SIGKILL)
            outcome = await asyncio.wait_for(tree.op.outcome(), 15)
            assert tree.is_dead()
            assert isinstance(outcome, calloff.Failed)
            await until(lambda: cluster.nodes()[0].state == "up", "it is connected again")
            assert await calloff.call(cluster.process(bodies.add, 1, 2)) == 3

    run(main())
