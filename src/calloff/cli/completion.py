"""``calloff completion SHELL``: a script that completes verbs, options, their values, and the ids of what runs.

The scripts know nothing themselves: they hand the words to ``calloff completion words``, which prints what may come next, a
candidate a line with its description behind a tab. So they never grow old, and the three shells say the same. Options are
taken from the help of the verb. What is no option, value or id is left to the shell: it knows files best.
"""

import io
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout

from ..control._directory import sockets

__all__ = ["main"]

HELP = """\
usage: calloff completion bash|zsh|fish

Print what makes the shell complete verbs, options and the ids of what runs.

    bash   eval "$(calloff completion bash)"            in ~/.bashrc
    zsh    eval "$(calloff completion zsh)"             in ~/.zshrc, after compinit
    fish   calloff completion fish | source             in ~/.config/fish/config.fish"""

BASH = r"""_calloff() {
    local line=${COMP_LINE:0:COMP_POINT} found last; local -a words
    IFS=' ' read -ra words <<< "$line"
    [[ $line == *' ' ]] && words+=("")
    local IFS=$'\n'
    found=$(calloff completion words "${words[@]:1}" 2>/dev/null | cut -f1)
    COMPREPLY=($found)
    last=${words[-1]}  # bash takes a colon for the end of a word, and completes what is behind it
    [[ $last == *:* && $COMP_WORDBREAKS == *:* ]] && COMPREPLY=("${COMPREPLY[@]#"${last%:*}:"}")
}
complete -o default -F _calloff calloff"""

ZSH = r"""_calloff() {
    local -a found; local line
    for line in "${(@f)$(calloff completion words "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -n $line ]] && found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    if (( $#found )); then _describe calloff found; else _files; fi
}
compdef _calloff calloff"""

FISH = r"""function __calloff
    set -l words (commandline -opc) (commandline -ct)
    calloff completion words $words[2..] 2>/dev/null
end
complete -c calloff -a '(__calloff)'"""

SHELLS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
#: verbs whose words are ids
_IDS = ("cancel", "ps", "show", "watch")
#: verbs that take a function of a file or module
_TARGETS = ("run", "map", "sweep")
#: at the start of a line: further on a help may speak of the options of another verb
_OPTION = re.compile(r"^ +(?:-\w(?: [A-Z]+)?, )?(--[a-z][a-z-]*)", re.MULTILINE)


def main(argv: list[str]) -> int:
    """The verb: returns the exit status."""
    if argv[:1] == ["words"]:
        for word, told in _candidates(argv[1:] or [""]):
            print(f"{word}\t{told}")
        return 0
    if argv in (["-h"], ["--help"]):
        print(HELP)
        return 0
    if len(argv) != 1 or argv[0] not in SHELLS:
        from ._options import meant_by
        from ._refusal import Refused

        raise Refused(f"name a shell: {', '.join(SHELLS)}{meant_by(argv[0], tuple(SHELLS)) if argv else ''}")
    print(SHELLS[argv[0]])
    return 0


def _candidates(words: list[str]) -> Iterator[tuple[str, str]]:
    """What may stand for the last of the words."""
    *before, typed = words
    found = _verbs() if not before else _of_verb(before[0], before[1:], typed)
    return ((word, told) for word, told in found if word.startswith(typed))


def _verbs() -> Iterator[tuple[str, str]]:
    from . import VERBS

    return ((verb, what) for verb, (_, what) in VERBS.items())


def _of_verb(verb: str, before: list[str], typed: str) -> Iterator[tuple[str, str]]:
    if "--" in before:
        return
    values = _values(before[-1]) if before else None
    if values is not None:
        yield from ((value, "") for value in values)
    elif before and before[-1] == "--name" and verb in _IDS:
        yield from _names()
    elif typed.startswith("-"):
        yield from ((option, "") for option in _options(verb))
    elif verb == "completion" and not before:
        yield from ((shell, "") for shell in SHELLS)
    elif verb in _IDS:
        yield from _ids(verb)
    elif verb in _TARGETS and ":" in typed:
        yield from _functions(typed)


def _functions(typed: str) -> Iterator[tuple[str, str]]:
    """The functions of the file or module before the colon, read without being run."""
    import ast
    import os

    home, _, begun = typed.rpartition(":")
    file = home if home.endswith(".py") else os.path.join(*home.split(".")) + ".py"
    try:
        with open(file, "rb") as source:
            tree = ast.parse(source.read())
    except (OSError, ValueError, SyntaxError):
        return
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (begun or not node.name.startswith("_")):
            yield f"{home}:{node.name}", (ast.get_docstring(node) or "").partition("\n")[0]


def _names() -> Iterator[tuple[str, str]]:
    """The names of what runs, each once."""
    found: dict[str, int] = {}
    for _, told in _ids("ps"):
        name = told.rpartition(" (")[0]
        found[name] = found.get(name, 0) + 1
    return ((name, f"{number} of them" if number > 1 else "") for name, number in found.items())


def _values(option: str) -> tuple[str, ...] | None:
    if option == "--in":
        return "task", "thread", "process"
    if option in ("--state", "--place", "--sort"):
        from ..control._records import PLACES, SORTS, STATES

        return {"--state": STATES, "--place": PLACES, "--sort": SORTS}[option]
    return None


def _options(verb: str) -> list[str]:
    """Those that the help of the verb names."""
    from . import VERBS
    from . import main as calloff

    if verb not in VERBS:
        return []
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(io.StringIO()):
        try:
            calloff([verb, "--help"])
        except SystemExit:
            pass
    return list(dict.fromkeys(_OPTION.findall(said.getvalue())))


def _ids(verb: str) -> Iterator[tuple[str, str]]:
    """What runs; for those that only look, what has ended lately, too."""
    try:
        if not sockets():
            return
    except Exception:
        return
    import asyncio

    from ..control._client import Client
    from ..control._records import Query

    async def look() -> list[tuple[str, str]]:
        async with Client() as client:
            overview = await client.list(Query(ended=verb == "show", where=False, limit=200))
        return [(row.id, f"{row.name} ({row.state})") for row in overview.rows]

    yield from asyncio.run(look())
