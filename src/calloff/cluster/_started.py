"""Agents behind programs that were started here: their standard input and output are the stream."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from ._boot import CODE, Boot, bundle
from ._cluster import Cluster
from ._stream import Part, Stream
from ._words import Node, Wire

__all__ = ["Said", "commands"]

#: characters of what a program wrote that are shown
_WORDS = 400
#: seconds that the last of it may take
_LAST_WORDS = 0.2


# To type checkers the keys of a mapping have exactly one type: names, nodes, or a mixture.
@overload
def commands(
    nodes: Mapping[str | Node, Sequence[str]], *, lease: float = 10.0, modules: Sequence[str] = ()
) -> Cluster: ...
@overload
def commands(
    nodes: Mapping[str, Sequence[str]] | Mapping[Node, Sequence[str]],
    *,
    lease: float = 10.0,
    modules: Sequence[str] = (),
) -> Cluster: ...
def commands(nodes: Mapping[Any, Sequence[str]], *, lease: float = 10.0, modules: Sequence[str] = ()) -> Cluster:
    """Run functions behind programs that connect to a Python elsewhere: ``kubectl exec -i``, ``docker exec -i``, ``ssh``.

    Args:
        nodes: for each node the program and its arguments, which begin a Python there, ending in its name:
            ``["kubectl", "exec", "-i", "worker-0", "--", "python3"]``. Its standard input and output are the stream; it
            needs Python 3.11 or newer, and calloff is brought along.
        lease: seconds without a beat of this program after which a node kills all that runs there for it.
        modules: names of modules and packages of pure Python that are brought along, too.

    Raises:
        TypeError, ValueError: an argument is out of range. The caller's fault.
    """
    found: dict[Node, list[str]] = {}
    for node, argv in nodes.items():
        if isinstance(argv, str) or not argv or not all(isinstance(word, str) for word in argv):
            raise TypeError(f"the command of a node is a list of words, not {argv!r}")
        found[node if isinstance(node, Node) else Node(node)] = [*argv, "-c", CODE]
    if not found:
        raise ValueError("a cluster needs at least one node")
    names = tuple(modules)
    bundle(names)  # what can't be sent is told now
    return Cluster(_Commands(found, names), lease=lease)


class _Commands:
    def __init__(self, argvs: dict[Node, list[str]], modules: tuple[str, ...]) -> None:
        self._argvs = argvs
        self._modules = modules

    async def nodes(self) -> Sequence[Node]:
        return list(self._argvs)

    async def open(self, node: Node, heard: Callable[[bytes], None], ended: Callable[[str], None]) -> Wire:
        loop = asyncio.get_running_loop()
        program = await loop.run_in_executor(None, _start, self._argvs[node])
        return _Started(loop, program, heard, ended)

    def boot(self) -> Boot | None:
        return Boot(self._modules)

    async def close(self) -> None:
        """Agents end with their streams."""


def _start(argv: list[str]) -> "subprocess.Popen[bytes]":
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True)


class _Started:
    """The stream of one program; what it says beside that goes to our own standard error."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        program: "subprocess.Popen[bytes]",
        heard: Callable[[bytes], None],
        ended: Callable[[str], None],
    ) -> None:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stderr is not None
        said = Said()
        files = [os.dup(file.fileno()) for file in (program.stdout, program.stdin, program.stderr)]
        for file in (program.stdin, program.stdout, program.stderr):
            file.close()
        self._program = program
        self._listener = threading.Thread(target=self._listen, args=(files[2], said), daemon=True)
        self._listener.start()

        def tell(why: str) -> None:
            """What it has said last may come after the end of its output."""
            heard_all = loop.run_in_executor(None, self._listener.join, _LAST_WORDS)
            heard_all.add_done_callback(lambda _: ended(said.words() or why))

        self._stream = Stream(loop, files[0], files[1], heard, tell)

    def _listen(self, file: int, said: "Said") -> None:
        with contextlib.suppress(OSError):
            while data := os.read(file, 1 << 16):
                said.heard(data)
        os.close(file)
        self._program.wait()

    def write(self, parts: Sequence[Part]) -> None:
        self._stream.write(parts)

    def close(self) -> None:
        self._stream.close()


class Said:
    """What comes beside a stream: it is passed on, and the end of it kept for an error."""

    def __init__(self) -> None:
        self._text = b""

    def heard(self, data: bytes) -> None:
        """Some of it."""
        self._text = (self._text + data)[-_WORDS:]
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(data.decode(errors="replace"))
            sys.stderr.flush()

    def words(self) -> str:
        """The end of it."""
        return " ".join(self._text.decode(errors="replace").split())
