"""The endings of a map in a file, one line of JSON each: what is done is known to the next run.

A line is appended by one `os.write`, so that SIGKILL can tear at most the last one, which the next run cuts off. The file
is locked (`flock`) as long as it is open, and after a SIGKILL until the last of our workers is dead: the process that
starts them holds it open, too. So a run that goes on waits a moment for the lock, and no item runs in both. An item is
known by its number and a digest of what runs and of its JSON, or by the text that `key` gives; a run that goes on keeps
eight bytes for each item of the file, whatever the values hold.
"""

import asyncio
import contextlib
import errno
import fcntl
import json
import logging
import os
import stat
from array import array
from collections.abc import Callable
from hashlib import blake2b
from math import isfinite
from time import monotonic
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from .._places.command.plan import Finished
from .._places.keepers import hold
from .._words.bears import bears
from .._words.errors import CalloffError, CommandFailed
from .._words.outcome import Abandoned, Cancelled, Completed, Failed, Outcome
from .._words.untouched import is_a
from .flight import Flight, error_of

__all__ = ["Journal", "Output", "line_of", "output_of"]

_logger = logging.getLogger("calloff")
_CHUNK = 1 << 16
#: of every line
_BEGIN = b'{"n":'
#: bytes that are read in a few milliseconds
_LARGE = 1 << 21
#: more items than can be in flight
_IN_FLIGHT = 1 << 24
#: seconds that a run which goes on waits for the workers of one that was killed
_PATIENCE, _PAUSE = 3.0, 0.02


class _Line(msgspec.Struct):
    """What the next run wants to know of a line."""

    n: Annotated[int, msgspec.Meta(ge=0)]
    key: str
    state: str


def _shown(value: Any) -> str:
    """What JSON can't hold, as Python shows it."""
    return repr(value)


_encode = msgspec.json.Encoder(enc_hook=_shown).encode
#: sets have another order in each program
_strict = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(_Line).decode


