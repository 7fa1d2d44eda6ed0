"""What goes over the control socket: typed, versioned, data only.

A connection carries lines of JSON, one message a line, at most `LONGEST` bytes each. The client sends one `Request` (the
verbs are its subclasses, told apart by ``"verb"``); the server answers with one or more `Answer` lines (told apart by
``"answer"``), the last of which closes the exchange; the next request may follow on the same connection. Times are Unix
seconds, durations are seconds. A field that is not known is ignored and one that is missing has its default, so either
side may be the older one; `VERSION` rises only when that is not enough. Version 2 answers a cancel of many in parts, if
whoever asks is of version 2.
"""

from typing import Any

from msgspec import Struct

from .._words.state import State

__all__ = [
    "Accepted",
    "Answer",
    "Cancel",
    "Cause",
    "Detail",
    "Frame",
    "ENDED",
    "Hello",
    "LIVE",
    "List",
    "Listing",
    "PLACES",
    "Query",
    "Refused",
    "Request",
    "Row",
    "SORTS",
    "STATES",
    "Show",
    "Step",
    "Stopped",
    "Usage",
    "VERSION",
    "Watch",
]

VERSION = 2
LONGEST = 1 << 16  # of a request; an answer may be longer

# What rows say and queries ask for. An abandoned one is in both halves of the states: it is given up, and still there.
STATES: tuple[str, ...] = tuple(map(str, State))
LIVE = ("pending", "running", "stopping", "abandoned")
ENDED = ("completed", "failed", "cancelled", "abandoned")
PLACES = ("task", "thread", "process", "command", "asyncio")
SORTS = ("tree", "age", "name", "state", "place", "remaining", "silent")


# --8<-- [start:records]
class Frame(Struct, frozen=True):
    """A line at which a body stands."""

    file: str
    line: int
    function: str
    source: str = ""


class Cause(Struct, frozen=True, omit_defaults=True):
    """Why an operation is or was stopped."""

    kind: str
    text: str = ""
    by: str = ""
    at: float = 0.0


class Step(Struct, frozen=True):
    """One step of the ladder that was taken, and when."""

    rung: str
    at: float


class Row(Struct, frozen=True, omit_defaults=True):
    """One operation, running or ended, as lists show it."""

    id: str  # "4312.7": the process and the operation; "4312.t3" is a plain asyncio task
    pid: int  # of the process whose loop it belongs to
    name: str
    place: str  # task, thread, process, command; "asyncio" for a plain task
    state: str  # pending, running, stopping, completed, failed, cancelled, abandoned
    started_at: float
    age: float  # since its start; of an ended one: from start to end
    parent: str | None = None
    depth: int = 0  # how many operations it hangs below, 50 at most; 0 of an ended one
    deadline_at: float | None = None
    remaining: float | None = None  # until the deadline; negative when it is over
    timeout: float | None = None
    silent: float | None = None  # since its last report of progress, if it has made any
    count: int = 1  # how many that are alike this row stands for; it is that of the oldest
    progress: Any = None  # what `progress()` was given: a number, a text, or the text of anything else
    where: Frame | None = None  # the innermost line; of a command without lines: its command line as `source`
    worker: int | None = None  # pid of the process or command that it runs in
    reason: Cause | None = None
    requested_at: float | None = None
    refusals: int = 0
    steps: tuple[Step, ...] = ()
    outcome: str | None = None  # completed, failed, cancelled, abandoned: only when it has ended
    ended_at: float | None = None
    rung: str | None = None  # the step that ended it
    clean_up: float | None = None  # from the request to the end
    error: str | None = None  # type and text of what a failed one raised
    survivors: tuple[str, ...] = ()  # processes that it left behind and that could not be killed, with why


class Usage(Struct, frozen=True):
    """What the process of an operation and everything below it use."""

    cpu: float  # seconds of processor time so far
    memory: int  # bytes that are in memory now
    processes: int


