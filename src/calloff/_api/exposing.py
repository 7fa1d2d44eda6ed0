"""Whether a program lets itself be seen by the command line: what `calloff.run` was told, and the environment."""

import os
from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib import import_module

__all__ = ["exposer"]


def exposer(expose: bool | None) -> Callable[[AbstractEventLoop], AbstractContextManager[object]]:
    """What makes the program visible to the command line, when that is asked for; ``None``: if it can be."""
    said = os.environ.get("CALLOFF_EXPOSE")
    if said == "0" or (expose is False and said != "1"):
        return nullcontext
    exposed: Callable[..., AbstractContextManager[object]] = import_module("calloff.control._server").exposed
    return partial(exposed, quiet=expose is None)
