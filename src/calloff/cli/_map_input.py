"""The items of ``calloff map``: JSON Lines, plain lines, a CSV file with a header, or words after ``:::``.

A wrong line is an item that fails, with its number; the others run.
"""

import csv
import itertools
import json
import os
import re
import sys
from collections.abc import AsyncIterable, Iterable, Iterator
from io import BufferedReader, TextIOWrapper
from typing import Any, cast

from .._map.aside import Aside
from .._map.flight import Wrong
from ._refusal import Refused

__all__ = ["FORMATS", "as_they_come", "items_of", "split_words", "total_of"]

FORMATS = ("jsonl", "lines", "csv", "null")
_BY_ENDING = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv"}


def items_of(path: str, form: str | None, *, as_text: bool) -> Iterator[Any]:
    """The items in a file, or on the standard input for ``-``; drawn line by line.

    Args:
        form: one of `FORMATS`; ``None``: by the ending of the name, and for any other name plain lines, of which those
            that are JSON are read as JSON, like the arguments of ``calloff run``.
        as_text: whether plain lines are to stay texts, as the words of a command are.

    Raises:
        Refused: it can't be read.
    """
    ending = os.path.splitext(path)[1].lower()
    form = form or _BY_ENDING.get(ending)
    if path == "-" and sys.stdin is None:
        raise Refused("--input: standard input is closed")
    try:
        source = sys.stdin.fileno() if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        file = os.fdopen(source, encoding="utf-8-sig", errors="surrogateescape", newline="", closefd=path != "-")
    except OSError as error:
        raise Refused(f"--input: {path!r} can't be read: {error.strerror}") from None
    name = "standard input" if path == "-" else path
    if form == "csv":
        return _rows(file, name, "\t" if ending == ".tsv" else ",")
    if form == "jsonl":
        return _documents(file, name)
    if form == "null":
        return _ended_by_zeros(file)
    return _lines(file, as_text or form == "lines")


def as_they_come(path: str | None, items: Iterable[Any]) -> Iterable[Any] | AsyncIterable[Any]:
    """The same, for a loop that is not to be held up by a pipe or terminal which has nothing yet."""
    if path is None or os.path.isfile("/dev/stdin" if path == "-" else path):
        return items
    return Aside(iter(items))


def total_of(path: str, form: str | None = None) -> int | None:
    """How many lines, or for `null` how many zero bytes, a file has; ``None`` where that can't be known beforehand."""
    if path == "-" or not os.path.isfile(path):
        return None
    end = b"\0" if form == "null" else b"\n"
    with open(path, "rb") as file:
        return sum(chunk.count(end) for chunk in iter(lambda: file.read(1 << 20), b"")) or None


def _lines(file: Iterable[str], as_text: bool) -> Iterator[Any]:
    for line in file:
        text = line.rstrip("\r\n")
        if not text:
            continue
        if as_text:
            yield text
            continue
        try:
            yield json.loads(text)
        except (ValueError, RecursionError):
            yield text


def _ended_by_zeros(file: TextIOWrapper) -> Iterator[str]:
    """Texts, each ended by a zero byte, as ``find -print0`` writes names: there may be ends of lines in them."""
    rest = b""
    while more := cast("BufferedReader", file.buffer).read1(1 << 16):
        *whole, rest = (rest + more).split(b"\0")
        yield from (text.decode(errors="surrogateescape") for text in whole if text)
    if rest:
        yield rest.decode(errors="surrogateescape")


def _documents(file: Iterable[str], name: str) -> Iterator[Any]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Wrong(line.rstrip("\r\n"), ValueError(f"{name}, line {number}: not JSON: {error}"))


def _rows(file: Iterable[str], name: str, delimiter: str) -> Iterator[Any]:
    csv.field_size_limit(sys.maxsize)
    lines = csv.reader(file, delimiter=delimiter, strict=True)
    header = _header(lines, name)
    while header and (row := _row(lines)) is not None:
        if not row:
            continue
        if isinstance(row, csv.Error):
            yield Wrong("", ValueError(f"{name}, line {lines.line_num}: {row}"))
        elif len(row) == len(header):
            yield dict(zip(header, row, strict=True))
        else:
            text = f"{name}, line {lines.line_num}: {len(row)} fields, but the header has {len(header)}"
            yield Wrong(delimiter.join(row), ValueError(text))


def _header(lines: Iterator[list[str]], name: str) -> list[str]:
    """The names of the columns; those that can't be names tell that the file has none."""
    header = _row(lines)
    if isinstance(header, csv.Error):
        raise Refused(f"--input: {name}, line 1: {header}")
    if not header:
        return []
    if not all(header) or len(set(header)) < len(header):
        raise Refused(
            f"--input: the first line of {name} must name each column, once: {header!r}; "
            "a file without such a header is read with --format lines"
        )
    if all(re.fullmatch(r"[-+.\d]+", field) for field in header):
        print(
            f"calloff map: the first line of {name} is taken as the names of the columns: {header!r}", file=sys.stderr
        )
    return header


def _row(lines: Iterator[list[str]]) -> list[str] | csv.Error | None:
    """The next one, or what is wrong with it; ``None`` at the end."""
    try:
        return next(lines, None)
    except csv.Error as error:
        return error


def split_words(words: list[str]) -> tuple[list[str], list[Any] | None]:
    """The words of a command, and the items after ``:::``; several lists of items are combined, each with each."""
    for word in words:
        if word in (":::+", "::::", "::::+"):
            raise Refused(f"{word} is not known here: give the items after :::, or rows of several fields with --input")
    if ":::" not in words:
        return words, None
    parts: list[list[str]] = [[]]
    for word in words:
        if word == ":::":
            parts.append([])
        else:
            parts[-1].append(word)
    command, *lists = parts
    if len(lists) == 1:
        return command, list(lists[0])
    return command, [list(combination) for combination in itertools.product(*lists)]
