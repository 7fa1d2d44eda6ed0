"""Debian's sshd on a port of the loopback, with keys of its own and an account's only key: ours."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def serving(
    folder: Path, address: str = "127.0.0.1", prefix: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name of the host, and the options to connect with; behind a prefix the server runs elsewhere."""
    assert SSHD is not None
    folder.chmod(0o700)
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    port = free_port()
    settings = [
        f"Port {port}",
        f"ListenAddress {address}",
        f"HostKey {folder}/host",
        f"AuthorizedKeysFile {folder}/authorized",
        f"PidFile {folder}/pid",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
    ]
    (folder / "config").write_text("\n".join(settings) + "\n")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*prefix, SSHD, "-D", "-e", "-f", folder / "config"], stderr=log)
    try:
        bound = time.monotonic() + 20
        while server.poll() is None and b"Server listening" not in (folder / "log").read_bytes():
            assert time.monotonic() < bound
            time.sleep(0.02)
        assert server.poll() is None, (folder / "log").read_text()
        known = f"[{address}]:{port} {(folder / 'host.pub').read_text()}"
        (folder / "known").write_text(known)
        yield (
            f"{address}:{port}",
            {
                "client_keys": [str(folder / "user")],
                "known_hosts": str(folder / "known"),
                "config": None,
                "agent_path": None,
            },
        )
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