class Journal:
    """The file of one map."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        resume: bool | Literal["failed"],
        key: Callable[[Any], str] | None,
        target: str,
    ) -> None:
        if resume not in (False, True, "failed"):
            raise ValueError(f"resume must be True, False or 'failed', not {resume!r}")
        if key is not None and not callable(key):
            raise TypeError(f"key must be a function that gives a text, not {key!r}")
        try:
            self._path = os.fspath(path)
        except TypeError:
            raise TypeError(f"output must be the path of a file, not {path!r}") from None
        self._resume = resume
        self._key = key
        self._base = blake2b(target.encode() + b"\0", digest_size=8)
        self._file = -1
        #: how many endings this run has written
        self.written: int = 0
        self._held: Callable[[], None] | None = None
        self._by_number = array("Q")
        #: and what stands further up in the file for a number that other items have had since, of another function, say
        self._others: set[tuple[int, int]] = set()
        self._by_key: set[bytes] = set()
        #: those that are not run again although they did not complete
        self._failed: set[bytes | tuple[int, int]] = set()

    # --- the file

    async def open(self) -> None:
        """Open and lock it, and cut off what was torn; `read` is next.

        Raises:
            FileExistsError: it holds something, and nobody asked to go on with it.
            CalloffError: another map writes it.
            ValueError: it is no regular file, or ends in what is none of ours.
            OSError: it can't be opened for reading and writing.
        """
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                raise ValueError(f"output must be a regular file, which {self._path!r} is not")
            await self._lock()
            if os.fstat(self._file).st_size and not self._resume:
                raise FileExistsError(
                    f"{self._path!r} holds results of an earlier run: go on with it (resume), or give another output"
                )
            self._cut()
        except BaseException:
            self.close()
            raise

    async def _lock(self) -> None:
        end = monotonic() + (_PATIENCE if self._resume else 0)
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if monotonic() < end:
                    await asyncio.sleep(_PAUSE)
                    continue
                raise CalloffError(
                    f"another map writes {self._path!r}: wait for its end, or give another output"
                ) from None
            return

    def hold(self) -> None:
        """Processes are about to be started: as long as they live the file is locked."""
        if self._held is None:
            try:
                self._held = hold(asyncio.get_running_loop(), self._file)
            except (OSError, CalloffError):  # the start of the process will say so
                return

    def close(self) -> None:
        """Close it, and give back the lock."""
        file, self._file = self._file, -1
        if file < 0:
            return
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
        os.close(file)
        held, self._held = self._held, None
        if held is not None:
            held()

    @property
    def is_large(self) -> bool:
        """Whether reading it takes so long that nobody else is to wait for that."""
        return os.fstat(self._file).st_size > _LARGE

    def _cut(self) -> None:
        """Take away a last line that was not written to its end."""
        size = end = os.fstat(self._file).st_size
        while end:
            start = max(0, end - _CHUNK)
            found = os.pread(self._file, end - start, start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            torn = os.pread(self._file, len(_BEGIN), end)
            if torn.strip(b"\0") and not _BEGIN.startswith(torn.rstrip(b"\0")):
                raise ValueError(
                    f"{self._path!r} ends in the middle of a line that no map has written: give another output"
                )
            _logger.warning("%s: the last line was cut off in the middle and is removed", self._path)
            os.ftruncate(self._file, end)

    def read(self) -> None:
        """Take note of what is done."""
        most = os.fstat(self._file).st_size + _IN_FLIGHT  # the items before one have lines, or were in flight
        with open(self._path, "rb") as lines:
            for number, text in enumerate(lines, 1):
                try:
                    line = _decode(text)
                    if line.n > most:
                        raise msgspec.ValidationError(f"there can't have been an item {line.n}")
                except msgspec.MsgspecError as error:
                    _logger.warning(
                        "%s, line %d: damaged, and its item counts as missing: %s", self._path, number, error
                    )
                    continue
                self._note(line)

    def _note(self, line: _Line) -> None:
        completed = line.state == "completed"
        done = completed or self._resume is True
        if self._key is not None:
            if done:
                digest = _digest(line.key)
                self._by_key.add(digest)
                self._note_end(digest, completed)
            return
        try:
            known = int(line.key, 16)
        except ValueError:
            return  # of a run with another `key`
        seen = self._by_number
        if line.n >= len(seen):
            seen.frombytes(bytes(8 * (line.n + 1 - len(seen))))
        if done:
            before, seen[line.n] = seen[line.n], known & 0xFFFF_FFFF_FFFF_FFFF
            self._note_end((line.n, seen[line.n]), completed)
            if before and before != seen[line.n]:
                self._others.add((line.n, before))

    def _note_end(self, item: bytes | tuple[int, int], completed: bool) -> None:
        if not completed:
            self._failed.add(item)
        elif self._failed:
            self._failed.discard(item)  # a later run has completed it

    # --- its items

    @bears
    def key_of(self, item: Any, number: int) -> str:
        """By what the item is known.

        Raises:
            TypeError: it has no JSON, and no `key` was given.
        """
        if self._key is not None:
            key = self._key(item)
            if not isinstance(key, str):
                raise TypeError(f"key must give a text, not {key!r}")
            return key if key.isascii() else key.encode(errors="backslashreplace").decode()  # as it is written
        try:
            text = _strict(item)
            if b"null" in text and not _is_finite(msgspec.to_builtins(item)):
                text = repr(item).encode(errors="backslashreplace")
        except UnicodeEncodeError:  # bytes of a file's name that are no UTF-8
            text = json.dumps(item).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(
                f"item {number} has no JSON by which it could be known in the output: give key= ({error})"
            ) from None
        digest = self._base.copy()
        digest.update(text)
        return digest.hexdigest()

    def has(self, key: str, number: int) -> bool:
        """Whether an earlier run has done it."""
        if self._key is not None:
            return _digest(key) in self._by_key
        known = int(key, 16)
        return number < len(self._by_number) and (self._by_number[number] == known or (number, known) in self._others)

    def failed(self, key: str, number: int) -> bool:
        """Whether an earlier run has done it, and it did not complete."""
        return (_digest(key) if self._key is not None else (number, int(key, 16))) in self._failed

    def write(self, flight: Flight, outcome: Outcome[Any]) -> None:
        """Append its ending.

        Raises:
            OSError: the disk is full or the like; what is in the file stays whole. Or somebody has removed the file.
        """
        self._append(line_of(flight, outcome))
        self.written += 1

    def _append(self, data: bytes) -> None:
        found = os.fstat(self._file)
        size = found.st_size
        if not found.st_nlink:  # nobody would ever read it
            raise FileNotFoundError(errno.ENOENT, "the output was removed while the map wrote it", self._path)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            os.ftruncate(self._file, size)
            raise OSError(error.errno, f"{error.strerror}; what is done is in the file", self._path) from None


def line_of(flight: Flight, outcome: Outcome[Any]) -> bytes:
    """The line that tells an ending."""
    line: dict[str, Any] = {"n": flight.number}
    if flight.key is not None:
        line["key"] = flight.key
    line["item"] = flight.item
    line["state"] = type(outcome).__name__.lower()
    if (output := output_of(flight, outcome)) is not None:
        status = {} if output.status is None else {"status": output.status}
        line["value"] = {**status, "stdout": _decoded(output.stdout), "stderr": _decoded(output.stderr)}
    elif isinstance(outcome, Completed):
        line["value"] = outcome.value
    if not isinstance(outcome, Completed):
        line.update(_told(outcome))
    line["seconds"] = round(flight.seconds, 6)
    line["attempts"] = flight.attempt
    return _text(line) + b"\n"


class Output(NamedTuple):
    """What a command has printed; its status where it came to an end of its own."""

    status: int | None
    stdout: bytes
    stderr: bytes


def output_of(flight: Flight, outcome: Outcome[Any]) -> Output | None:
    """What the command of an item has printed, whatever its ending; ``None`` where there was none."""
    if isinstance(outcome, Completed) and is_a(outcome.value, Finished):
        value = outcome.value
        return Output(value.status, value.stdout, value.stderr)
    if flight.work is None:
        return None
    error = outcome.error if isinstance(outcome, Failed) else None
    status = error.status if isinstance(error, CommandFailed) else None
    return Output(status, flight.work.stdout_so_far, flight.work.stderr_so_far)


def _decoded(output: bytes) -> str:
    return output.decode(errors="replace")


def _digest(key: str) -> bytes:
    return blake2b(key.encode(), digest_size=8).digest()


def _told(outcome: Outcome[Any]) -> dict[str, Any]:
    """What a line tells of an ending that is no value."""
    told: dict[str, Any] = {}
    if isinstance(outcome, (Cancelled, Abandoned)):
        told["reason"] = str(outcome.reason.kind)
        told["rung"] = str(outcome.report.rung)
    error = error_of(outcome)
    try:
        text = str(error)
    except Exception:
        text = ""
    return {"error": f"{type(error).__name__}: {text}" if text else type(error).__name__, **told}


def _text(line: dict[str, Any]) -> bytes:
    try:
        data = _encode(line)
        if b"null" not in data or _is_finite(_plain([line.get("item"), line.get("value")])):
            return data
    except Exception:  # keys that are no texts, objects within themselves, a `repr` that fails
        pass
    for part in ("item", "value", "key", "error"):
        if part in line:
            try:
                _encode(line[part])
                is_told = _is_finite(_plain(line[part]))
            except Exception:
                is_told = False
            if not is_told:
                line[part] = _in_words(line[part])
    return _encode(line)


def _plain(value: Any) -> Any:
    """The same, of nothing but what has JSON."""
    return msgspec.to_builtins(value, enc_hook=_shown)


def _is_finite(plain: Any) -> bool:
    """Whether no float in it is infinite or no number, which would be ``null`` in JSON."""
    left = [plain]  # not by recursion: it may be as deep as the encoder bears
    while left:
        part = left.pop()
        if isinstance(part, dict):
            left += (*part, *part.values())
        elif isinstance(part, (list, tuple, set, frozenset)):
            left += part
        elif isinstance(part, float) and not isfinite(part):
            return False
    return True


def _in_words(value: Any) -> str:
    try:
        return (value if is_a(value, str) else repr(value)).encode(errors="backslashreplace").decode()
    except Exception:
        return f"<{type(value).__name__}>"
