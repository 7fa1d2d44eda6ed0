"""Texts of others (names, reasons, errors, paths, source lines) are data wherever they are shown."""

__all__ = ["clean", "printable"]


def clean(text: str) -> str:
    """In one line, and nothing that a terminal would obey."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """Nothing that a terminal would obey."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)
