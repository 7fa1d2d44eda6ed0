"""The Model Context Protocol: servers that leave nothing behind, and stops and progress that cross to them and back.

    async with calloff.mcp.stdio(params) as streams, ClientSession(*streams) as session:
        ...

For versions 1 and 2 of the package ``mcp``, which is not imported before one of these is called.
"""

from .._door import lazy

TYPE_CHECKING = bool()  # noqa: UP018  # Jedi would skip what stands behind a plain False
if TYPE_CHECKING:
    from ._client import call_tool as call_tool
    from ._client import stdio as stdio
    from ._server import tool as tool

_HOMES = {
    "_client": ("call_tool", "stdio"),
    "_server": ("tool",),
}

if not TYPE_CHECKING:  # type checkers are to know the names above, and no others
    __all__, __getattr__, __dir__ = lazy(__name__, _HOMES)
