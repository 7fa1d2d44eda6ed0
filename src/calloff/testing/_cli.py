"""What ``calloff sweep`` does; its options are read in `calloff.cli.sweep`.

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
from pathlib import Path
from typing import Any

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

__all__ = ["HOWS", "ORACLES", "PHASES", "Usage", "carry_out"]

_ROLES = ("setup", "check", "teardown", "bystander")


class Usage(Exception):
    """A wrong target or option: one sentence for the user, status 2."""


def carry_out(options: argparse.Namespace, prog: str) -> int:
    """Carry out ``calloff sweep``.

    Args:
        options: as `calloff.cli.sweep` reads them.
        prog: how the command is called in its messages.

    Returns:
        The exit status: 0 all safe, 1 something unsafe, 2 the function fails without any cancel, 3 nothing unsafe but
        something unresolved, 130 interrupted.

    Raises:
        Usage: the target or an option is wrong.
    """
    try:
        report = _sweep(options, prog)
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
        raise Usage("--how disconnect, --header and --body are for a --request")
    if options.item:
        fn, roles = _items(fn, options, roles)
    try:
        case = make_case(
            fn,
            **roles,
            timeout=read_duration(options.timeout),
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
        raise Usage(str(error)) from None
    except OSError as error:
        raise Usage(f"{error.filename}: {error.strerror}") from None
    _writable(options.html)
    quiet = options.replay is None
    places: list[Place] = [make_place(case, asyncio.new_event_loop, quiet=quiet) for _ in range(options.jobs)]
    try:
        return asyncio.run(sweeping.run(places))
    except ValueError as error:  # an id that does not exist
        raise Usage(str(error)) from None
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
        raise Usage(str(error)) from None
    if roles["bystander"] is not None:
        raise Usage("--bystander is not for a --request")
    own = {role: roles[role] for role in ("setup", "check", "teardown")}
    client = Client(app, request, **own)
    check = client.check if roles["check"] is not None else None
    return client, {"setup": client.setup, "check": check, "teardown": client.teardown, "bystander": None}


def _items(fn: Any, options: argparse.Namespace, roles: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The function of the first item, and the others beside it."""
    if options.request:
        raise Usage("--item is not for a --request")
    if roles["bystander"] is not None:
        raise Usage("--bystander is not for items: the other items are")
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
        raise Usage(f"--known: {error}") from None
    except OSError as error:
        raise Usage(f"--known: {file}: {error.strerror}") from None


def _writable(page: str | None) -> None:
    """Say now, not after the sweep, that the page can't be written."""
    if page is not None:
        try:
            with open(page, "a", encoding="utf-8"):
                pass
        except OSError as error:
            raise Usage(f"--html: {page}: {error.strerror}") from None


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
        raise Usage(f"the target must be file.py:function or package.module:function, not {target!r}")
    module = _from_file(place) if place.endswith(".py") else _from_package(place)
    if wanted:
        return module, _application(module, name, wanted)
    return module, _function(module, name, "the target")


def _application(module: Any, name: str, wanted: str) -> Any:
    found = getattr(module, name, None)
    if not callable(found):
        raise Usage(f"the target: {name!r} in {getattr(module, '__file__', module.__name__)} is not {wanted}")
    return found


def _from_file(path: str) -> Any:
    if not os.path.isfile(path):
        raise Usage(f"there is no file {path!r}")
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
        raise Usage(f"{what} could not be imported: {type(error).__name__}: {error}") from None


def _function(module: Any, name: str | None, what: str) -> Any:
    if name is None:
        return None
    found = module
    for part in name.split("."):
        found = getattr(found, part, None)
    file = getattr(module, "__file__", module.__name__)
    if found is None:
        raise Usage(f"{what}: {file} has no {name!r}")
    if not is_async(found):
        raise Usage(f"{what}: {name!r} in {file} is not an async function")
    return found