class Detail(Struct, frozen=True, omit_defaults=True):
    """Everything about one operation."""

    row: Row
    stack: tuple[Frame, ...] = ()  # outermost first
    children: tuple[str, ...] = ()
    grace: float | None = None
    stall: float | None = None
    stuck_at: tuple[Frame, ...] = ()
    argv: tuple[str, ...] = ()  # of the process it belongs to
    usage: Usage | None = None  # of the process or command that it runs in


class Query(Struct, frozen=True, omit_defaults=True):
    """Which operations are meant. All conditions must hold; an empty one always does."""

    ids: tuple[str, ...] = ()  # prefixes of ids
    name: str = ""  # a pattern with * and ?
    states: tuple[str, ...] = ()
    places: tuple[str, ...] = ()  # "process", on this machine or another; "process oak": only on that one
    older_than: float | None = None
    tasks: bool = False  # plain asyncio tasks, too
    ended: bool = False  # the ended ones that are still remembered, too
    fold: bool = False  # one row for operations that are alike: of one kind of name, in one state, at one line
    sort: str = "tree"  # tree, age, name, state, place, remaining, silent (longest first), ended (latest first)
    reverse: bool = False
    offset: int = 0
    limit: int | None = None  # rows of one process; the counts are of all
    where: bool = True  # looking up the lines costs the watched process the most


# --8<-- [end:records]
class Request(Struct, frozen=True, tag_field="verb", omit_defaults=True):
    """What a client asks; `version` is its own, which those of the first do not tell."""

    version: int = 1


class List(Request, frozen=True, tag="list"):
    """Answered with a `Listing`."""

    query: Query = Query()


class Show(Request, frozen=True, tag="show"):
    """Answered with a `Detail` in an `Answer`, or `Refused`."""

    id: str = ""


class Watch(Request, frozen=True, tag="watch"):
    """Answered with a `Listing` of one row at once and every `every` seconds, the last with its outcome."""

    id: str = ""
    every: float = 1.0


class Cancel(Request, frozen=True, tag="cancel"):
    """Answered with `Accepted`, then with a `Stopped` for each, as they end or when `wait` is over."""

    query: Query = Query()
    reason: str = ""
    grace: float | None = None
    wait: float = 10.0
    dry_run: bool = False


class Answer(Struct, frozen=True, tag_field="answer", omit_defaults=True):
    """What a server answers; `last` closes the exchange."""

    last: bool = True


class Hello(Answer, frozen=True, tag="hello"):
    """The first line of every connection; those of the first version do not tell theirs."""

    version: int = 1
    pid: int = 0
    argv: tuple[str, ...] = ()
    started_at: float = 0.0


class Listing(Answer, frozen=True, tag="listing"):
    rows: tuple[Row, ...] = ()
    total: int = 0  # that match, the ones past the limit included
    counts: dict[str, int] = {}  # how many are in each state
    over: int = 0  # operations of this process that have ended so far, whether they match or not


class Details(Answer, frozen=True, tag="details"):
    detail: Detail | None = None


class Accepted(Answer, frozen=True, tag="accepted"):
    """The operations that a cancel meets, some at a time; with ``dry_run`` the last of these is the last line."""

    rows: tuple[Row, ...] = ()
    more: bool = False  # others follow in a next one


class Stopped(Answer, frozen=True, tag="stopped"):
    """How one of them ended. Without `outcome` it still runs, and `row.where` says where it is stuck."""

    row: Row | None = None
    seconds: float = 0.0  # since the cancel; 0 of one that had ended before
    outcome: str | None = None


class Refused(Answer, frozen=True, tag="refused"):
    """The request can't be carried out.

    Attributes:
        text: one sentence for people.
        code: for programs: ``not_found``, ``invalid`` (the client's fault), ``busy`` (let go for others),
            ``failed``; empty from older servers, and others may come: then the text is all there is.
    """

    text: str = ""
    code: str = ""
