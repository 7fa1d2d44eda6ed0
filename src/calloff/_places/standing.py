"""What a worker was started under, compared with what the program has now: a warm one is used where that is the same."""

import sys
from time import monotonic

from .._os import inherit

__all__ = ["Standing", "look_ahead"]

#: seconds that credentials which were read count as those of now, for workers that are warm
_FRESH = 0.05


class _Seen:
    """The credentials and limits that were read last, and when."""

    def __init__(self) -> None:
        self.at = 0.0
        self.credentials: inherit.Credentials = ()
        self.limits: list[tuple[int, int]] = []

    def note(self, credentials: inherit.Credentials, limits: list[tuple[int, int]]) -> None:
        """These are ours now."""
        self.at = monotonic()
        if credentials != self.credentials:  # else the same object stays, which is compared in no time
            self.credentials = credentials
        if limits != self.limits:
            self.limits = limits


_seen = _Seen()


def look_ahead() -> None:
    """Read now what may be read at the next start: while something is waited for that takes longer."""
    if monotonic() - _seen.at > _FRESH / 2:
        _seen.note(inherit.credentials(), inherit.limits())


_modules = sys.modules


class Standing:
    """User, groups, capabilities, limits, umask, niceness and processors at the start of a worker.

    Args:
        credentials: what its keeper has.
        settings: what it was given.
    """

    __slots__ = ("_credentials", "_limits", "_looks_the_same")

    def __init__(self, credentials: inherit.Credentials, settings: inherit.Settings) -> None:
        self._looks_the_same = inherit.watcher(settings["umask"], powers=True)
        _seen.note(credentials, settings["limits"])
        #: the same objects for all workers that were started alike
        self._credentials = _seen.credentials
        self._limits = _seen.limits

    def is_ours(self) -> bool:
        """Whether a worker that is started now would be the same.

        The rest of the credentials changes once in a program's life if ever, and takes longer to read than a function
        takes to be sent and back: what was read of it counts for a moment. So do limits, as long as no code of Python's
        can have changed them.
        """
        if not self._looks_the_same():
            return False
        seen = _seen
        if monotonic() - seen.at > _FRESH:
            seen.note(inherit.credentials(), inherit.limits())
        elif "resource" in _modules and inherit.limits() != self._limits:  # `may_set_limits`, without a call
            return False
        return (seen.credentials is self._credentials or seen.credentials == self._credentials) and (
            seen.limits is self._limits or seen.limits == self._limits
        )
