"""What the suite of places asks for, where blocking functions run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from conformance import bodies

from calloff.testing.conformance import PlaceConformance


class OfFunctions(PlaceConformance):
    """A place that says with `at` how a function is run there."""

    where_shows = "wait"
    traceback_shows = "in fail"
    at: Callable[..., Any]

    def returns(self, value: str) -> Any:
        return self.at(bodies.give, value)

    def raises(self, text: str) -> Any:
        return self.at(bodies.fail, text)

    def waits(self, mark: Path) -> Any:
        return self.at(bodies.wait, mark)

    def refuses(self, mark: Path) -> Any:
        return self.at(bodies.refuse, mark)

    def declines(self, mark: Path, value: str) -> Any:
        return self.at(bodies.decline, mark, value)

    def cleans_up(self, mark: Path, done: Path) -> Any:
        return self.at(bodies.clean_up, mark, done)

    def reports(self, mark: Path) -> Any:
        return self.at(bodies.report, mark)

    def looks(self) -> Any:
        return self.at(bodies.look)
