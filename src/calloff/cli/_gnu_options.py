"""The command line of ``calloff timeout``, read as GNU timeout reads its own.

Options end at the first word that is none, long options may be shortened, and the messages are GNU's, so that scripts
that look for them go on working. Not argparse: it reads options differently and takes half as long as Python's start.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

__all__ = ["Options", "Usage", "complain", "quote", "say", "signal_name"]

HELP = """\
Usage: calloff timeout [OPTION]... DURATION PROGRAM [ARG]...
Run PROGRAM, and end it if it is still running after DURATION. Nothing that it started survives it.

  -k, --kill-after=DURATION  send KILL as well, if it still runs this long after the first signal
  -s, --signal=SIGNAL        the signal to send on timeout, a name like HUP or a number (TERM)
  -v, --verbose              tell on stderr of each signal that is sent
  -p, --preserve-status      exit with the status of PROGRAM also when it timed out
  -f, --foreground           let PROGRAM use the terminal; only PROGRAM itself is signalled and what it
                             started is left alone
      --json                 tell the ending as one JSON document, the last line on stderr
      --help                 show this help and exit
      --version              show the version and exit

DURATION is a number with an optional suffix: s for seconds (the default), m for minutes, h for hours, d for days.
0 means no limit. A signal that calloff timeout gets itself (HUP, INT, QUIT, TERM) is passed on.

What PROGRAM leaves behind when it ends (background jobs, daemons) has 0.25 s to end by itself, or is sent the signal
at once after a timeout; what still runs after the duration of -k (1 s without it) is killed. --foreground keeps it.

Exit status:
  124  PROGRAM timed out, and --preserve-status is not given
  125  calloff timeout itself failed
  126  PROGRAM was found but can't be executed
  127  PROGRAM was not found
  137  PROGRAM was sent KILL (128+9)
  else the status of PROGRAM"""


class Usage(Exception):
    """The command line is wrong; the text is GNU's, and may be empty."""


def complain(text: str) -> None:
    """A message on stderr, in the form that scripts look for."""
    say(f"timeout: {''.join(map(_shown, text))}\n")


def _shown(char: str) -> str:
    """A character of a message: of a name that is no Unicode its bytes, and nothing else that a terminal would obey."""
    return char if char.isprintable() or "\udc80" <= char <= "\udcff" else "?"


def say(text: str) -> None:
    try:
        os.write(2, text.encode(errors="surrogateescape"))
    except OSError:
        pass


# --- options, as getopt_long reads them

_SHORT = {"k": "kill-after", "s": "signal", "v": "verbose", "p": "preserve-status", "f": "foreground"}
_LONG = ("foreground", "help", "json", "kill-after", "preserve-status", "signal", "verbose", "version")
_TAKES_VALUE = ("kill-after", "signal")


class Options:
    """What the command line asks for."""

    def __init__(self, argv: "list[str]") -> None:
        self.foreground = self.preserve_status = self.verbose = self.json = False
        self.kill_after: float = 0.0
        self.signal: int = int(_signal.SIGTERM)
        self.text: str | None = None
        words = self._read(argv)
        if self.text is None:
            if len(words) < 2:
                raise Usage("")
            self.limit: float = duration(words[0])
            self.command: list[str] = words[1:]

    def _read(self, argv: "list[str]") -> "list[str]":
        words = list(argv)
        while words and words[0].startswith("-") and words[0] != "-" and self.text is None:
            word = words.pop(0)
            if word == "--":
                break
            if word.startswith("--"):
                name, equals, value = word[2:].partition("=")
                name = _long_name(name)
                if equals and name not in _TAKES_VALUE:
                    raise Usage(f"option '--{name}' doesn't allow an argument")
                if not equals and name in _TAKES_VALUE:
                    if not words:
                        raise Usage(f"option '--{name}' requires an argument")
                    value = words.pop(0)
                self._set(name, value)
                continue
            letters = word[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                short = _SHORT.get(letter)
                if short is None:
                    raise Usage(f"invalid option -- '{letter}'")
                value = ""
                if short in _TAKES_VALUE:
                    if not letters and not words:
                        raise Usage(f"option requires an argument -- '{letter}'")
                    value, letters = letters or words.pop(0), ""
                self._set(short, value)
        return words

    def _set(self, name: str, value: str) -> None:
        if name == "kill-after":
            self.kill_after = duration(value)
        elif name == "signal":
            self.signal = signal_number(value)
        elif name == "help":
            self.text = HELP
        elif name == "version":
            from importlib.metadata import version

            self.text = f"timeout (calloff {version('calloff')})"
        else:
            setattr(self, name.replace("-", "_"), True)


def _long_name(given: str) -> str:
    if given in _LONG:
        return given
    close = [name for name in _LONG if name.startswith(given)]
    if len(close) == 1:
        return close[0]
    if close:
        listed = " ".join(f"'--{name}'" for name in close)
        raise Usage(f"option '--{given}' is ambiguous; possibilities: {listed}")
    raise Usage(f"unrecognized option '--{given}'")


def duration(text: str) -> float:
    """Seconds: a number as C reads it, with one of the suffixes s, m, h, d."""
    seconds = _number(text)
    if seconds is None and text[-1:] in ("s", "m", "h", "d"):
        seconds = _number(text[:-1])
        if seconds is not None:
            seconds *= {"s": 1, "m": 60, "h": 3600, "d": 86400}[text[-1]]
    if seconds is None or not seconds >= 0:
        raise Usage(f"invalid time interval {quote(text)}")
    return seconds


def _number(text: str) -> float | None:
    if "_" in text or not text.isascii() or text != text.rstrip():
        return None
    try:
        return float.fromhex(text) if "x" in text.lower() else float(text)
    except OverflowError:
        return float("inf")
    except ValueError:
        return None


def _signals() -> "dict[str, int]":
    names = {n[3:]: int(getattr(_signal, n)) for n in dir(_signal) if n.startswith("SIG") and n[3:].isalnum()}
    for other in ("BLOCK", "UNBLOCK", "SETMASK"):  # not names of signals
        names.pop(other, None)
    return {"EXIT": 0, **names}


def signal_number(text: str) -> int:
    """The number of ``TERM``, ``SIGTERM``, ``term``, ``RTMIN+1`` or ``15``."""
    names = _signals()
    number: int | None
    if text.isascii() and text.isdigit():
        number = int(text)
        if 128 < number < 256:  # the exit status of what this signal ended
            number &= 0x7F
        known = number in names.values() or names["RTMIN"] <= number <= names["RTMAX"]
        number = number if known else None
    else:
        name = text.upper().removeprefix("SIG")
        number = names.get(name)
        for end, step in (("RTMIN", 1), ("RTMAX", -1)):
            offset = name.removeprefix(end + ("+" if step > 0 else "-"))
            if offset != name and offset.isdigit() and int(offset) <= names["RTMAX"] - names["RTMIN"]:
                number = names[end] + step * int(offset)
    if number is None:
        raise Usage(f"{quote(text)}: invalid signal")
    return number


def signal_name(number: int) -> str:
    """``TERM`` for 15, ``RTMIN+1`` for 35."""
    names = _signals()
    known = next((name for name, value in names.items() if value == number), None)
    if known is not None:
        return known
    above, below = number - names["RTMIN"], names["RTMAX"] - number
    return f"RTMIN+{above}" if above <= below else f"RTMAX-{below}"


def quote(text: str) -> str:
    """Quoted as GNU programs do: with typographic quotes where the locale is UTF-8."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or ""
    if locale.upper().replace("-", "").endswith("UTF8"):
        return f"\u2018{text}\u2019"
    return f"'{text}'"
