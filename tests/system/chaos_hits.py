"""The chaos of helpers: keepers and guards of a running program are killed and stopped at random moments.

Whatever is hit, every verdict has to be true and in time, and nothing may be left. What a verdict may say beside what the
body did itself is that a helper was killed, in so many words.
"""

import contextlib
import os
import signal
import threading
from collections import Counter
from random import Random
from typing import Any

from chaos_observer import alive

__all__ = ["Hitter", "is_told", "may_run_on"]

_HELPERS = {"calloff-keeper", "calloff-guard"}
_NUMBERS = [signal.SIGKILL, signal.SIGSTOP]


class Hitter:
    """Hits the helpers of one run from a thread of its own, until it is closed.

    Args:
        run: the token in the environment of all processes of the run.
        seed: of what is drawn.
        hits: counts how often what was hit.
        pause: seconds between two hits, at most.
    """

    def __init__(self, run: str, seed: int, hits: Counter[str], pause: float) -> None:
        self._hits = hits
        self._pause = pause
        self._run = run.encode()
        self._random = Random(f"hits/{seed}")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> "Hitter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(self._random.uniform(0.03, 1.0) * self._pause):
            found = sorted((pid, name) for pid, _, _ in alive(self._run) if (name := _name(pid)) in _HELPERS)
            kind = self._random.choice(sorted(_HELPERS))
            # a command that is just being executed has the name of its guard still: it is no helper
            victims = [(pid, name) for pid, name in found if name == kind and _name(_parent(pid)) != "calloff-guard"]
            if not victims:
                continue
            pid, name = self._random.choice(victims)
            number = self._random.choice(_NUMBERS)
            with contextlib.suppress(OSError):
                os.kill(pid, number)
                self._hits[f"{name} {number.name}"] += 1


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""


def is_told(error: Any) -> bool:
    """Whether the text of an error says that a helper was killed."""
    return any(word in str(error) for word in ("guard", "helper process", "keeper"))


def may_run_on(outcome: Any) -> bool:
    """Whether a verdict says itself that something was lost sight of: a daemon of a command without helpers."""
    told = getattr(outcome, "error", None) or (outcome.report and outcome.report.survivors)
    return "may run on" in str(told)
