"""Agents over SSH, by asyncssh: keys are the only door, and nothing has to be installed there but a Python."""

import re
import shlex
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from ._boot import CODE, Boot, bundle
from ._cluster import Cluster
from ._started import Said
from ._stream import Part
from ._words import Node, Wire

__all__ = ["ssh"]

_HOST = re.compile(r"(?:(?P<username>[^@]+)@)?(?P<host>\[[^]]+\]|[^:]+)(?::(?P<port>\d+))?")


def ssh(
    hosts: Sequence[str | Node],
    *,
    python: str = "python3",
    lease: float = 10.0,
    modules: Sequence[str] = (),
    **options: Any,
) -> Cluster:
    """Run functions on machines that SSH reaches: ``calloff.cluster.ssh(["alpha", "me@beta:2222"])``.

    It needs the package asyncssh here (``calloff[ssh]``), and there no more than a Python of the same version as ours.
    calloff is brought along, into the user's cache.

    Args:
        hosts: ``host``, ``user@host`` or ``user@host:port``; or nodes with such names, for slots and labels.
        python: the Python there.
        lease: seconds without a beat of this program after which a node kills all that runs there for it.
        modules: names of modules and packages of pure Python that are brought along, too.
        **options: those of `asyncssh.connect`: ``client_keys``, ``known_hosts``, ``config`` and so on.

    Raises:
        TypeError, ValueError: an argument is out of range. The caller's fault.
        ImportError: asyncssh is not installed.
    """
    if isinstance(hosts, str):
        raise TypeError(f"hosts must be a list of names, not {hosts!r}")
    nodes = [host if isinstance(host, Node) else Node(host) for host in hosts]
    for node in nodes:
        if _HOST.fullmatch(node.name) is None:
            raise ValueError(f"a host is written as user@host:port, not {node.name!r}")
    if not nodes:
        raise ValueError("a cluster needs at least one host")
    try:
        import_module("asyncssh")
    except ImportError as error:
        raise ImportError("calloff.cluster.ssh needs asyncssh: install calloff[ssh]") from error
    names = tuple(modules)
    bundle(names)  # what can't be sent is told now
    return Cluster(_Ssh(nodes, python, names, options), lease=lease)


class _Ssh:
    def __init__(self, nodes: list[Node], python: str, modules: tuple[str, ...], options: dict[str, Any]) -> None:
        self._nodes, self._modules, self._options = nodes, modules, options
        self._command = f"{python} -c {shlex.quote(CODE)}"

    async def nodes(self) -> Sequence[Node]:
        return self._nodes

    async def open(self, node: Node, heard: Callable[[bytes], None], ended: Callable[[str], None]) -> Wire:
        asyncssh: Any = import_module("asyncssh")
        found = _HOST.fullmatch(node.name)
        assert found is not None
        where: dict[str, Any] = {key: value for key, value in found.groupdict().items() if value is not None}
        where["host"] = where["host"].strip("[]")
        if "port" in where:
            where["port"] = int(where["port"])
        try:
            connection = await asyncssh.connect(**{**self._options, **where})
            try:
                channel, session = await connection.create_session(
                    lambda: _session(asyncssh, heard, ended), self._command, encoding=None
                )
            except BaseException:
                connection.abort()
                raise
        except asyncssh.Error as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        return _Channel(connection, channel, session)

    def boot(self) -> Boot | None:
        return Boot(self._modules)

    async def close(self) -> None:
        """Agents end with their streams."""


class _Channel:
    def __init__(self, connection: Any, channel: Any, session: Any) -> None:
        self._connection, self._channel, self._session = connection, channel, session

    def write(self, parts: Sequence[Part]) -> None:
        try:
            for part in parts:
                self._channel.write(bytes(part) if isinstance(part, memoryview) else part)
        except OSError:  # the end of the session tells
            pass

    def close(self) -> None:
        self._session.closed = True
        self._channel.write_eof()
        self._channel.close()
        self._connection.close()


def _session(asyncssh: Any, heard: Callable[[bytes], None], ended: Callable[[str], None]) -> Any:
    """A session of asyncssh, whose classes are known only when it is loaded."""
    said = Said()

    def data_received(self: Any, data: bytes, datatype: int | None) -> None:
        if datatype is None:
            heard(data)
        else:
            said.heard(data)

    def connection_lost(self: Any, error: Exception | None) -> None:
        if not self.closed:
            ended(said.words() or (str(error) if error else "the session ended"))

    members = {"closed": False, "data_received": data_received, "connection_lost": connection_lost}
    return type("Session", (asyncssh.SSHClientSession,), members)()
