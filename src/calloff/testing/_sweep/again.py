"""The call to repeat: a test makes its own world, so the test run again says nothing, but what it had called does.

When a test is called off within ``await query(pool)``, that very call is made once more afterwards, with the same
arguments. Whether that can be done is seen without a cancel: the call runs to its end, the test is left there, as a
cancel would leave it, and the call is made again.
"""

import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from types import AsyncGeneratorType, CellType, CoroutineType, FunctionType
from typing import Any, NamedTuple

from .points import chain, is_ours, is_python

__all__ = ["Call", "callee", "name_of"]


#: a second call would find them used up; other awaitables (a connection that may be opened by ``await``) last
_ONCE = (Coroutine, Generator, AsyncGenerator)


class Call(NamedTuple):
    """A call that can be made again."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self) -> Any:
        return self.function(*self.args, **self.kwargs)

    @classmethod
    def of(cls, coro: Any) -> "Call | None":
        """The call that made a coroutine; ``None`` where its arguments are gone or can be used only once."""
        frame = coro.cr_frame
        code, known = frame.f_code, frame.f_locals
        about = inspect.getargvalues(frame)
        names = about.args[: code.co_argcount]
        only = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        if any(name not in known or isinstance(known[name], _ONCE) for name in (*names, *only)):
            return None
        cells = tuple(CellType(known[name]) if name in known else CellType() for name in code.co_freevars)
        function = FunctionType(code, frame.f_globals, code.co_name, None, cells)
        more = known[about.varargs] if about.varargs else ()
        kwargs = {name: known[name] for name in only} | (known[about.keywords] if about.keywords else {})
        return cls(function, (*(known[name] for name in names), *more), kwargs)


def callee(coro: object) -> Any:
    """What a suspended coroutine has called and waits for: the first below it that is not Python's own."""
    steps = iter(chain(coro))
    for _, frame in steps:
        if not is_ours(frame.f_code.co_filename):
            break
    for part, frame in steps:
        if type(part) is AsyncGeneratorType:
            return None
        if type(part) is CoroutineType and not is_python(frame.f_code.co_filename):
            return part
    return None


def name_of(coro: Any) -> str:
    """Which function it is a call of; ``""`` for none."""
    return "" if coro is None else f"{coro.cr_code.co_filename}:{coro.cr_code.co_qualname}"
