"""The tests that every place passes: for those who write a place of their own, and for calloff itself.

Subclass `PlaceConformance` in a test module, say how to make work at the place, and run pytest:

    from calloff.testing.conformance import PlaceConformance, beat

    class TestMyPlace(PlaceConformance):
        place = "mine"

        def returns(self, value):
            return my_place(lambda: value)
        ...
"""

import pytest

pytest.register_assert_rewrite(
    "calloff.testing._conformance_glass", "calloff.testing._conformance_run", "calloff.testing._conformance_stop"
)

from ._conformance import beat  # noqa: E402
from ._conformance_glass import GlassTests  # noqa: E402
from ._conformance_run import RunTests  # noqa: E402
from ._conformance_stop import StopTests  # noqa: E402

__all__ = ["PlaceConformance", "beat"]


class PlaceConformance(RunTests, StopTests, GlassTests):
    """The conformance suite of a place; its attributes and hooks are those of `Place`."""
