"""How the verbs read their options: one parser for all, and durations. Loads nothing that runs or looks."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from .._words.durations_text import EXAMPLES, read_duration
from ._help import Help, environment, examples
from ._refusal import Refused

__all__ = ["Parser", "duration", "meant_by", "parser", "time_limit", "whole"]


class Parser(argparse.ArgumentParser):
    """Whatever is wrong with the command line is said in one line."""

    def error(self, message: str) -> NoReturn:
        missing = message.removeprefix("the following arguments are required: ")
        raise Refused(f"{message if missing == message else f'{missing} is missing'}; see {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a word that is none of the choices, in the words that all of the command line has for it."""
        if action.choices is not None and value not in action.choices:
            name = "/".join(action.option_strings[-1:]) or str(action.metavar)
            words = [str(choice) for choice in action.choices]
            meant = meant_by(str(value), words)
            raise Refused(f"{name} must be one of {', '.join(words)}, not {value!r}{meant}")

    def parse_args(  # type: ignore[override]  # the one form of the three that is used here
        self, args: Sequence[str] | None = None, namespace: None = None
    ) -> argparse.Namespace:
        """Read the options; one that there is not is told together with the one that may be meant."""
        options, unknown = self.parse_known_args(args)
        if unknown:
            word = unknown[0].partition("=")[0]
            meant = meant_by(word, list(self._option_string_actions)) if word.startswith("--") else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return options


def parser(verb: str, usage: str, description: str, epilog: str) -> Parser:
    """A parser for one verb."""
    reader = Parser(
        prog=f"calloff {verb}",
        usage=usage,
        description=description,
        epilog="\n\n".join(filter(None, [examples(verb), epilog, environment(verb)])),
        allow_abbrev=False,
        formatter_class=Help,
    )
    reader.add_argument("-V", "--version", action=_Version, nargs=0, help="show the version and exit")
    return reader


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"calloff {version('calloff')}")
        parser.exit()


def meant_by(word: str, those: Sequence[str]) -> str:
    """A question after the one of those words that may be meant, to stand behind a refusal; nothing if none is close."""
    from difflib import get_close_matches

    close = get_close_matches(word, those, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def whole(name: str, text: str, least: int) -> int:
    """The number that the option of that name gives.

    Raises:
        Refused: it is none, or too small.
    """
    if not text.isdecimal() or int(text) < least:
        raise Refused(f"--{name} must be a whole number, {least} or more, not {text!r}")
    return int(text)


def time_limit(name: str, text: str) -> float:
    """The seconds that a limit means, which has to leave some time.

    GNU timeout takes 0 for no limit at all, and to end it at once would be the other meaning: so neither is.
    """
    seconds = duration(name, text)
    if seconds == 0:
        raise Refused(f"--{name} must be more than 0; leave it out for no limit")
    return seconds


def duration(name: str, text: str) -> float:
    """The seconds that the option of that name means."""
    try:
        return read_duration(text)
    except ValueError:
        raise Refused(f"--{name} must be a duration such as {EXAMPLES}, not {text!r}") from None
