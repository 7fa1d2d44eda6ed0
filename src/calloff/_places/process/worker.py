"""The owner's handle of one worker: gives it work, takes the results, asks and kills through its guard."""

import os
import signal
import socket
from asyncio import TimerHandle
from contextlib import ExitStack
from contextvars import Context
from itertools import count
from marshal import dumps
from typing import TYPE_CHECKING, Any

from ..._child.wire import ASK, SLACK, SMALL, VERSION, Reader, parts_of
from ..._os import reaper
from ..._os.fds import Files, is_readable, pair
from ..._words.frame import RawStack
from ..._words.place import Sink
from ..._words.report import Rung
from ..keeper import refuse
from ..kept import Guarded
from ..looking import Looker
from ..standing import look_ahead
from .facts import OUTERMOST, Stamp, Surroundings, details, why
from .frames import Frames
from .last_look import LastLook
from .limits import Limits
from .news import News

if TYPE_CHECKING:
    from .body import ProcessBody
    from .pool import Pool

__all__ = ["Worker"]

#: seconds that a worker gets to become ready before the limits of what it is to run count
_COLD = 5.0
#: seconds that a worker which was killed with its guard gets to be dead
_DYING = 0.2
_numbers = count(1)


class Worker:
    """A worker process, with its guard."""

    def __init__(self, pool: "Pool", preload: tuple[str, ...]) -> None:
        refuse()
        self.pool: Pool = pool
        self.body: ProcessBody | None = None
        #: what was called off and has left something behind that can't be killed: told when that is gone
        self._haunted: ProcessBody | None = None
        self.dead: bool = False
        #: it has said that work may come; what is sent before waits for that
        self.ready: bool = False
        #: the number of the process, as itself has told it
        self._told_pid = 0
        self.jobs: int = 0
        self._number = 0
        self._killing = False
        self._held: tuple[ProcessBody, str, Any, list[Any], bool] | None = None
        self._asked = False
        self._refused = False
        self.spoiled: bool = False
        #: set while a function is held until this worker is ready: fires when that takes too long
        self._hold_timer: TimerHandle | None = None
        #: it has died before it had read all that was sent
        self._unread = False
        #: why it was killed, if that was since nobody can read what it sends
        self._garbled = ""
        with Files() as files, ExitStack() as ours:
            data, theirs = (ours.enter_context(end) for end in pair())
            news, their_news = (ours.enter_context(end) for end in pair(socket.SOCK_SEQPACKET))
            stacks, their_stacks = files.pipe(os.O_NONBLOCK)
            self._looker = Looker(stacks, OUTERMOST)
            self._last_look = LastLook(self._looker)
            given = [files.copy(end.fileno()) for end in (theirs, their_news)]
            given += [their_stacks, files.output(1), files.output(2)]
            self.guarded: Guarded = Guarded(pool.loop, "worker", given, self)
            files.give()
            ours.pop_all()
        theirs.close()
        their_news.close()
        data.setblocking(False)
        news.setblocking(False)
        self._data, self._news = data, News(news)
        self._files = data.fileno(), news.fileno()
        self._reader = Reader(data)
        self._frames = Frames(data)
        self._limits = Limits(self.guarded)
        self._surroundings = Surroundings()
        self._modules: dict[str, Stamp] = {}
        self.guarded.write("start", {**self._surroundings.all(), **details(preload)})
        self._listen()

    def _listen(self) -> None:
        data, news = self._files
        # in a context of their own: what they do is done for no operation in particular
        Context().run(self.pool.loop.add_reader, data, self._readable)
        Context().run(self.pool.loop.add_reader, news, self._read_news)

    def move(self, pool: "Pool") -> None:
        """Serve another loop: the one before was closed."""
        self.pool = pool
        self.guarded.move(pool.loop)
        self._listen()

    @property
    def pid(self) -> int | None:
        """Of the worker, as soon as it has told it itself, or its guard has, who may be the later one."""
        return self._looker.pid or self._told_pid or None

    # --- what the body asks for

    def is_stale(self, stamp: "Stamp | None") -> bool:
        """Whether the module of a function was written anew since this worker has imported it."""
        return stamp is not None and self._modules.get(stamp[0], stamp) != stamp

    def take(self, body: "ProcessBody") -> None:
        """Run a function, as soon as this worker is ready: until then it has not begun, and its limits do not count.

        One that takes very long to become ready is given it all the same, so that the limits hold in the end.
        """
        self.body = body
        self.jobs += 1
        self._number = next(_numbers)
        self._asked = self._refused = False
        body.tries += 1
        if self.ready:
            self._begin(body)
        else:
            self._hold_timer = Context().run(self.pool.loop.call_later, _COLD, self._begin, body)

    def give_back(self, body: "ProcessBody") -> bool:
        """Whether this worker had not begun with it yet, and now never will."""
        if self.body is not body or self._hold_timer is None:
            return False
        self._hold_timer.cancel()
        self._hold_timer = self.body = None
        self.jobs -= 1
        self.pool.release(self)
        return True

    def _begin(self, body: "ProcessBody") -> None:
        if self._hold_timer is not None:
            self._hold_timer.cancel()
            self._hold_timer = None
        assert body.packed is not None
        data, buffers = body.packed
        number = self._number
        if body.stamp is not None:
            self._modules[body.stamp[0]] = body.stamp
        if self._looker.text:
            self._looker.forget()
        sink = body.sink
        id, name = sink.ref
        loop = self.pool.loop
        body.entered(self)
        sink.entered_elsewhere()
        plan = None if sink.deadline is None else self._limits.plan(number, sink, loop)
        changes = self._surroundings.changes()
        if not buffers and len(data) < SMALL:
            self._frames.send(loop, dumps((number, id, name, plan, changes, body.luggage, data, ()), VERSION))
        else:
            self._frames.send(loop, *parts_of((number, id, name, plan, changes, body.luggage), data, buffers))

    def limit(self, sink: Sink) -> None:
        """The limits have changed."""
        self._limits.tell(self._number, sink, self.pool.loop)

    def ask(self, sink: Sink) -> None:
        """Have `CancelledError` raised in the function."""
        self._asked = True
        if sink.deadline is None or self.pool.loop.time() < sink.deadline + SLACK:
            self._looker.forget()  # else the guard may have asked in our place, and what came of that is where it was
        if (at := sink.force_at) is not None and at <= self.pool.loop.time():
            self.spoiled |= self._last_look.ask()  # killed in the next turn of the loop, it has shown it by then
        self.pool.hold_back()
        reason = sink.reason
        assert reason is not None
        asking = "ask", self._number, ASK, (str(reason.kind), reason.text, reason.by, reason.at)
        self._limits.tell(self._number, sink, self.pool.loop, asking)

    def kill(self) -> None:
        """Kill it and everything below it."""
        if self.pool.loop.is_closed():
            self._kill()
            return
        body = self.body
        if self._held is None:
            self._readable()  # what has ended already has ended; the next one may have begun with that
        if body is None or self.body is not body:
            return
        if self.pid is None and self.guarded.withdraw():  # nobody has come to start it
            self._end(lambda body: body.killed((), Rung.ASKED))
            return
        if not self._killing:
            self._killing = True
            if not self._last_look.wait(self.pool.loop, self._kill):
                self._kill()

    def _kill(self) -> None:
        if not self.dead:
            if not self.guarded.is_alone:  # else what it has started would come to nobody, should the guard be killed
                self._looker.signal(signal.SIGKILL)  # the guard does it, too, but has to wake up first
            self.guarded.write("kill")
        self._last_look.end(self.pool.loop)

    def retire(self) -> None:
        """It is not needed any more."""
        self.dead = True
        self.guarded.write("kill")
        self._close()

    # --- frames

    def _readable(self) -> None:
        if self.dead:
            return
        try:
            found = self._reader.read()
        except (EOFError, OSError) as error:  # its guard will say why
            self._unread = self._unread or isinstance(error, ConnectionResetError)
            self.pool.loop.remove_reader(self._files[0])
            self.guarded.expect()
            look_ahead()  # while the guard buries it: what it ran may be followed by something else
            return
        except (ValueError, TypeError, MemoryError) as error:  # the function has written to files that are not its own
            self._garbled = f"what came from the worker process can't be read ({error}), and it was killed"
            self.pool.loop.remove_reader(self._files[0])
            self.guarded.write("kill")
            return
        if found is None:
            return
        number, kind, heard, children, news, spoiled, data, buffers = found
        self.spoiled = self.spoiled or spoiled
        heard = heard and not self._refused  # else it is counted already
        body = self.body
        if body is None or number != self._number or self._killing:
            return
        if news:
            self._read_news()
        if self._asked or kind == "cancelled":  # by its guard, when the owner's loop was late for a limit
            body.located(self._looker.stack() or ())
        if children:  # what it left behind dies before anybody hears that it ended
            self._held = (body, kind, data, buffers, heard)
            self._killing = True
            self.guarded.write("kill")
            return
        self.body = None
        self.pool.release(self)
        body.finish(kind, data, buffers, heard)

    def _read_last(self) -> None:
        """It has ended: the result may have come before, and nothing more is given to it."""
        self.spoiled = self._reader.is_last = True
        self._readable()

    def _read_news(self) -> None:
        while not self.dead:
            try:
                packet = self._news.read()
            except EOFError:
                self.pool.loop.remove_reader(self._files[1])
                return
            if packet is None:
                return
            if packet.is_ready:
                self.ready, self._told_pid = True, packet.number
                if self.body is not None and self._hold_timer is not None:
                    self._begin(self.body)
                self.pool.prepared()
            elif self.body is not None and packet.number == self._number:
                packet.pass_on(self.body.sink)

    # --- what the guard says

    def heard(self, letter: tuple[Any, ...], handle: int | None) -> None:
        """A letter of the guard."""
        kind, *parts = letter
        if kind == "born":
            self._looker.meet(parts[0], handle)  # who looked while the loop was blocked has met it before
        elif kind == "failed":
            number, text = parts
            self._end(lambda body: body.failed(OSError(number, f"no worker process could be started: {text}")))
        elif kind == "refused":
            self._went_on(parts[0])
        elif kind == "ended":
            self._ended(**parts[0])
        elif kind == "gone" and self._haunted is not None:
            self._haunted.sink.stopped()
            self._haunted = None

    def _went_on(self, number: int) -> None:
        """The function of that job was asked and went on."""
        if number == self._number and self.body is not None and not self._refused:
            self._refused = True
            self.body.sink.refused()

    def _ended(
        self, status: int | None, cause: str, begun: int, refused: int, survivors: tuple[str, ...], **rest: Any
    ) -> None:
        if self.dead:
            return
        if self._held is not None:
            _, *result = self._held
            self._end(lambda body: body.finish(*result, survivors), survivors)
            return
        if not self._killing and cause != "kill":
            self._read_last()
        if (self._asked or cause == "limit") and self.body is not None:  # by its guard, when the owner's loop was late
            self.body.located(self._looker.stack() or ())
        if self._killing or cause == "limit" or (self._last_look.is_asked and status == -signal.SIGSEGV):
            self._went_on(refused)
            self._end(lambda body: body.killed(survivors), survivors)
        elif status == -ASK and rest["asked"]:  # it had no handler for that any more: it runs another program, say
            self._end(lambda body: body.killed(survivors, Rung.ASKED), survivors)
        else:
            words = self._garbled or why(status) if cause != "lost" else self.guarded.guard_words(rest["guard"])
            self._end(lambda body: body.died(status, words, begun >= self._number, survivors))

    def failed(self, error: Exception) -> None:
        """There is none: it could not be started."""
        self._end(lambda body: body.failed(error))

    def lost(self) -> None:
        """Guard and keeper were killed, and the worker died with its guard, or was stopped."""
        self._read_news()  # its guard may not have come to tell where it is
        pid = self.pid
        is_whole = pid is None or reaper.kill_from_outside(pid)
        if not self._killing and not self.dead:
            is_readable(self._files[0], _DYING)  # that end is closed while it dies
            self._read_last()
        text, begun = "both processes that guard the worker were killed", not self._unread and self._hold_timer is None
        is_lost = begun and not is_whole
        if self._killing and self._held is None:
            left = (f"what it had started, if anything, may run on: {text}",) if is_lost else ()
            self._end(lambda body: body.killed(left, nobody_knows=is_lost))
        else:
            text += ": what it had started may run on" if is_lost else ""
            self._end(lambda body: body.died(None, text, begun))

    def let_go(self) -> None:
        """The loop was closed, and nobody hears of the end."""
        self.body = self._haunted = None
        self._close()
        self.pool.workers.discard(self)

    def _end(self, tell: Any, survivors: tuple[str, ...] = ()) -> None:
        if self.dead:
            return
        self.dead = True
        body, self.body = self.body, None
        if survivors and body is not None and body.sink.reason is not None:
            self._haunted = body  # abandoned, until its guard says that they are gone
        self._close()
        self.pool.lost(self)
        if body is not None:
            tell(body)

    def _close(self) -> None:
        self.dead = True
        if self._hold_timer is not None:
            self._hold_timer.cancel()
            self._hold_timer = None
        if self._looker.stacks < 0:
            return
        self._last_look.end(self.pool.loop)
        if hasattr(self, "guarded") and self._haunted is None:
            self.guarded.close()
        loop = self.pool.loop
        if not loop.is_closed():
            for file in self._files:
                loop.remove_reader(file)
            loop.remove_writer(self._files[0])
        self._data.close()
        self._news.close()
        self._looker.close()

    # --- looking at it

    def look(self) -> bool:
        """Ask for its stack; for those who ask many workers at once, and call `where` of each then. From any thread."""
        looker = self._looker
        with looker.lock:
            if self._asked and self.body is not None and (asked_at := looker.stack()) is not None:
                self.body.located(asked_at)  # that of the request is not to be forgotten
            if looker.pid is None and (born := self.guarded.born()) is not None:
                looker.meet(*born)
            return looker.ask() and not self.dead

    def where(self) -> RawStack:
        """The stack of the function now, as far as the worker tells it in time.

        One that runs and does not answer is busy in C, and C writes the line that called it. From any thread.
        """
        return self._looker.where(self.look)
