"""What blocks have said about how they are asked to stop (`on_stop`), and the threads and tasks in which that is done.

Each block that is being run has a `Hook` in `handed`, under its operation. When that is asked to stop, `hand_on` runs
what the hooks say, the innermost first; when its grace is over, `press` runs what they say for that. An operation without
hooks is not in `handed`, and pays nothing but the look there.

Who runs a hook and who leaves its block may come at the same moment, in two threads. A hook has one ticket, which is taken
in a single step: either the block was left first, and nothing is run any more, or it is run, and the block is left when
that has ended. So nothing here needs a lock, which a signal handler might find taken.

What is run may hang. It has a daemon thread of its own, or a task, for which nobody waits longer than to the end of the
grace; and no step of the ladder waits for it at all.
"""

import asyncio
import inspect
import logging
from _queue import SimpleQueue
from asyncio import AbstractEventLoop, CancelledError, Future
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from threading import Thread
from typing import Any, Protocol

__all__ = ["Asked", "Hook", "hand_on", "handed", "let_go", "press", "register", "wake"]

_logger = logging.getLogger("calloff")
#: how long a hook further out waits for the end of the one further in, before it is run beside it
_PATIENCE = 0.1
#: seconds that a task which asks gets at least
_SHORT = 1.0


class Asked(Protocol):
    """The operation, as a hook sees it; in a worker of the process place, what stands there for it."""

    @property
    def ref(self) -> Any:
        """Id and name."""
        ...

    def grace_left(self) -> float:
        """Seconds until force is due, below zero when it has passed; the whole grace while nobody has asked."""
        ...

    def helped(self, name: str, /) -> None:
        """A hook of that name is run."""


class Hook:
    """How one block is asked to stop, while it is being run.

    Attributes:
        loop: the event loop of the block, where it has one.
        begun: whether `ask` is run, or was.
        on_loop: whether that is done by a task of `loop`.
        ended: whether it has come to its end, well or not.
        pressed: whether the grace is over.
        waiter: what a block waits for that is left by ``async with``.
    """

    __slots__ = (
        "_ask",
        "_bell",
        "_context",
        "_force",
        "_operation",
        "_ticket",
        "_told",
        "_withdrawn",
        "begun",
        "ended",
        "loop",
        "name",
        "on_loop",
        "pressed",
        "waiter",
    )

    def __init__(
        self,
        operation: Asked,
        ask: Callable[[], object],
        force: Callable[[], object] | None,
        context: Context,
        loop: AbstractEventLoop | None,
    ) -> None:
        self._operation = operation
        self._ask = ask
        self._force = force
        self._context = context
        self.loop = loop
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._told = self._withdrawn = False
        self._ticket = [None]
        self.name = _name(ask)
        self.begun = self.on_loop = self.ended = self.pressed = False
        self.waiter: Future[None] | None = None

    def take(self) -> bool:
        """Take the ticket: ``True`` for the first one who does."""
        try:
            self._ticket.pop()
        except IndexError:
            return False
        return True

    def withdraw(self) -> bool:
        """Have it never begin, for the block that is left; ``False`` when it has, or is about to in another thread."""
        if not self._withdrawn:
            self._withdrawn = self.take()
        return self._withdrawn

    def start(self) -> bool:
        """Run `ask`, unless it was run before or the block was left; ``False`` when nothing was begun."""
        if not self.take():
            return False
        self.begun = True
        self._operation.helped(self.name)
        self._run(self._ask, self.name, self._done)
        return True

    def press(self) -> None:
        """The grace is over: run what is to be done then, and keep nobody in the block any longer."""
        if self.begun and not self.ended:
            self.tell_that_it_hangs()
        self.pressed = True
        if self._force is not None:
            force, self._force = self._force, None
            self._run(force, _name(force), _nothing)
        self._ring()

    def wait(self, seconds: float) -> bool:
        """Wait in this thread until it has ended or the grace is over, at most so long; whether there was news."""
        try:
            self._bell.get(timeout=seconds)
        except Exception:  # the queue's `Empty`, whose home is another module
            return False
        return True

    def tell_that_it_hangs(self) -> None:
        """Name it in the log, once."""
        if not self._told:
            self._told = True
            _logger.warning(
                "%s: %s, which is to ask it to stop, has not come to its end", self._operation.ref, self.name
            )

    def _done(self) -> None:
        self.ended = True
        self._ring()

    def _goes_on(self) -> None:
        self.on_loop = True
        self._ring()

    def _ring(self) -> None:
        self._bell.put(None)
        waiter = self.waiter
        if waiter is not None:
            _soon(waiter.get_loop(), wake, waiter)

    # --- running something of the block's

    def _run(self, function: Callable[[], object], name: str, done: Callable[[], None]) -> None:
        loop = self.loop
        try:
            if loop is not None and inspect.iscoroutinefunction(_plain(function)):
                self.on_loop = True
                if not _soon(loop, self._begin, function, name, done):
                    done()
            else:
                Thread(target=self._call, args=(function, name, done), name=f"calloff-{name}", daemon=True).start()
        except Exception:  # no further thread can be had
            self._failed(name)
            done()

    def _call(self, function: Callable[[], object], name: str, done: Callable[[], None]) -> None:
        """In a thread."""
        loop = self.loop
        try:
            found = self._context.copy().run(function)
            if inspect.iscoroutine(found):
                if loop is None:
                    asyncio.run(found)
                elif _soon(loop, self._begin, partial(_itself, found), name, done):
                    done = self._goes_on
                else:
                    found.close()
        except BaseException:
            self._failed(name)
        finally:
            done()

    def _begin(self, function: Callable[[], Any], name: str, done: Callable[[], None]) -> None:
        """On the loop: ask by a task."""
        try:
            loop = asyncio.get_running_loop()
            task = loop.create_task(self._await(function, name), name=f"calloff-{name}", context=self._context.copy())
        except BaseException:
            self._failed(name)
            done()
            return
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        task.add_done_callback(lambda _: done())

    async def _await(self, function: Callable[[], Coroutine[Any, Any, object]], name: str) -> None:
        operation = self._operation
        try:
            async with asyncio.timeout(max(_SHORT, operation.grace_left())):
                await function()
        except (Exception, CancelledError):
            self._failed(name)

    def _failed(self, name: str) -> None:
        _logger.warning("%s: %s, which is to ask it to stop, failed", self._operation.ref, name, exc_info=True)


