"""For programs that are packed into one executable (PyInstaller, cx_Freeze, Nuitka): they are their own interpreter.

Functions in processes and commands hang on a helper process, which is the Python interpreter running a part of calloff.
A packed program has no interpreter to start; it can only start itself once more. So its main module says first thing
that it may be started for that::

    import calloff.freezing

    if __name__ == "__main__":
        calloff.freezing.freeze_support()
        calloff.run(main())

It is the convention of `multiprocessing.freeze_support`. Without it a packed program that starts a command is refused
with a `CalloffError`; coroutines and threads need nothing of the kind.
"""

import os
import sys

__all__ = ["freeze_support"]

#: the first argument of a packed program that is started as the helper process
_WORD = "--calloff-keeper"
#: in the environment of a helper process that is being started; taken out of it as soon as that runs
MARK = "CALLOFF_KEEPER_OF"
_supported: "list[bool]" = []


def freeze_support() -> None:
    """Be calloff's helper process when the program was started as that, and never return; else only take note.

    To be called first in the main module of a packed program. In a program that is not packed it does nothing.
    """
    _supported.append(True)
    if sys.argv[1:2] == [_WORD] and MARK in os.environ:
        from ._child.keeper import main

        main(sys.argv[2:])


def is_frozen() -> bool:
    """Whether this program is packed: what `sys.executable` names is the program itself."""
    return bool(getattr(sys, "frozen", False)) or "__compiled__" in vars(sys.modules.get("__main__", object))


def is_supported() -> bool:
    """Whether it has said that it may be started as the helper process."""
    return bool(_supported)


def arguments(owner: int) -> "list[str]":
    """The arguments with which it is started as that."""
    return [_WORD, str(owner)]


def started_by_mistake() -> None:
    """calloff is imported where the helper process should have begun: end, unless it will begin later.

    That is so in a packed program, which imports its modules before it calls `freeze_support`. Any other was started
    because `sys.executable` named it; going on, it would start itself without end.
    """
    if sys.argv[1:2] == [_WORD]:
        from ._child import inside

        sys.modules["_calloff._child.inside"] = inside  # where calloff looks in a worker for the operation
        return
    stop("it is the program itself, started once more, and no Python")


def stop(why: str) -> None:
    """End this process at once, with a word for the one that has started it."""
    try:
        os.write(2, f"{sys.executable}: {why}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(125)
