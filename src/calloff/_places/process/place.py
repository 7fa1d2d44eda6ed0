"""The word `process`: says that a function is to run in a worker process, and holds the settings of all of them."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, TypeVar, overload

from ..._words.given import name_of, need_function, whole
from .body import ProcessWork
from .pool import SETTINGS, ProcessCounts, pools

__all__ = ["Processes", "process"]

P = ParamSpec("P")
T = TypeVar("T")


class Processes:
    """The type of `calloff.process`: called, it makes work; its methods are about all workers of the process."""

    @overload
    def __call__(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> ProcessWork[T]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> ProcessWork[T]: ...
    def __call__(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> ProcessWork[Any]:
        """Work that calls a function in a worker process: ``calloff.start(calloff.process(fn, 1))``.

        Args:
            fn: a blocking function, or an async one, which gets an event loop of its own there. Functions that can't be
                imported (lambdas, nested ones, those of the main script) are sent by value.
            *args: its arguments, as they are when the operation is started.
            **kwargs: its keyword arguments.

        Returns:
            Work for `start` and `call`. Those raise `TypeError` for what can't be sent, and say what it is. While as
            many functions run as there may be workers, a further one waits its turn, in state `pending`; its timeout
            counts from its begin. Errors of the function arrive with its traceback as their cause; `WorkerDied` says
            that the process died by itself: the function's fault (a crash, `sys.exit`, too much memory).

        Raises:
            TypeError: `fn` can't be called. The caller's fault.

        When the operation is asked to stop, `asyncio.CancelledError` is raised in the function where it is, also inside
        a call that blocks. After its grace the process and everything below it is killed. Whatever the function has
        started and left behind is killed before its result is told.
        """
        need_function(fn, "process() needs a function that is not called yet, as in process(fn, 1)")
        return ProcessWork(fn, args, kwargs, name_of(fn))

    def configure(
        self,
        *,
        size: int | None = None,
        spares: int | None = None,
        preload: Iterable[str] | None = None,
        max_jobs: int | None = None,
    ) -> None:
        """Change the settings; what is not given stays. They apply to what starts from now on.

        Args:
            size: how many functions may run at a time, per event loop; at first the number of CPUs, but at least 4.
            spares: how many idle workers are kept ready beyond those that run; 1 at first.
            preload: names of modules that a worker imports before it takes work; none at first.
            max_jobs: after how many functions a worker is replaced by a fresh one; 0 for never, as at first.

        Raises:
            TypeError: not a whole number, or not names. The caller's fault.
            ValueError: `size` below 1, or another below 0. The caller's fault.
        """
        size = SETTINGS.size if size is None else whole(size, "size", 1)
        spares = SETTINGS.spares if spares is None else whole(spares, "spares", 0)
        if isinstance(preload, str):
            raise TypeError(f"preload must be a list of names of modules, not {preload!r}")
        names = SETTINGS.preload if preload is None else tuple(preload)
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"preload must be a list of names of modules, not {preload!r}")
        jobs = SETTINGS.max_jobs if max_jobs is None else whole(max_jobs, "max_jobs", 0) or None
        SETTINGS.size, SETTINGS.spares, SETTINGS.preload, SETTINGS.max_jobs = size, spares, names, jobs

    def restart(self) -> None:
        """Replace the workers: those that are idle now, the others when they have ended what they do.

        Workers import modules once and keep them. A function whose own module was written anew gets a fresh worker by
        itself; after changes to modules that it imports, call this.
        """
        for pool in list(pools.values()):
            if pool.loop.is_closed():
                pool.close()  # its workers would go over to the next loop
            else:
                pool.restart()

    def counts(self) -> ProcessCounts:
        """How many workers run, idle, and how many functions wait for one, over all event loops."""
        found = [pool for loop, pool in list(pools.items()) if not loop.is_closed()]
        return ProcessCounts(
            sum(pool.busy for pool in found),
            sum(worker.ready for pool in found for worker in pool.idle),
            sum(len(pool.waiting) for pool in found),
        )

    def __repr__(self) -> str:
        return "<calloff.process>"


process: Processes = Processes()