#: the hooks of the blocks that are being run, by operation, outermost first
handed: dict[Any, dict[Hook, None]] = {}
#: the tasks that ask, held strongly
_tasks: set[asyncio.Task[None]] = set()


def register(operation: object, hook: Hook) -> None:
    """A block of the operation begins."""
    handed.setdefault(operation, {})[hook] = None


def let_go(operation: object, hook: Hook, *, over: bool) -> None:
    """The block is left; `over` tells that its operation is, too, so that nobody else tidies up."""
    hooks = handed.get(operation)
    if hooks is not None:
        hooks.pop(hook, None)
        if over and not hooks:
            handed.pop(operation, None)


def hand_on(operation: object) -> None:
    """The operation was asked to stop: so are its blocks. Returns at once; from any thread."""
    hooks = [hook for hook in tuple(handed.get(operation, ())) if not hook.begun][::-1]
    if len(hooks) == 1:
        hooks[0].start()
    elif hooks:
        try:
            Thread(target=_one_by_one, args=(hooks,), name="calloff-on-stop", daemon=True).start()
        except Exception:
            _logger.warning("the blocks of an operation are asked to stop all at once: no thread", exc_info=True)
            for hook in hooks:
                hook.start()


def press(operation: object) -> None:
    """The grace of the operation is over. Returns at once."""
    for hook in tuple(handed.get(operation, ()))[::-1]:
        hook.press()


def _one_by_one(hooks: list[Hook]) -> None:
    for hook in hooks:
        if hook.start() and not hook.ended:
            bell: SimpleQueue[None] = hook._bell
            if hook.wait(_PATIENCE):
                bell.put(None)  # whoever leaves the block is to hear of it, too


def _soon(loop: AbstractEventLoop, callback: Callable[..., object], *args: object) -> bool:
    """Call on the loop; ``False`` when it was closed."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        return False
    return True


def wake(waiter: "Future[None]") -> None:
    """On the loop: end the waiting for a hook."""
    if not waiter.done():
        waiter.set_result(None)


def _plain(function: Any) -> Any:
    while isinstance(function, partial):
        function = function.func
    return function


def _name(function: Any) -> str:
    function = _plain(function)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).rpartition("<locals>.")[2]


async def _itself(found: Coroutine[Any, Any, object]) -> object:
    return await found


def _nothing() -> None:
    pass
