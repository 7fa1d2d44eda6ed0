"""For those who test: prove beforehand that code survives being called off at every ``await``.

`sweep` runs an async function again and again and calls it off at every point at which it can be, in every phase, and
tells what breaks. The command line's face of it is ``calloff sweep``, pytest's is ``--cancel-sweep``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._sweep.report import Finding as Finding
    from ._sweep.report import SweepReport as SweepReport
    from ._sweep.report import Violation as Violation
    from ._sweep.whole import sweep as sweep

_HOME = {
    "Finding": "_sweep.report",
    "SweepReport": "_sweep.report",
    "Violation": "_sweep.report",
    "sweep": "_sweep.whole",
}

__all__ = ["Finding", "SweepReport", "Violation", "sweep"]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'calloff.testing' has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    value.__module__ = __name__
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
