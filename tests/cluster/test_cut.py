"""A wire between two machines that is cut: two namespaces of the network, an sshd in one and a program in the other."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import bodies
from cluster.nodes import SLACK, new_seconds
from cluster.sshd import SSHD, serving

pytest.importorskip("asyncssh", reason="asyncssh is not installed")
TESTS = str(Path(__file__).parent.parent)
LEASE = 2
_PROGRAM = """
    import asyncio, json, sys, time, calloff, calloff.cluster
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from cluster import bodies
    def say(*words):
        print(*words, flush=True)
    async def heard():
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    async def main():
        async with calloff.cluster.ssh([{host!r}], lease={lease}, **json.loads({options!r})) as cluster:
            tree = lambda name: calloff.start(cluster.process(bodies.tree, Path({folder!r}, name), {seconds!r}), name=name)
            waiting, stopped = tree("waiting"), tree("stopped")
            await heard()
            outcome = await stopped.stop(grace=0)
            say(type(outcome).__name__, *outcome.report.survivors)
            outcome = await waiting.outcome()
            say(type(outcome).__name__, type(outcome.error).__name__)
            await heard()
            while cluster.nodes()[0].state != "up":
                await asyncio.sleep(0.05)
            say(await calloff.call(cluster.process(bodies.add, 1, 2)))
    asyncio.run(main())
"""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def ends() -> Iterator[tuple[str, str]]:
    """Two namespaces with one wire, whose ends are 10.77.0.1 and 10.77.0.2; nothing else can be reached from there."""
    one, two = (f"calloff-{os.getpid()}-{end}" for end in "ab")
    wires = [f"co{os.getpid()}{end}" for end in "ab"]
    try:
        try:
            for name in (one, two):
                _ip("netns", "add", name)
            _ip("link", "add", wires[0], "netns", one, "type", "veth", "peer", "name", wires[1], "netns", two)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("needs root, and namespaces of the network")
        for name, wire, address in ((one, wires[0], "10.77.0.1/24"), (two, wires[1], "10.77.0.2/24")):
            _ip("-n", name, "addr", "add", address, "dev", wire)
            for device in ("lo", wire):
                _ip("-n", name, "link", "set", device, "up")
        yield one, two
    finally:
        for name in (one, two):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.skipif(SSHD is None or shutil.which("ip") is None, reason="there is no sshd or no ip on this machine")
def test_the_wire_between_two_machines_is_cut(tmp_path: Path, ends: tuple[str, str]) -> None:
    two = ends[1]
    wire, seconds = f"co{os.getpid()}b", new_seconds()
    within: list[list[str]] = [["ip", "netns", "exec", name] for name in ends]
    (tmp_path / "sshd").mkdir()
    with serving(tmp_path / "sshd", "10.77.0.2", within[1]) as (host, options):
        found: dict[str, Any] = {
            **options,
            "python": f"env PYTHONPATH={TESTS} XDG_CACHE_HOME={tmp_path}/cache {os.path.realpath(sys.executable)} -s",
        }
        code = textwrap.dedent(_PROGRAM).format(
            tests=TESTS, host=host, lease=LEASE, options=json.dumps(found), folder=str(tmp_path), seconds=seconds
        )
        pipe = subprocess.PIPE
        program = subprocess.Popen(
            [*within[0], sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True, bufsize=1
        )
        try:
            _within(60, lambda: len(bodies.sleepers(seconds)) == 6)
            _ip("-n", two, "link", "set", wire, "down")
            cut_at = time.monotonic()
            assert program.stdin is not None
            assert program.stdout is not None
            program.stdin.write("cut\n")
            told, *words = program.stdout.readline().split()
            if told == "Abandoned":  # on a busy machine the lease may be over by then
                assert "certain" in words
            assert program.stdout.readline().split() == ["Failed", "NodeLost"]
            assert not bodies.sleepers(seconds), "it was called ended, and lives"
            assert 0.5 * LEASE < time.monotonic() - cut_at < LEASE + 1 + SLACK
            _ip("-n", two, "link", "set", wire, "up")
            program.stdin.write("healed\n")
            assert program.stdout.readline() == "3\n"
            assert program.wait(30) == 0
        finally:
            program.kill()
            program.communicate()


def _within(seconds: float, true: Any) -> None:
    bound = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < bound
        time.sleep(0.02)
