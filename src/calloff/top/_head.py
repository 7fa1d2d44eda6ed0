"""The first line of the screen: what runs, and how many end in a second; and what is said where nothing runs."""

from ..control import Overview
from ..control._rates import Rates, per_second, sparks
from ..control._records import STATES
from ._cells import clean

__all__ = ["NOTHING", "counted"]

NOTHING = """\
No operation runs that can be looked at.

A program is seen here when it is started by  calloff run,
with  calloff.run(main(), expose=True),  or with  CALLOFF_EXPOSE=1  in its environment."""

_SPARKS = 12


def counted(overview: Overview, rates: Rates, *, wide: bool) -> str:
    """The processes, how many operations are in each state, and how many have ended in each of the last seconds.

    Args:
        overview: what was seen.
        rates: what was seen before.
        wide: whether there is room to draw that.
    """
    number = len(overview.processes)
    parts = [f"{number} process" if number == 1 else f"{number} processes"]
    parts += [f"{overview.counts[state]} {state}" for state in STATES if overview.counts.get(state)]
    if ended := sparks(rates.series(), _SPARKS):
        drawn = f"{ended} " if wide else ""
        parts.append(f"{drawn}{per_second(rates.mean())} ended")
    if overview.silent:
        silent = ", ".join(f"{each.pid} {clean(' '.join(each.argv))[:30]}" for each in overview.silent)
        parts.append(f"no answer from {silent}")
    return " · ".join(parts)
