"""See from outside what runs, and call it off: the public client of the control sockets, and `expose`.

Names are loaded when they are first used: a program that is exposed pays for none of this before somebody looks.
"""

from .._door import lazy

TYPE_CHECKING = bool()  # noqa: UP018  # Jedi would skip what stands behind a plain False
if TYPE_CHECKING:
    from ._client import Client as Client
    from ._client import Overview as Overview
    from ._errors import Ambiguous as Ambiguous
    from ._errors import ControlError as ControlError
    from ._errors import NotFound as NotFound
    from ._errors import Unreachable as Unreachable
    from ._links import Process as Process
    from ._links import processes as processes
    from ._records import VERSION as VERSION
    from ._records import Cause as Cause
    from ._records import Detail as Detail
    from ._records import Frame as Frame
    from ._records import Query as Query
    from ._records import Row as Row
    from ._records import Step as Step
    from ._records import Stopped as Stopped
    from ._records import Usage as Usage
    from ._server import expose as expose

_HOMES = {
    "_client": ("Client", "Overview"),
    "_errors": ("Ambiguous", "ControlError", "NotFound", "Unreachable"),
    "_links": ("Process", "processes"),
    "_records": ("VERSION", "Cause", "Detail", "Frame", "Query", "Row", "Step", "Stopped", "Usage"),
    "_server": ("expose",),
}

if not TYPE_CHECKING:  # type checkers are to know the names above, and no others
    __all__, __getattr__, __dir__ = lazy(__name__, _HOMES)
