"""For programs that a supervisor runs (systemd, Kubernetes): how they are, and what they tell it.

    calloff.run(main, notify="auto")

sends what ``sd_notify(3)`` describes where the supervisor asks for it: ready, stopping, and signs of life from the event
loop, which end when the loop is blocked. A program that is ready only later says so:

    calloff.run(main, notify="later")           # and in main, when it listens:
    calloff.service.ready()

`health` tells the same for those who come and ask.
"""

from ._api.health import Health, Work, health
from ._api.notify import notify, running

__all__ = ["Health", "Work", "health", "ready", "status"]

health.__module__ = __name__


def ready() -> None:
    """Tell the service manager that the program does what it is there for (``READY=1``).

    For programs that are run with ``notify="later"``; of others that was told, or nobody listens, and nothing happens.
    """
    for notifier in tuple(running.values()):
        notifier.ready()


def status(text: str) -> None:
    """Tell the service manager in a line what the program does (``systemctl status`` shows it).

    Args:
        text: the line; what stands behind a line feed is left out.
    """
    notify(f"STATUS={text.partition(chr(10))[0]}")
