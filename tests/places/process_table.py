"""An independent look at what really runs: `/proc`, and nothing of calloff."""

import os
import time
from pathlib import Path


def marked(marker):
    """The processes whose environment or command line holds the marker, zombies left out."""
    found = []
    wanted = marker.encode()
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            folder = Path("/proc") / entry
            try:
                text = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
                if wanted in text and state(int(entry)) not in ("", "Z", "X"):
                    found.append(int(entry))
            except OSError:
                continue
    return found


def state(pid):
    """One letter, empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def gone(pid):
    return state(pid) in ("", "Z", "X")


def until(condition, seconds=10.0):
    """Wait until the condition holds; whether it came to that."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def below(pid):
    """All descendants of a process."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                parents[int(entry)] = int(fields[1])
            except OSError:
                continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one and child not in found]
    return found[1:]
