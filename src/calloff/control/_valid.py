"""Texts of a program that are not valid Unicode, as file names may be: made valid before they are sent."""

from typing import Any

__all__ = ["valid"]


def valid(data: Any) -> Any:
    """Plain data with half characters (lone surrogates) written out as ``\\udce9``."""
    if isinstance(data, str):
        return data.encode(errors="backslashreplace").decode()
    if isinstance(data, dict):
        return {valid(key): valid(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [valid(each) for each in data]
    return data
