"""How the verbs read their options: one parser for all, and durations. Loads nothing that runs or looks."""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from .._words.durations_text import EXAMPLES, read_duration
from ._refusal import Refused

__all__ = ["Parser", "duration", "parser", "time_limit"]


class Parser(argparse.ArgumentParser):
    """Whatever is wrong with the command line is said in one line."""

    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message}; see {self.prog} --help")

    def parse_args(  # type: ignore[override]  # the one form of the three that is used here
        self, args: Sequence[str] | None = None, namespace: None = None
    ) -> argparse.Namespace:
        """Read the options; one that there is not is told together with the one that may be meant."""
        options, unknown = self.parse_known_args(args)
        if unknown:
            from difflib import get_close_matches

            word = unknown[0].partition("=")[0]
            close = get_close_matches(word, self._option_string_actions, 1) if word.startswith("--") else []
            meant = f" (did you mean {close[0]}?)" if close else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return options


def parser(verb: str, usage: str, description: str, epilog: str) -> Parser:
    """A parser for one verb."""
    return Parser(
        prog=f"calloff {verb}",
        usage=usage,
        description=description,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=100),
    )


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
