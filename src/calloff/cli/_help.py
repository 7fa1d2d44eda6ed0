"""The help of the verbs: examples for each, and text as wide as the terminal, a hundred columns at most."""

import argparse
import re
import sys
from collections.abc import Iterator

__all__ = ["ENVIRONMENT", "EXAMPLES", "Help", "environment", "examples"]

_WIDEST = 100
_COLUMN = re.compile(r" *\S+(?: \S+)*? {2,}")

#: of each verb: what to type, and what that does
EXAMPLES = {
    "run": (
        ("run --timeout 10s jobs.py:nightly 2026-11-26", "a function, with an argument"),
        ("run --every 1s crawl.py --depth 3", "a script; see each second at which line it is"),
        ("run --timeout 1m -- make test", "a program"),
    ),
    "map": (
        ("map jobs.py:load --input items.jsonl --timeout 5s --output done.jsonl", "a function, item by item"),
        ("map --jobs 8 --timeout 1m -- gzip {} ::: *.log", "a program, eight at a time"),
        ("map jobs.py:load --input items.jsonl --output done.jsonl --resume", "what is missing"),
    ),
    "asgi": (
        ("asgi main:app --timeout 30s", "no request takes longer"),
        ("asgi main:app --leave 5s --drain 20s", "behind a balancer that needs 5 s to notice"),
    ),
    "ps": (
        ("ps", "all of it, as a tree"),
        ("ps --fold --sort silent", "thousands: one row for what is alike, what has been silent first"),
        ("ps --older-than 10m --json", "as data"),
    ),
    "attach": (("attach 4312", "then calloff ps --tasks, show and cancel see it"),),
    "top": (
        ("top", "everything"),
        ("top --name 'fetch*' --sort age", "some of it, the oldest first"),
    ),
    "show": (("show 4312.7", "limits, stop, stack"), ("show 4312.7 --json", "the same as data")),
    "watch": (("watch 4312.7", "a live line until it ends"), ("watch 4312.7 --every 10s", "a line now and then")),
    "cancel": (
        ("cancel 4312.7 --reason 'too slow'", "one, with what it has started"),
        ("cancel --name 'fetch*' --older-than 1m --dry-run", "which ones it would be"),
        ("cancel 4312 --force --wait 5s", "a whole program, at once"),
    ),
    "sweep": (
        ("sweep pool.py:query --setup setup", "call it off at every await"),
        ("sweep main:app --request 'GET /items'", "a request to a web application"),
        ("sweep pool.py:query --setup setup --replay l-3a63ac", "one cancel again, with what is printed"),
    ),
    "serve": (("serve", "prints a link for this machine's browser"), ("serve --port 8765", "always at the same port")),
}  # fmt: skip

#: of each variable: what it does, and to which verbs
ENVIRONMENT = {
    "CALLOFF_EXPOSE": ("0: nothing is seen from outside; 1: programs are that do not ask for it", "run asgi"),
    "CALLOFF_HISTORY": ("how many ended operations are remembered (1000)", "run asgi"),
    "CALLOFF_SOCKETS": (
        "the one directory where programs are found, in place of the usual ones",
        "run asgi ps attach top show watch cancel serve",
    ),
    "NO_COLOR": ("no colours", "map ps top"),
    "FORCE_COLOR": ("colours, also where there is no terminal", "ps"),
}


def environment(verb: str = "") -> str:
    """The variables that a verb heeds, one below the other; all of them where none is named."""
    found = [(name, told) for name, (told, verbs) in ENVIRONMENT.items() if not verb or verb in verbs.split()]
    return "\n".join(["Environment:", *(f"  {name:<15}  {told}" for name, told in found)] if found else [])


def examples(verb: str) -> str:
    """The examples of a verb, one below the other."""
    found = [(f"calloff {typed}", told) for typed, told in EXAMPLES.get(verb, ())]
    room = max((len(typed) for typed, _ in found), default=0)
    return "\n".join(f"  {typed:<{room}}  {told}" for typed, told in found)


class Help(argparse.HelpFormatter):
    """Fills text, and leaves what is indented in its lines."""

    def __init__(self, prog: str) -> None:
        import shutil

        super().__init__(prog, width=min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns))

    if sys.version_info < (3, 13):

        def _format_action_invocation(self, action: argparse.Action) -> str:
            """``-t, --timeout D``, as newer Pythons have it: here each form has its own D."""
            if len(action.option_strings) < 2 or action.nargs == 0:
                return super()._format_action_invocation(action)
            value = self._format_args(action, self._get_default_metavar_for_optional(action))
            return f"{', '.join(action.option_strings)} {value}"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join("\n".join(_filled(block, width)) for block in text.split("\n\n"))


def _filled(block: str, width: int) -> Iterator[str]:
    import textwrap

    words: list[str] = []
    for line in block.splitlines():
        if line.startswith("  "):
            yield from textwrap.wrap(" ".join(words), width)
            words = []
            column = _COLUMN.match(line)
            below = " " * min(column.end() if column else 4, max(4, width - 20))
            yield from [line] if len(line) <= width else textwrap.wrap(line, width, subsequent_indent=below)
        else:
            words.append(line)
    yield from textwrap.wrap(" ".join(words), width)
