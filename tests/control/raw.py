"""The control socket as a stranger's program would speak to it: bytes."""

import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any


class Raw:
    """A connection to the socket of a process; every wait is bounded."""

    def __init__(self, directory: Path, pid: int | None = None) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        folder = os.open(directory, os.O_PATH)
        try:
            self.socket.connect(f"/proc/self/fd/{folder}/{os.getpid() if pid is None else pid}.sock")
        finally:
            os.close(folder)
        self._came = b""

    def __enter__(self) -> "Raw":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def hear(self) -> Any:
        """The next answer; ``None`` when we were hung up on."""
        while b"\n" not in self._came:
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._came += data
        line, _, self._came = self._came.partition(b"\n")
        return json.loads(line)

    def ask(self, **request: Any) -> Any:
        self.send(json.dumps(request).encode() + b"\n")
        return self.hear()
