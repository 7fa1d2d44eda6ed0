"""What the tests run on nodes, and how they see from outside what is left of it."""

import os
import signal
import subprocess
import time
from pathlib import Path


def add(a: int, b: int) -> int:
    return a + b


def mark(path: Path) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_text(str(os.getpid()))
    new.rename(path)


def sleeper(path: Path) -> None:
    mark(path)
    time.sleep(3600)


def tree(path: Path, seconds: str) -> None:
    """Deaf, with a child in a session of its own and two daemons; `seconds` tells them from all others."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.run(
        ["sh", "-c", f"setsid sleep {seconds} & (setsid sh -c 'sleep {seconds} & sleep {seconds}' &)"], check=True
    )
    mark(path)
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass


def with_notes() -> None:
    try:
        raise KeyError("first")
    except KeyError as cause:
        error = ValueError("second")
        error.add_note("a note")
        raise error from cause


def large(data: bytes) -> bytes:
    return data + b"!"


def note(item: tuple[Path, int]) -> int:
    path, number = item
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, b"%d\n" % number)
    os.close(file)
    time.sleep(0.002)
    return number


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def sleepers(seconds: str) -> list[int]:
    """The processes ``sleep SECONDS``."""
    return [pid for pid, word in sleeping() if word == seconds]


def sleeping() -> list[tuple[int, str]]:
    """All processes ``sleep SECONDS``, each with its word."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0] == b"sleep" and len(words) > 1:
                found.append((int(name), words[1].decode()))
    return found


def workers_of(agent: int) -> list[int]:
    """The workers below the keeper of an agent."""
    parents: dict[int, int] = {}
    keepers: set[int] = set()
    workers: list[int] = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                comm, _, rest = Path(f"/proc/{name}/stat").read_text().partition("(")[2].rpartition(")")
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            parents[int(name)] = int(rest.split()[1])
            if comm == "calloff-keeper" and str(agent).encode() in words:
                keepers.add(int(name))
            elif comm == "calloff-worker":
                workers.append(int(name))
    return [worker for worker in workers if parents.get(parents[worker]) in keepers]


def titled(title: str) -> list[int]:
    """The processes whose command line begins with that."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                line = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if line.startswith(title.encode()):
                found.append(int(name))
    return found
