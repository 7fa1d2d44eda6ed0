"""`on_stop`: a block says how it is asked to stop, where a stop has to cross to another program."""

import inspect
from asyncio import CancelledError, _get_running_loop, get_running_loop
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Event
from types import TracebackType
from typing import Any

from .._scopes.scope import innermost
from .._words.errors import is_cancel
from .._words.text import short
from .._words.untouched import is_a
from .asking import Hook, hand_on, let_go, register, wake
from .checkpoint import is_obeying
from .operation import Operation, current_operation

__all__ = ["Block", "on_stop", "until_left"]

#: seconds until the same is asked again
_AGAIN = 0.1


def on_stop(
    ask: Callable[[], object] | Callable[[], Awaitable[object]],
    /,
    *,
    force: Callable[[], object] | Callable[[], Awaitable[object]] | None = None,
) -> "Block":
    """Say how a block is asked to stop: ``with calloff.on_stop(connection.cancel): cursor.execute(...)``.

    A stop ends Python code. What that code waits for may be in a library of C, or in another program (a query in the server
    of a database), where no exception arrives. With this, a stop of the operation while the block runs also runs `ask`.

    Args:
        ask: a function, which runs in a thread of its own, or an async function, which runs as a task; it runs once, and
            at once where the stop was asked for before the block. Of several blocks inside each other the innermost is
            asked first. What `ask` raises is logged under its name.
        force: the same for the end of the grace, beside `StopForced`.

    Returns:
        A context manager for ``with``, and in coroutines for ``async with``, which does not block the event loop while it
        waits. The block is left only when an `ask` that is being run has come to its end, or the grace has: a late
        one would hit whatever the connection does next. (A plain ``with`` can't wait for an async `ask`.) When the block
        raises an `Exception` after `ask` was run, that is how the work obeyed: the block raises
        `asyncio.CancelledError` in its place, with the error as its context.

    Raises:
        TypeError: `ask` or `force` can't be called. The caller's fault.

    It works in coroutines, threads and processes (there also while C code runs); outside any operation nothing is ever
    asked. In clean-up that a stop has set going, that stop asks nothing more. `StopReport.helped` names what was run.
    """
    _check_function(ask, "ask")
    if force is not None:
        _check_function(force, "force")
    return Block(ask, force)


class Block:
    """What `calloff.on_stop` returns: for one ``with`` or ``async with`` at a time."""

    __slots__ = ("_ask", "_cleaning", "_force", "_hook", "_operation")

    def __init__(self, ask: Callable[[], object], force: Callable[[], object] | None) -> None:
        self._ask = ask
        self._force = force
        self._hook: Hook | None = None
        self._operation: Any = None
        self._cleaning = False

    def __enter__(self) -> None:
        operation: Any = current_operation.get()
        if operation is None:
            return
        if self._hook is not None:
            raise RuntimeError("this on_stop() is in use: make one for each block")
        context = copy_context()
        context.run(_outside)
        loop = _get_running_loop()
        if loop is None and isinstance(operation, Operation):
            loop = operation.get_loop()
        hook = Hook(operation, self._ask, self._force, context, loop)
        self._operation, self._cleaning = operation, is_obeying()
        self._hook = hook
        if not isinstance(operation, Operation):
            operation.listen(hand_on)
        try:
            register(operation, hook)
            if operation.is_asked() and not self._cleaning:
                hook.start()
        except BaseException:
            self._leave(hook, None)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        hook = self._hook
        if hook is None:
            return
        try:
            self._leave(hook, error)
        except CancelledError:  # in this clause nobody asks again: it is a clean-up
            self._leave(hook, error)
            raise
        self._judge(hook, error)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        hook = self._hook
        if hook is None:
            return
        try:
            try:
                if self._is_asked(hook, error):
                    await self._come(hook)
            except CancelledError:  # in this clause nobody asks again: it is a clean-up
                while self._is_asked(hook, error) and not self._is_over(hook):
                    with suppress(CancelledError):
                        await self._come(hook)
                raise
        finally:
            self._left(hook)
        self._judge(hook, error)

    def _leave(self, hook: Hook, error: BaseException | None) -> None:
        """Wait in this thread, and let the hook go; may be interrupted, and called again.

        In the main thread of a worker, and where a block holds up the event loop, a stop is raised wherever the code is.
        """
        try:
            if self._is_asked(hook, error):
                while not self._is_over(hook) and not (hook.on_loop and hook.loop is _get_running_loop()):
                    hook.wait(max(0.0, self._operation.grace_left()))
        except CancelledError:
            raise
        except BaseException:
            self._left(hook)
            raise
        self._left(hook)

    def _is_asked(self, hook: Hook, error: BaseException | None) -> bool:
        """Whether the block was asked; one that leaves by a cancel of somebody else's (a scope's) is asked now."""
        if is_cancel(error) and not self._cleaning:
            hook.start()
        return not hook.withdraw()

    def _is_over(self, hook: Hook) -> bool:
        """Whether nothing keeps the block any longer."""
        return hook.ended or hook.pressed or self._operation.grace_left() <= 0

    async def _come(self, hook: Hook) -> None:
        """Wait for the end of what was run, or of the grace."""
        loop = get_running_loop()
        while not self._is_over(hook):
            hook.waiter = waiter = loop.create_future()
            if not self._is_over(hook):
                timer = loop.call_later(max(0.0, self._operation.grace_left()), wake, waiter)
                try:
                    await waiter
                finally:
                    timer.cancel()

    def _left(self, hook: Hook) -> None:
        self._hook = None
        if hook.begun and not hook.ended and not hook.on_loop:
            hook.tell_that_it_hangs()
        let_go(self._operation, hook, over=self._operation.done())

    def _judge(self, hook: Hook, error: BaseException | None) -> None:
        """An error of the block's own after it was asked is how it obeyed."""
        operation = self._operation
        if hook.begun and not self._cleaning and is_a(error, Exception) and operation.is_asked():
            reason = operation.asked_for()
            cancelled = CancelledError(*([reason] if reason else []))
            operation.obeys(cancelled)
            raise cancelled


class _UntilLeft(Block):
    """Its `ask` is run again until the block is left."""

    __slots__ = ("_is_left",)

    def __init__(self, ask: Callable[[], object], name: str) -> None:
        self._is_left = is_left = Event()

        def again() -> None:
            ask()
            while not is_left.wait(_AGAIN):
                ask()

        again.__qualname__ = name
        super().__init__(again, ask)

    def _leave(self, hook: Hook, error: BaseException | None) -> None:
        self._is_left.set()
        super()._leave(hook, error)


def until_left(ask: Callable[[], object], name: str) -> Block:
    """Ask a block, and again until it is left, for what hears nothing before it has begun; under that name.

    A block of a clean-up, which nobody asks, is asked at the end of the grace.
    """
    return _UntilLeft(ask, name)


def _check_function(function: object, what: str) -> None:
    if not callable(function):
        hint = ""
        if inspect.iscoroutine(function):
            function.close()
            hint = ": give the function itself, without calling it"
        raise TypeError(f"{what} of on_stop() must be a function without arguments, not {short(function)}{hint}")


def _outside() -> None:
    """What asks belongs to no operation: it would be called off with the one that it is to help."""
    current_operation.set(None)
    innermost.set(None)
