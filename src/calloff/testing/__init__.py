"""For those who test: prove beforehand that code survives being called off at every ``await``.

`VirtualLoop` is an event loop with a clock of its own, for tests that do not wait.
`sweep` runs an async function again and again and calls it off at every point at which it can be, in every phase, and
tells what breaks. The command line's face of it is ``calloff sweep``, pytest's is ``--cancel-sweep``.
"""

from .._door import lazy

TYPE_CHECKING = bool()  # noqa: UP018  # Jedi would skip what stands behind a plain False
if TYPE_CHECKING:
    from ._sweep.report import Finding as Finding
    from ._sweep.report import SweepReport as SweepReport
    from ._sweep.report import Violation as Violation
    from ._sweep.whole import sweep as sweep
    from ._virtual import VirtualLoop as VirtualLoop

_HOMES = {
    "_sweep.report": ("Finding", "SweepReport", "Violation"),
    "_sweep.whole": ("sweep",),
    "_virtual": ("VirtualLoop",),
}

if not TYPE_CHECKING:  # type checkers are to know the names above, and no others
    __all__, __getattr__, __dir__ = lazy(__name__, _HOMES)
