"""How hard and how soon: every number of the ladder in one frozen object."""

import signal
from typing import NamedTuple

__all__ = ["DEFAULT", "Policy"]


class Policy(NamedTuple):
    """The timing of a stop, all durations in seconds.

    Attributes:
        grace: from the polite request to force.
        last: from force until the body is abandoned.
        forced: the longest grace of what is called off by something that force is being used on.
        tearing: how long it may take to end what blocks the event loop and catches force, when nothing else has helped.
        retry: the first pause before asking again a body that refused.
        factor: each further pause is this many times longer.
        longest: the longest pause between two askings.
        slack: how late the event loop may be before it counts as blocked and is interrupted.
        longest_grace: what a grace without end is cut to, so that every point lies on the clock.
        polite: the signal that asks a command to end.
        final: the signal that ends a process.
    """

    grace: float = 5.0
    last: float = 1.0
    forced: float = 0.25
    tearing: float = 0.2
    retry: float = 0.01
    factor: float = 3.0
    longest: float = 2.0
    slack: float = 0.02
    longest_grace: float = 1e9
    polite: int = signal.SIGTERM
    final: int = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has none

    def pause(self, asked: int) -> float:
        """The pause after the `asked`-th asking (from 1): exponential back-off, capped."""
        return min(self.retry * self.factor ** min(asked - 1, 64), self.longest)


DEFAULT = Policy()
