"""``calloff attach``: make a program visible that was started without calloff."""

import sys

from ..control._attaching import CannotAttach, attach
from ..control._client import Client
from ..control._records import Query
from ._control import answer
from ._options import parser, time_limit
from ._ps import tell
from ._refusal import Refused

__all__ = ["main"]

USAGE = "calloff attach [OPTION...] PID"
EPILOG = """\
The program goes on as it is; from now on its tasks are seen by `calloff ps --tasks` and the other verbs, with the line at
which each of them stands, and can be called off. It needs Python 3.14 or newer on Linux, the same version for this command
and for the program, the same user, and the rights of a debugger (root, or what kernel.yama.ptrace_scope allows). A main
thread that sleeps, waits for a lock or is in C code can't be reached.

Exit status: 0, also when it was visible before; 2 for a wrong command line; 3 when it can be seen, but does not answer; 125
when it can't be done, with the reason."""


def main(argv: list[str]) -> int:
    """The verb: attaches, lists what is seen now, and returns the exit status."""
    options = parser("attach", USAGE, "Make a program visible that was started without calloff.", EPILOG)
    options.add_argument("pid", metavar="PID", help="the number of its process")
    options.add_argument("--wait", metavar="D", default="5s", help="how long it may take to answer (5s)")
    given = options.parse_args(argv)
    patience = time_limit("wait", given.wait)
    if not (given.pid.isascii() and given.pid.isdigit() and 0 < int(given.pid) < 1 << 31):
        raise Refused(f"PID must be the number of a process, not {given.pid!r}")
    pid = int(given.pid)
    try:
        fresh = attach(pid, patience)
    except CannotAttach as problem:
        raise Refused(str(problem), 125) from None
    if not fresh:
        sys.stderr.write(f"calloff attach: process {pid} could be seen already\n")
    return answer(_show(pid))


async def _show(pid: int) -> int:
    """List what is seen of it now."""
    async with Client() as client:
        overview = await client.list(Query(ids=(f"{pid}.",), tasks=True))
    if any(process.pid == pid for process in overview.silent):
        sys.stderr.write(f"calloff attach: process {pid} can be seen now, but does not answer\n")
        return 3
    if overview.rows:
        tell(overview, as_json=False, tree=True, filtered=True, plain=0)
    else:
        sys.stderr.write(f"calloff attach: process {pid} can be seen now: no task runs in it\n")
    return 0
