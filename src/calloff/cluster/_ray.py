"""Agents on the nodes of a Ray cluster; the streams are calls of an actor on each."""

import asyncio
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

from ._boot import Boot
from ._cluster import Cluster
from ._polled import Polled, released
from ._words import Node, Wire

__all__ = ["ray"]

_numbers = itertools.count(1)
#: seconds that an actor may take to let go of its agent, before it is killed
_CLOSING = 0.7
#: what every node has
_PLAIN = ("CPU", "memory", "object_store_memory")


def ray(
    address: str | None = None,
    *,
    slots: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float = 0,
    resources: Mapping[str, float] | None = None,
    lease: float = 10.0,
    connect: float = 30.0,
) -> Cluster:
    """Run functions on the nodes of a Ray cluster: ``calloff.cluster.ray()``.

    On each node that is alive when the cluster is entered an actor starts an agent, in a process of its own. The node has
    the name that Ray has for it, and what it has beside CPUs and memory (``GPU``, resources of your own) as labels. calloff
    has to be installed there, in the version that is here. What runs at an agent is accounted to Ray by its actor, for as
    long as the cluster is open: Ray gives to others what is left. Its network is trusted as it is by Ray itself.

    Args:
        address: of the cluster, as for `ray.init`. A program that is connected already keeps its connection; one that
            is connected here is disconnected when the cluster is left.
        slots: how many functions run at a time at each node; by default its CPUs.
        num_cpus: how many CPUs of each node are accounted for; by default as many as there are slots.
        num_gpus: how many GPUs of each node; its functions see those.
        resources: how much of other resources of each node, by their names.
        lease: seconds without a beat of this program after which a node kills all that runs there for it.
        connect: seconds that Ray may take to place an actor on a node, which waits while its CPUs are not free, and the
            agent there to answer.

    Raises:
        ImportError: ray is not installed.
        TypeError, ValueError: an argument is out of range. The caller's fault.
    """
    try:
        import_module("ray")
    except ImportError as error:
        raise ImportError("calloff.cluster.ray needs ray: install calloff[ray]") from error
    for name, value in {"num_cpus": num_cpus, "num_gpus": num_gpus, **(resources or {})}.items():
        if value is not None and not value >= 0:
            raise ValueError(f"{name} must be 0 or more, not {value!r}")
    Node("any", slots)  # which says what slots may be
    options = {"num_gpus": num_gpus, "resources": dict(resources or {})}
    return Cluster(_Ray(address, slots, num_cpus, options, connect), lease=lease, connect=connect + 10.0)


class _Ray:
    def __init__(
        self, address: str | None, slots: int | None, cpus: float | None, options: dict[str, Any], placing: float
    ) -> None:
        self._address, self._slots, self._cpus, self._options = address, slots, cpus, options
        self._placing = placing
        self._ids: dict[str, str] = {}
        self._machines: dict[str, str] = {}
        self._connected = False
        self._wires: list[Polled] = []

    async def nodes(self) -> Sequence[Node]:
        return await asyncio.get_running_loop().run_in_executor(None, self._nodes)

    def _nodes(self) -> list[Node]:
        ray: Any = import_module("ray")
        if not ray.is_initialized():
            ray.init(address=self._address, log_to_driver=False)
            self._connected = True
        found: list[Node] = []
        for each in _alive():
            name = each["NodeName"]
            name = name if name not in self._ids else f"{name} {each['NodeID'][:8]}"
            self._ids[name] = each["NodeID"]
            self._machines[name] = each["NodeName"]
            found.append(Node(name, self._slots or int(each["Resources"].get("CPU", 1)) or 1, _labels(each)))
        return found

    def _id(self, node: Node) -> str:
        """Of that node now: what is started anew on its machine has another one, and takes its place."""
        alive = _alive()
        if self._ids[node.name] not in {each["NodeID"] for each in alive}:
            for each in alive:
                if (
                    each["NodeName"] == self._machines[node.name]
                    and each["NodeID"] not in self._ids.values()
                    and set(node.labels) <= set(_labels(each))
                ):
                    self._ids[node.name] = each["NodeID"]
                    break
        return self._ids[node.name]

    async def open(self, node: Node, heard: Callable[[bytes], None], ended: Callable[[str], None]) -> Wire:
        number = f"{os.getpid()}.{next(_numbers)}.{id(self)}"
        loop = asyncio.get_running_loop()
        assert node.slots is not None
        cpus = node.slots if self._cpus is None else self._cpus
        actor: Any = None
        try:
            actor = await loop.run_in_executor(None, self._actor, node, cpus)
            async with asyncio.timeout(self._placing):
                await actor.open.remote(number)
        except TimeoutError:
            await loop.run_in_executor(None, self._kill, actor)
            raise OSError(
                f"Ray has not placed an agent there within {self._placing:g} s: are {cpus:g} CPUs free?"
            ) from None
        except Exception as error:
            if actor is not None:
                await loop.run_in_executor(None, self._kill, actor)
            raise OSError(f"{type(error).__name__}: {error}") from error

        async def send(data: bytes) -> None:
            await actor.write.remote(number, data)

        async def receive() -> bytes:
            data: bytes = await actor.read.remote(number)
            return data

        wire = Polled(send, receive, partial(self._release, actor, number), heard, ended)
        self._wires.append(wire)
        return wire

    def _actor(self, node: Node, cpus: float) -> Any:
        ray: Any = import_module("ray")
        strategies: Any = import_module("ray.util.scheduling_strategies")
        where = strategies.NodeAffinitySchedulingStrategy(node_id=self._id(node), soft=False)
        options = {**self._options, "num_cpus": cpus, "max_restarts": 0, "max_task_retries": 0}
        return ray.remote(_Actor).options(scheduling_strategy=where, **options).remote()

    def _kill(self, actor: Any) -> None:
        with suppress(Exception):  # it is gone, or so is all of Ray
            import_module("ray").kill(actor)

    async def _release(self, actor: Any, number: str) -> None:
        try:
            async with asyncio.timeout(_CLOSING):
                await actor.close.remote(number)
        finally:
            await asyncio.get_running_loop().run_in_executor(None, self._kill, actor)

    def boot(self) -> Boot | None:
        return None

    async def close(self) -> None:
        """Actors end with their streams; a connection that was made here ends, too."""
        await released(self._wires)
        if self._connected:
            await asyncio.get_running_loop().run_in_executor(None, import_module("ray").shutdown)


def _alive() -> list[dict[str, Any]]:
    """What Ray knows of each of its nodes that lives."""
    return [each for each in import_module("ray").nodes() if each["Alive"]]


def _labels(node: Mapping[str, Any]) -> tuple[str, ...]:
    has: Mapping[str, float] = node["Resources"]
    return tuple(sorted(word for word in has if word not in _PLAIN and not word.startswith("node:")))


class _Actor:
    """Holds an agent on its node."""

    async def open(self, number: str) -> None:
        from . import _engine

        await _engine.open(number)

    async def write(self, number: str, data: bytes) -> None:
        from . import _engine

        await _engine.write(number, data)

    async def read(self, number: str) -> bytes:
        from . import _engine

        return await _engine.read(number)

    async def close(self, number: str) -> None:
        from . import _engine

        await _engine.close(number)
