"""The independent observer of the chaos test: a process that knows nothing of calloff and looks at `/proc`.

A question is a line with a token and the file of its notes, the answer a line of JSON: what of it is alive now. All
questions that have come are answered from one look, which begins after the last of them was read.
"""

import json
import os
import select
import sys
from pathlib import Path
from typing import Any


def alive(token: bytes) -> list[tuple[int, bytes, str]]:
    """The processes whose environment or arguments hold the token: number, both texts, how they are shown."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            folder = Path("/proc", entry)
            try:
                arguments = (folder / "cmdline").read_bytes()
                text = (folder / "environ").read_bytes() + arguments
            except OSError:
                continue
            if token in text and (state := stat(int(entry))[0]) not in ("", "Z", "X"):
                shown = f"{name_of(entry)}: " + arguments.replace(b"\0", b" ").decode(errors="replace")[:80]
                found.append((int(entry), text, f"{entry} ({state}) {shown}"))
    return found


def name_of(pid: str) -> str:
    try:
        return Path("/proc", pid, "comm").read_text().strip()
    except OSError:
        return "?"


def stat(pid: int) -> tuple[str, int]:
    """State and start time."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except OSError:
        return "", 0


def noted(path: str) -> list[tuple[int, int, str]]:
    """Process, start time and what it noted, in order."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return []
    parts = [line.split(" ", 2) for line in lines]
    return [(int(pid), int(started), what) for pid, started, what in parts]


def lives(pid: int, started: int) -> bool:
    """Whether that process, and no later one of the same number, runs."""
    state, since = stat(pid)
    return since == started and state not in ("", "Z", "X")


def look(questions: list[tuple[str, str]], run: bytes) -> dict[str, dict[str, Any]]:
    found = alive(run)
    answers = {}
    for token, path in questions:
        survivors = [shown for _, text, shown in found if token.encode() in text]
        notes = noted(path)
        # one that was called off while it noted "in" has noted only its end
        workers = {each[:2] for each in notes if each[2] in ("in", "out")}
        # a worker may live on; what it forked may not
        forked = {each[:2] for each in notes} - workers
        survivors += [f"{pid} (forked by the worker)" for pid, started in forked if lives(pid, started)]
        answers[token] = {
            "token": token,
            "survivors": survivors,
            "workers": [pid for pid, started in workers if lives(pid, started)],
            "notes": [what for _, _, what in notes],
        }
        if not survivors:  # notes that come later are told in the end
            Path(path).unlink(missing_ok=True)
    return answers


def main() -> None:
    run = sys.argv[1].encode()
    buffer = b""
    while True:
        chunk = os.read(0, 1 << 16)
        while chunk and select.select([0], [], [], 0)[0] and (more := os.read(0, 1 << 16)):
            chunk += more
        if not chunk:
            return
        *lines, buffer = (buffer + chunk).split(b"\n")
        questions = [(line.decode().split(" ", 1)[0], line.decode().split(" ", 1)[1]) for line in lines]
        for answer in look(questions, run).values():
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
