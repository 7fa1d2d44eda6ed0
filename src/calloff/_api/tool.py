"""`tool`: a function as a tool of an agent, which answers within its limit, whatever it does.

The decorated function has the signature, the annotations, the docstring and the globals of the original, since frameworks
make the schema that a model sees from these. Each call is an operation. Where that is stopped, the answer is a sentence
that a model can read, and a true one: what could not be ended is said to go on.
"""

import inspect
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial, update_wrapper
from importlib import import_module
from types import FunctionType
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, overload

from .._operation.operation import Operation
from .._places.process.packing import out_of_reach
from .._places.process.place import process
from .._places.thread.place import thread
from .._words.duration import delay, limit
from .._words.errors import TimedOut
from .._words.outcome import Abandoned, Cancelled, Completed
from .._words.reason import LIMITS, Kind, why
from .._words.report import Rung, StopReport
from .._words.text import short
from .awaiting import end_of
from .start import start

__all__ = ["bounded", "context_of", "dressed", "tool"]

P = ParamSpec("P")
T = TypeVar("T")
Beside = Callable[[Operation[Any]], AbstractAsyncContextManager[Any]]
Where = Literal["auto", "task", "thread", "process"]
OnTimeout = Literal["tell", "raise"]
_MARK = "__calloff_tool__"
#: stops that whoever called the tool has not asked for, and is told of
_TOLD = LIMITS | {Kind.REQUESTED}
#: what frameworks hand to a tool beside its arguments, by module and class: it belongs to their process
_CONTEXTS = {
    "agents": ("RunContextWrapper", "ToolContext"),
    "fastmcp": ("Context",),
    "langchain": ("ToolRuntime",),
    "langgraph": ("Runtime", "ToolRuntime"),
    "mcp": ("Context",),
    "pydantic_ai": ("RunContext",),
}


class Decorator(Protocol):
    """What `tool` returns when it gets no function."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, T]], /) -> Callable[P, Coroutine[Any, Any, T | str]]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> Callable[P, Coroutine[Any, Any, T | str]]: ...


class RaisingDecorator(Protocol):
    """What `tool` returns with ``on_timeout="raise"``: the answer is never a sentence."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, T]], /) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> Callable[P, Coroutine[Any, Any, T]]: ...


@overload
def tool(fn: Callable[P, Coroutine[Any, Any, T]], /) -> Callable[P, Coroutine[Any, Any, T | str]]: ...
@overload
def tool(fn: Callable[P, T], /) -> Callable[P, Coroutine[Any, Any, T | str]]: ...
@overload
def tool(
    *,
    timeout: float | None = 60.0,
    grace: float = 2.0,
    place: Where = "auto",
    on_timeout: Literal["raise"],
) -> RaisingDecorator: ...
@overload
def tool(
    *,
    timeout: float | None = 60.0,
    grace: float = 2.0,
    place: Where = "auto",
    on_timeout: OnTimeout = "tell",
) -> Decorator: ...
def tool(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    timeout: float | None = 60.0,
    grace: float = 2.0,
    place: Where = "auto",
    on_timeout: OnTimeout = "tell",
) -> Any:
    """Make a function a bounded tool of an agent: ``@calloff.tool`` or ``@calloff.tool(timeout=10)``.

    Args:
        fn: a blocking or an async function.
        timeout: seconds until a call is stopped; ``None`` for no limit.
        grace: seconds between asking it to stop and force.
        place: where it runs. ``auto``: an async function in a task; a blocking one in a process, which can always be ended
            together with every program that it started, or in a thread where it shares objects with the program (a
            method, a closure, a context of a framework, arguments that can't be sent).
        on_timeout: ``tell``: a call that is stopped returns a sentence for the model; ``raise``: it raises `TimedOut`
            (or `OperationCancelled`) with that sentence as its text.

    Returns:
        An async function with the signature, annotations and docstring of the original. Its calls end within
        timeout + grace + 1 s. Errors of the function are raised as they are. When the call itself is cancelled, the
        function is stopped, and then the cancel goes on.

    Raises:
        TypeError: no function, one that yields, or one that can't run at that place. The caller's fault.
        ValueError: a negative duration, an unknown place. The caller's fault.

    A function in a process sees what the program's modules have at their import, and what it changes there is lost.
    """
    limits: dict[str, Any] = {"timeout": timeout, "grace": grace, "place": place, "on_timeout": on_timeout}
    if fn is None:
        _check(**limits)
        return partial(bounded, **limits)
    return bounded(fn, **limits)


def _check(
    *, timeout: float | None = 60.0, grace: float = 2.0, place: Where = "auto", on_timeout: OnTimeout = "tell"
) -> tuple[float | None, float]:
    if timeout is not None:
        timeout = limit(timeout, "timeout")
    grace = delay(grace, "grace")
    if place not in ("auto", "task", "thread", "process"):
        raise ValueError(f"place must be auto, task, thread or process, not {short(place)}")
    if on_timeout not in ("tell", "raise"):
        raise ValueError(f"on_timeout must be tell or raise, not {short(on_timeout)}")
    return timeout, grace


