"""``calloff sweep``: the sweep from the command line.

The target's file is imported and the server of the runs is forked before there is an event loop or a thread here.
"""

import argparse
import asyncio
import dataclasses
import importlib
import importlib.util
import os
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from .._words.durations_text import read_duration
from .._words.text import printable
from ._sweep.case import ORACLES
from ._sweep.items import Items, read_items
from ._sweep.journal import Journal
from ._sweep.known import read_known
from ._sweep.places import Place, make_place
from ._sweep.plan import PHASES
from ._sweep.report import SweepReport
from ._sweep.request import Client, Request
from ._sweep.sweeping import Sweeping
from ._sweep.whole import HOWS, is_async, make_case

__all__ = ["main"]

_ROLES = ("setup", "check", "teardown", "bystander")


class _Parser(argparse.ArgumentParser):
    """Whatever is wrong with the command line is said in one line."""

    def error(self, message: str) -> NoReturn:
        missing = message.removeprefix("the following arguments are required: ")
        raise _Usage(f"{message if missing == message else f'{missing} is missing'}; see {self.prog} --help")


class _Usage(Exception):
    """A wrong target or option: one sentence for the user, status 2."""


def main(argv: Sequence[str] | None = None, *, prog: str = "calloff sweep") -> int:
    """Carry out ``calloff sweep``.

    Args:
        argv: the arguments after ``sweep``; by default those of the process.
        prog: how the command is called in its messages.

    Returns:
        The exit status: 0 all safe, 1 something unsafe, 2 usage or the function fails without any cancel, 3 nothing
        unsafe but something unresolved.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = _parser(prog)
    try:
        options = parser.parse_args(argv)
    except SystemExit as exit:  # after --help
        return int(exit.code or 0)
    except _Usage as error:
        return _refuse(prog, error)
    try:
        report = _sweep(options, prog)
    except _Usage as error:
        return _refuse(prog, error)
    except KeyboardInterrupt:
        kept = f"; the same command goes on from {options.resume}" if options.resume else ""
        print(f"{prog}: interrupted{kept}", file=sys.stderr)
        return 130
    if options.html:
        Path(options.html).write_text(report.html(), encoding="utf-8")
    if options.json and report.error:
        _complain(f"{prog}: {options.target}: {report.error}")
    print(report.json() if options.json else report)
    return report.exit_status


def _refuse(prog: str, error: _Usage) -> int:
    _complain(f"{prog}: {error}")
    return 2


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=prog,
        usage=f"{prog} [OPTION...] TARGET",
        description="Run an async function again and again, call it off at every await, and tell what breaks.",
        allow_abbrev=False,
        formatter_class=partial(argparse.HelpFormatter, width=100),
    )
    parser.add_argument("target", metavar="TARGET", help="path/to/file.py:function or package.module:function")
    for role, text in (
        ("setup", "makes what one run needs; what it returns is given to the others"),
        ("check", "raises or returns False where the world is not as it should be afterwards"),
        ("teardown", "ends what the set-up made"),
        ("bystander", "runs beside it and must come to its end"),
    ):
        parser.add_argument(f"--{role}", metavar="NAME", help=f"async function of the same file: {text}")
    parser.add_argument("--request", metavar="LINE", help="TARGET is an ASGI application: send it this, 'GET /items'")
    parser.add_argument("--header", metavar="H", action="append", default=[], help="of the request: 'name: value'")
    parser.add_argument("--body", metavar="TEXT", default="", help="of the request")
    item = "TARGET takes one, as for calloff map: call the first off, the others beside it"
    parser.add_argument("--item", metavar="X", action="append", default=[], help=item)
    parser.add_argument("--phases", metavar="LIST", default=",".join(PHASES), help="of %(default)s")
    parser.add_argument("--max", metavar="N", type=int, dest="max_runs", help="at most N cancels")
    parser.add_argument("--replay", metavar="ID", help="only the cancel of one finding, with its output shown")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--html", metavar="FILE", help="write the report as a page, too")
    parser.add_argument(
        "--timeout", metavar="D", default="5", help="for it and its clean-up: 5, 500ms, 1m (%(default)s)"
    )
    how = "what calls it off (cancel; with --item operation); disconnect: the client of a --request goes away"
    parser.add_argument("--how", choices=(*HOWS, "disconnect"), help=how)
    parser.add_argument("--without", metavar="LIST", default="", help=f"oracles to leave out, of {', '.join(ORACLES)}")
    parser.add_argument("--known", metavar="FILE", help="findings to live with: a line each, ID and the reason")
    parser.add_argument("--resume", metavar="FILE", help="keep results here, and try only what is missing")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="runs at once (%(default)s)")
    parser.add_argument("--no-children", action="store_true", help="leave the tasks that it starts alone")
    return parser


def _sweep(options: argparse.Namespace, prog: str) -> SweepReport:
    module, fn = _load(options.target, "an ASGI application" if options.request else "")
    roles = {role: _function(module, getattr(options, role), f"--{role}") for role in _ROLES}
    how = options.how or ("operation" if options.item else "cancel")
    goes_away = how == "disconnect"
    client: Client | None = None
    if options.request:
        client, roles = _client(fn, options, roles)
        fn = client.send
    elif goes_away or options.header or options.body:
        raise _Usage("--how disconnect, --header and --body are for a --request")
    if options.item:
        fn, roles = _items(fn, options, roles)
    if options.jobs < 1:
        raise _Usage(f"--jobs must be 1 or more, not {options.jobs}")
    try:
        case = make_case(
            fn,
            **roles,
            timeout=_seconds(options.timeout),
            children=not options.no_children,
            how="cancel" if goes_away else how,
            without=_words(options.without),
        )
        if goes_away:
            case = dataclasses.replace(case, hang_up=Client.hang_up)
        sweeping = Sweeping(
            case,
            phases=_words(options.phases),
            max_runs=options.max_runs,
            known=_known(options.known),
            replay=options.replay,
            target=options.target,
            again=_again(options, prog),
            journal=Journal(options.resume) if options.resume else None,
            progress=_progress if sys.stderr.isatty() else None,
        )
    except (TypeError, ValueError) as error:
        raise _Usage(str(error)) from None
    except OSError as error:
        raise _Usage(f"{error.filename}: {error.strerror}") from None
    _writable(options.html)
    quiet = options.replay is None
    places: list[Place] = [make_place(case, asyncio.new_event_loop, quiet=quiet) for _ in range(options.jobs)]
    try:
        return asyncio.run(sweeping.run(places))
    except ValueError as error:  # an id that does not exist
        raise _Usage(str(error)) from None
    finally:
        for place in places:
            place.close()
        if sys.stderr.isatty():
            print(end="\r\x1b[K", file=sys.stderr)


def _client(app: Any, options: argparse.Namespace, roles: dict[str, Any]) -> tuple[Client, dict[str, Any]]:
    """Who sends the request, and what the case is given in place of the user's functions."""
    try:
        request = Request.read(options.request, options.header, options.body)
    except ValueError as error:
        raise _Usage(str(error)) from None
    if roles["bystander"] is not None:
        raise _Usage("--bystander is not for a --request")
    own = {role: roles[role] for role in ("setup", "check", "teardown")}
    client = Client(app, request, **own)
    check = client.check if roles["check"] is not None else None
    return client, {"setup": client.setup, "check": check, "teardown": client.teardown, "bystander": None}


