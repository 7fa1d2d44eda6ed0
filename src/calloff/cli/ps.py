"""``calloff ps``: what runs, in all processes of the user, as a tree."""

import sys

from ..control._directory import sockets

__all__ = ["main"]

USAGE = "calloff ps [OPTION...] [ID...]"
EPILOG = """\
An ID is 4312.7 (number 7 of process 4312), or as much of it as is unique. WHERE is the line at which an operation stands,
also while it blocks the event loop; of a command it is the command line. With --json the whole of every row is printed as
one JSON document.

Seen are programs that run under `calloff run`, and those that call calloff.run(expose=True) or have CALLOFF_EXPOSE=1.

Exit status: 0, also when nothing runs; 1 when there is no operation of an ID that was given; 2 for a wrong command line; 3
when a process did not answer."""


def main(argv: list[str]) -> int:
    """The verb: prints the list and returns the exit status."""
    if not argv and not _anything():  # and then nothing more is loaded
        sys.stderr.write("calloff ps: nothing runs that can be seen\n")
        return 0
    from ._ps import ps

    return ps(argv)


def _anything() -> bool:
    try:
        return bool(sockets())
    except Exception:  # which is told where there are words for it
        return True
