"""Items of a map in batches on nodes: the agent's end, which has the spool and looks into it.

What holds only for the item that runs at this moment is decided here: an item is asked to end when its time is over and the
spool, read after that point, has no result of it; the worker goes no further than such an item.
"""

import pickle
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._child.batch import MARK, from_afar
from .._map.spool import Spool, has_children
from .._words.reason import Kind, Reason
from ._jobs import Job

if TYPE_CHECKING:
    from ._agent import Agent

__all__ = ["CALL_OFF", "END_HERE", "LOOK", "BatchJob"]

#: what the owner asks for: to tell what is new; to ask the item that runs to end; to have it be the last one
LOOK, CALL_OFF, END_HERE = range(3)

_free: list[Spool] = []


class BatchJob(Job):
    """A job of several items."""

    def __init__(self, agent: "Agent", token: int, ref: tuple[str, str]) -> None:
        super().__init__(agent, token, ref)
        self._spool: Spool | None = _free.pop() if _free else Spool()
        self._spool.clear()

    def packed(self, data: bytes) -> bytes:
        """The call for the worker."""
        assert self._spool is not None
        return pickle.dumps((from_afar, (self._spool.path, data), {}), 5)

    def progressed(self, value: Any, /) -> None:
        if value == MARK:
            self._tell()
        else:
            super().progressed(value)

    def spool(self, what: int, number: int, limit: float | None, grace: float) -> None:
        """Do what the owner asks for, if it still holds, and tell what is new."""
        spool = self._spool
        if spool is None:
            return
        done = False
        if what == CALL_OFF and limit is not None and self._reason is None and self._is_late(spool, number, limit):
            now = self._agent.loop.time()
            self._reason = Reason(Kind.DEADLINE, f"within {limit:g} s", None, now)
            self._force_at = now + grace
            self.body.ask(self._reason.text)
            done = True
        elif what == END_HERE:
            done = spool.end_here()
        self._tell(what, done, all_of_it=not has_children(self.body))

    def _is_late(self, spool: Spool, number: int, limit: float) -> bool:
        running, began = spool.running()
        if not number:
            return not spool.first()
        return running == number and monotonic() >= began + limit and spool.running() == (running, began)

    def _tell(
        self, asked: int | None = None, done: bool = False, *, all_of_it: bool = False, last: bool = False
    ) -> None:
        if self._spool is not None:
            head, data = self._spool.news(all_of_it=all_of_it)
            self._agent.tell("spooled", self.token, head, monotonic(), asked, done, last, data=data)

    def _ended(self, survivors: tuple[str, ...]) -> None:
        self._tell(last=True)
        spool, self._spool = self._spool, None
        if spool is not None and survivors:
            spool.close()  # something may still write to it
        elif spool is not None:
            _free.append(spool)
        super()._ended(survivors)