def _items(fn: Any, options: argparse.Namespace, roles: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The function of the first item, and the others beside it."""
    if options.request:
        raise _Usage("--item is not for a --request")
    if roles["bystander"] is not None:
        raise _Usage("--bystander is not for items: the other items are")
    items = Items(fn, read_items(options.item))
    return items.first, roles if len(options.item) == 1 else {**roles, "bystander": items.others}


def _complain(text: str) -> None:
    """Say it, without what a terminal would obey: it may repeat what was typed."""
    print("\n".join(map(printable, text.split("\n"))), file=sys.stderr)


def _progress(done: int, planned: int) -> None:
    print(f"\r\x1b[K{done} of {planned} cancels", end="", file=sys.stderr, flush=True)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _known(file: str | None) -> dict[str, str]:
    try:
        return {} if file is None else read_known(file)
    except ValueError as error:
        raise _Usage(f"--known: {error}") from None
    except OSError as error:
        raise _Usage(f"--known: {file}: {error.strerror}") from None


def _seconds(text: str) -> float:
    try:
        return read_duration(text)
    except ValueError as error:
        raise ValueError(f"--timeout: {error}") from None


def _writable(page: str | None) -> None:
    """Say now, not after the sweep, that the page can't be written."""
    if page is not None:
        try:
            with open(page, "a", encoding="utf-8"):
                pass
        except OSError as error:
            raise _Usage(f"--html: {page}: {error.strerror}") from None


def _again(options: argparse.Namespace, prog: str) -> str:
    """The command line that repeats this sweep, for one finding."""
    words = [*prog.split(), options.target]
    for role in _ROLES:
        if getattr(options, role):
            words += [f"--{role}", getattr(options, role)]
    if options.request:
        words += ["--request", options.request]
    for header in options.header:
        words += ["--header", header]
    if options.body:
        words += ["--body", options.body]
    for item in options.item:
        words += ["--item", item]
    if options.how:
        words += ["--how", options.how]
    if options.timeout != "5":
        words += ["--timeout", options.timeout]
    if options.without:
        words += ["--without", options.without]
    return f"{shlex.join(words)} --replay {{id}}"


# --- the target


def _load(target: str, wanted: str = "") -> tuple[Any, Any]:
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise _Usage(f"the target must be file.py:function or package.module:function, not {target!r}")
    module = _from_file(place) if place.endswith(".py") else _from_package(place)
    if wanted:
        return module, _application(module, name, wanted)
    return module, _function(module, name, "the target")


def _application(module: Any, name: str, wanted: str) -> Any:
    found = getattr(module, name, None)
    if not callable(found):
        raise _Usage(f"the target: {name!r} in {getattr(module, '__file__', module.__name__)} is not {wanted}")
    return found


def _from_file(path: str) -> Any:
    if not os.path.isfile(path):
        raise _Usage(f"there is no file {path!r}")
    folder = os.path.dirname(os.path.abspath(path))
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = Path(path).stem
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    loader = spec.loader
    assert loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)
    return _imported(path, lambda: loader.exec_module(module), module)


def _from_package(name: str) -> Any:
    sys.path.insert(0, os.getcwd())
    return _imported(name, lambda: importlib.import_module(name), None)


def _imported(what: str, load: Any, module: Any) -> Any:
    try:
        return load() or module
    except (Exception, SystemExit) as error:
        raise _Usage(f"{what} could not be imported: {type(error).__name__}: {error}") from None


def _function(module: Any, name: str | None, what: str) -> Any:
    if name is None:
        return None
    found = module
    for part in name.split("."):
        found = getattr(found, part, None)
    file = getattr(module, "__file__", module.__name__)
    if found is None:
        raise _Usage(f"{what}: {file} has no {name!r}")
    if not is_async(found):
        raise _Usage(f"{what}: {name!r} in {file} is not an async function")
    return found