def bounded(
    fn: Callable[..., Any],
    *,
    beside: Beside | None = None,
    as_error: Callable[[str], Exception] | None = None,
    **given: Any,
) -> Any:
    """Return the function as a tool.

    Args:
        fn: the function.
        beside: makes a block that lasts as long as a call.
        as_error: makes what is raised, of the sentence, in place of `TimedOut` and `OperationCancelled`.
        **given: as for `tool`.
    """
    timeout, grace = _check(**given)
    place, tells = given.get("place", "auto"), given.get("on_timeout", "tell") == "tell"
    if not callable(fn):
        raise TypeError(f"tool() needs a function, not {short(fn)}")
    name = _name(fn)
    where = _place_of(fn, name, place)

    async def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        limits: dict[str, Any] = {"name": name, "timeout": timeout, "grace": grace}
        operation = _start(fn, where, args, kwargs, limits)
        async with nullcontext() if beside is None else beside(operation):
            outcome = await end_of(operation, Kind.PARENT, "the call was cancelled")
        if isinstance(outcome, Completed):
            return outcome.value
        if isinstance(outcome, Cancelled | Abandoned) and outcome.reason.kind in _TOLD:
            if tells:
                return _sentence(name, outcome.report)
            if as_error is not None:
                raise as_error(_sentence(name, outcome.report))
            if outcome.reason.kind in LIMITS:
                raise TimedOut(operation.ref, outcome.reason, outcome.report, _sentence(name, outcome.report))
        return outcome.unwrap()

    async def call(*args: Any, **kwargs: Any) -> Any:
        return await run(args, kwargs)

    return dressed(call, fn)


# --- a call


def _start(
    fn: Callable[..., Any], where: str, args: tuple[Any, ...], kwargs: dict[str, Any], limits: dict[str, Any]
) -> Operation[Any]:
    if where == "task":
        return start(fn(*args, **kwargs), **limits)
    if where == "process" or (where == "either" and not _is_method(fn, args)):
        try:
            return start(process(_sendable(fn), *args, **kwargs), **limits)
        except TypeError:
            if where == "process":
                raise
    return start(thread(fn, *args, **kwargs), **limits)


def _is_method(fn: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    """Whether it is called as a method: its first argument is an object of the class that it is defined in."""
    home, _, _ = fn.__qualname__.rpartition(".")
    if not args or not home or home.endswith("<locals>"):
        return False
    first = args[0]
    return any(kind.__qualname__ == home for kind in (first if isinstance(first, type) else type(first)).__mro__)


def _sentence(name: str, report: StopReport) -> str:
    """What a model is told."""
    reason = report.reason
    if reason.kind in LIMITS:
        told = f"{name} was called off: it {why(reason)}."
    else:
        told = f"{name} was called off{f': {reason.text}' if reason.text else ''}."
    if report.rung is Rung.ABANDONED:
        return f"{told} It could not be stopped and still runs: what it does may yet take effect."
    if not report.started:
        return f"{told} It had not begun."
    return f"{told} It was {'killed' if report.rung is Rung.KILLED else 'stopped'} and does not run any more."


# --- the function


def _name(fn: Any) -> str:
    while isinstance(fn, partial):
        fn = fn.func
    return str(getattr(fn, "__name__", None) or type(fn).__name__)


def _place_of(fn: Any, name: str, place: Where) -> str:
    """Where it runs; ``either`` for a process if the arguments can be sent, else a thread."""
    target = inspect.unwrap(fn.func if isinstance(fn, partial) else fn)
    call = getattr(type(target), "__call__", None)  # noqa: B004  # of a callable object
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise TypeError(f"{name} is a generator function: it yields values, and a tool returns one")
    is_async = inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(call)
    context = context_of(target)
    if place == "process" and context is not None:
        raise TypeError(
            f"{name} can't run in a process: its parameter {context!r} is a context, which belongs to this process"
        )
    if is_async and place == "thread":
        raise TypeError(f"{name} is an async function, which runs in a task or in a process, not in a thread")
    if not is_async and place == "task":
        raise TypeError(f"{name} is a blocking function, which runs in a process or a thread, not in a task")
    if place != "auto":
        return place
    if is_async:
        return "task"
    shares = (
        context is not None or not isinstance(target, FunctionType) or target.__closure__ or isinstance(fn, partial)
    )
    return "thread" if shares or sys.platform != "linux" else "either"


def context_of(target: Any) -> str | None:
    """The name of a parameter for which a framework gives a context, if there is one."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return None
    for parameter in parameters:
        kind = parameter.annotation
        if isinstance(kind, str):
            kind = getattr(target, "__globals__", {}).get(kind.partition("[")[0])
        kind = getattr(kind, "__origin__", kind)
        names = _CONTEXTS.get(str(getattr(kind, "__module__", "")).partition(".")[0], ())
        if getattr(kind, "__name__", "") in names:
            return parameter.name
    return None


class _ByName(partial[Any]):
    """The original function, sent to a process as the name under which the decorated one is found there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _original, (self.func.__module__, self.func.__qualname__)


def _sendable(fn: Any) -> Any:
    """What is sent to a process in its place: by its name where that will do, else the function by its code."""
    if not isinstance(fn, FunctionType) or fn.__module__ == "__main__" or out_of_reach(fn) is not None:
        return fn
    found: Any = sys.modules.get(fn.__module__)
    for part in fn.__qualname__.split("."):
        found = getattr(found, part, None)
    function: Callable[..., Any] = fn
    return _ByName(function) if getattr(found, _MARK, None) is fn else function


def _original(module: str, name: str) -> Any:
    """In the process: the function behind the decorated one."""
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return getattr(found, _MARK)


def dressed(call: Any, fn: Any) -> Any:
    """An async function that looks like `fn`, with its globals: annotations that are texts are looked up there."""
    target = inspect.unwrap(fn.func if isinstance(fn, partial) else fn)
    scope = getattr(target, "__globals__", None)
    dressed: Any = call if scope is None else FunctionType(call.__code__, scope, call.__name__, None, call.__closure__)
    update_wrapper(dressed, fn)
    setattr(dressed, _MARK, fn)
    return dressed
