"""How the verbs read their options: one parser for all, and durations. Loads nothing that runs or looks."""

import argparse
from functools import partial
from typing import NoReturn

from .._words.durations_text import EXAMPLES, read_duration
from ._refusal import Refused

__all__ = ["Parser", "duration", "parser"]


class Parser(argparse.ArgumentParser):
    """Whatever is wrong with the command line is said in one line."""

    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message}; see {self.prog} --help")


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


def duration(name: str, text: str) -> float:
    """The seconds that the option of that name means."""
    try:
        return read_duration(text)
    except ValueError:
        raise Refused(f"--{name} must be a duration such as {EXAMPLES}, not {text!r}") from None
