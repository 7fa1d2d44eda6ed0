"""The build backend: uv's, and the manual page is put into each wheel.

A wheel's ``data/share`` is installed below the prefix, where `man` looks when the folder of its programs is on PATH.
"""

import base64
import hashlib
import re
import tomllib
import zipfile
from pathlib import Path
from typing import Any

from uv_build import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from uv_build import build_wheel as _build_wheel
from uv_build import get_requires_for_build_wheel as _requires

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

#: what the help of the command line loads
_NEEDED = re.compile("^(cloudpickle|msgspec)")


def get_requires_for_build_wheel(config_settings: Any = None) -> "list[str]":
    """Beside uv's own needs what calloff itself needs: it is asked for its help."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    return [*_requires(config_settings), *filter(_NEEDED.match, project["dependencies"])]


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: "str | None" = None) -> str:
    """A wheel as uv makes it, with the manual page."""
    from _man import page

    name: str = _build_wheel(wheel_directory, config_settings, metadata_directory)
    whole = "-".join(name.split("-")[:2])
    path = f"{whole}.data/data/share/man/man1/calloff.1"
    text = page(whole.partition("-")[2]).encode()
    digest = base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=").decode()
    _add(Path(wheel_directory, name), f"{whole}.dist-info/RECORD", path, text, f"{path},sha256={digest},{len(text)}\n")
    return name


def _add(wheel: Path, record: str, path: str, data: bytes, entry: str) -> None:
    """Write the wheel once more, with one file and its entry; everything else and its date stay."""
    with zipfile.ZipFile(wheel) as old:
        files = [(each, old.read(each)) for each in old.infolist()]
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as new:
        for each, content in files:
            if each.filename == record:
                new.writestr(zipfile.ZipInfo(path, each.date_time), data, zipfile.ZIP_DEFLATED)
                content = entry.encode() + content
            new.writestr(each, content)
