"""The word `thread`: says that a blocking function is to run in a thread, and holds the settings of all of them."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from ..._words.duration import delay
from ..._words.given import name_of, need_function, whole
from .body import ThreadWork
from .pool import POOL, ThreadCounts

__all__ = ["Threads", "thread"]

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """The type of `calloff.thread`: called, it makes work; its methods are about all threads of the process."""

    def __call__(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> ThreadWork[T]:
        """Work that calls a blocking function in a thread: ``calloff.start(calloff.thread(fn, 1))``.

        Args:
            fn: the function; it runs in a copy of the context of the caller of `start`.
            *args: its arguments.
            **kwargs: its keyword arguments.

        Returns:
            Work for `start` and `call`, which raise `CalloffError` when too many threads are abandoned. While as many
            calls run as there may be threads, a further one is `pending`; its limits count from the start of the call.

        Raises:
            TypeError: `fn` can't be called, or is an async function. The caller's fault. A call that returns a
                coroutine all the same, behind a decorator, ends with `TypeError`.

        When the operation is asked to stop, `checkpoint` raises in the function. After its grace, `StopForced` is
        raised in it at its next bytecode: Python code ends there, also inside a ``with`` block or a clean-up. A call
        that blocks in C code (`time.sleep`, a socket read, a lock) is not reached before it returns; a second later it
        is abandoned: control comes back, the thread is replaced and never waited for, not even at the program's end.
        """
        need_function(fn, "thread() needs a function that is not called yet, as in thread(fn, 1)")
        name = name_of(fn)
        if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__):
            raise TypeError(f"{name} is an async function, which runs in a task: calloff.start({name}(...))")
        return ThreadWork(partial(fn, *args, **kwargs), name, POOL)

    def configure(
        self, *, size: int | None = None, max_abandoned: int | None = None, idle: float | None = None
    ) -> None:
        """Change the settings; what is not given stays. They apply to what starts from now on.

        Args:
            size: how many calls may run at a time; 256 at first.
            max_abandoned: from how many abandoned threads on `start` refuses further ones; 64 at first.
            idle: after how many seconds without work a thread ends; 10 at first.

        Raises:
            TypeError: not a number. The caller's fault.
            ValueError: `size` below 1, or another below 0. The caller's fault.
        """
        size = POOL.size if size is None else whole(size, "size", 1)
        max_abandoned = POOL.max_abandoned if max_abandoned is None else whole(max_abandoned, "max_abandoned", 0)
        idle = POOL.idle if idle is None else min(delay(idle, "idle"), 1e6)
        POOL.size, POOL.max_abandoned, POOL.idle = size, max_abandoned, idle

    def counts(self) -> ThreadCounts:
        """How many threads run, idle, or are abandoned now, and how many calls wait for one."""
        return POOL.counts()

    def __repr__(self) -> str:
        return "<calloff.thread>"


thread: Threads = Threads()
