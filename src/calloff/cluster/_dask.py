"""Agents on the workers of a Dask cluster; the streams are calls between the client and a worker."""

import itertools
import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from ._boot import Boot
from ._cluster import Cluster
from ._polled import Polled, released
from ._words import Node, Wire

__all__ = ["dask", "serve"]

_numbers = itertools.count(1)


def dask(client: Any, *, slots: int | None = None, lease: float = 10.0) -> Cluster:
    """Run functions beside the workers of a Dask cluster: ``calloff.cluster.dask(client)``.

    An agent is started on each worker that the cluster has when this one is entered, in a process of its own; the node has
    the name of the worker. calloff has to be installed there, in the version that is here. Dask carries the streams and
    does not know what runs at the agents: give its workers as much less to do. Its network is trusted as it is by
    Dask itself.

    Args:
        client: a `distributed.Client`, of either kind, or the address of the scheduler.
        slots: how many functions run at a time at each; by default the threads of the worker.
        lease: seconds without a beat of this program after which a node kills all that runs there for it.

    Raises:
        ImportError: distributed is not installed.
    """
    try:
        import_module("distributed")
    except ImportError as error:
        raise ImportError("calloff.cluster.dask needs distributed: install calloff[dask]") from error
    return Cluster(_Dask(client, slots), lease=lease)


class _Dask:
    def __init__(self, client: Any, slots: int | None) -> None:
        self._address = client if isinstance(client, str) else client.scheduler.address
        self._security = None if isinstance(client, str) else client.security
        self._slots = slots
        self._client: Any = None
        self._wires: list[Polled] = []

    async def nodes(self) -> Sequence[Node]:
        distributed: Any = import_module("distributed")
        options = {} if self._security is None else {"security": self._security}
        self._client = await distributed.Client(self._address, asynchronous=True, set_as_default=False, **options)
        return [Node(name, self._slots or int(worker["nthreads"])) for name, _, worker in await self._workers()]

    async def _workers(self) -> list[tuple[str, str, Any]]:
        """Name, address and what is known of each worker that there is now."""
        info = await self._client.scheduler.identity(n_workers=-1)
        return [(str(worker["name"]), address, worker) for address, worker in info["workers"].items()]

    async def open(self, node: Node, heard: Callable[[bytes], None], ended: Callable[[str], None]) -> Wire:
        number = f"{os.getpid()}.{next(_numbers)}.{id(self)}"
        try:
            # one that died is started again under its name, at another address
            address = next((address for name, address, _ in await self._workers() if name == node.name), None)
            if address is None:
                raise OSError("Dask has no worker of that name now")
            found = await self._client.run(serve, workers=[address], on_error="return")
            if address not in found or isinstance(found[address], BaseException):
                raise OSError(f"the worker did not answer: {found.get(address)!r}")
            worker = self._client.rpc(address)
            await worker.calloff_open(number=number)
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"{type(error).__name__}: {error}") from error

        async def send(data: bytes) -> None:
            await worker.calloff_write(number=number, data=data)

        read, close = (partial(getattr(worker, f"calloff_{name}"), number=number) for name in ("read", "close"))
        wire = Polled(send, read, close, heard, ended)
        self._wires.append(wire)
        return wire

    def boot(self) -> Boot | None:
        return None

    async def close(self) -> None:
        await released(self._wires)
        await self._client.close()


async def serve(dask_worker: Any) -> None:
    """On a worker: answer calls about agents."""
    from . import _engine

    for name in _engine.__all__:
        dask_worker.handlers.setdefault(f"calloff_{name}", getattr(_engine, name))
