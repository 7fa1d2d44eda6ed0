"""``calloff sweep``: its options. What is done with them is `calloff.testing._cli`'s."""

import argparse

from .._words.errors import CalloffError
from ..testing._cli import HOWS, ORACLES, PHASES, Usage, carry_out
from ._options import parser, time_limit, whole
from ._refusal import Refused

__all__ = ["main"]

USAGE = "calloff sweep [OPTION...] TARGET"
EPILOG = """\
TARGET is path/to/file.py:function or package.module:function. The functions of the world around it (--setup and the others)
are async and in the same file. Each finding has an ID, and a last line that repeats that one cancel.

Durations: 3, 3s, 500ms, 1m30s, 2h.

Exit status:
    0  all is safe
    1  something is unsafe
    2  the command line was wrong, or the function fails without any cancel
    3  nothing is unsafe, but something unresolved
  130  interrupted"""


def main(argv: list[str]) -> int:
    """The verb: returns the exit status."""
    options = _read(argv)
    try:
        return carry_out(options, "calloff sweep")
    except Usage as error:
        raise Refused(str(error)) from None
    except CalloffError as error:
        raise Refused(str(error), 125) from None


def _read(argv: list[str]) -> argparse.Namespace:
    about = "Run an async function again and again, call it off at every await, and tell what breaks."
    reader = parser("sweep", USAGE, about, EPILOG)
    reader.add_argument("target", metavar="TARGET", help="the function, or with --request the application")

    add = reader.add_argument_group("the world around it").add_argument
    add("--setup", metavar="NAME", help="makes what one run needs; what it returns is given to the others")
    add("--check", metavar="NAME", help="raises or returns False where the world is not as it should be afterwards")
    add("--teardown", metavar="NAME", help="ends what the set-up made")
    add("--bystander", metavar="NAME", help="runs beside it and must come to its end")
    add("--request", metavar="LINE", help="TARGET is an ASGI application: send it this, 'GET /items'")
    add("--header", metavar="H", action="append", default=[], help="of the request: 'name: value'")
    add("--body", metavar="TEXT", default="", help="of the request")
    item = "TARGET takes one, as for calloff map: call the first off, the others beside it"
    add("--item", metavar="X", action="append", default=[], help=item)

    add = reader.add_argument_group("how it is called off").add_argument
    how = "cancel, deadline, operation (with --item), interrupt, or disconnect: the client of a --request goes away"
    add("--how", metavar="HOW", choices=(*HOWS, "disconnect"), help=f"{how} (cancel)")
    add("--phases", metavar="LIST", default=",".join(PHASES), help="when: of %(default)s")
    add("--no-children", action="store_true", help="leave the tasks that it starts alone")
    add("-t", "--timeout", metavar="D", default="5", help="for it and its clean-up (5s)")

    add = reader.add_argument_group("which cancels").add_argument
    add("--max", metavar="N", dest="max_runs", help="at most so many")
    add("--replay", metavar="ID", help="only that of one finding, with its output shown")
    add("--resume", metavar="FILE", help="keep results here, and try only what is missing")
    add("-j", "--jobs", metavar="N", default="1", help="runs at once (1)")

    add = reader.add_argument_group("what is told").add_argument
    add("--without", metavar="LIST", default="", help=f"oracles to leave out, of {', '.join(ORACLES)}")
    add("--known", metavar="FILE", help="findings to live with: a line each, ID and the reason")
    add("--json", action="store_true", help="print one JSON document")
    add("--html", metavar="FILE", help="write the report as a page, too")
    options = reader.parse_args(argv)
    if options.max_runs is not None:
        options.max_runs = whole("max", options.max_runs, 1)
    options.jobs = whole("jobs", options.jobs, 1)
    time_limit("timeout", options.timeout)  # and it stays as it was typed, to be repeated with a finding
    return options
