"""The file of findings that somebody has decided to live with: a line each, the id and the reason."""

from pathlib import Path

__all__ = ["read_known"]


def read_known(file: str) -> dict[str, str]:
    """The reasons by id. Empty lines, and those that begin with ``#``, don't count.

    Raises:
        ValueError: a line without a reason.
        OSError: the file can't be read.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(Path(file).read_text(encoding="utf-8").splitlines(), 1):
        name, _, reason = line.strip().partition(" ")
        if name and not name.startswith("#"):
            if not reason.strip():
                raise ValueError(f"{file}:{number}: {name} needs a reason after it")
            found[name] = reason.strip()
    return found
