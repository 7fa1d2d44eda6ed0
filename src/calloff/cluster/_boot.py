"""Turns a bare Python at the other end of a stream into an agent: brings calloff along, in a cache there.

What is started on the node is ``python3 -c CODE``. It reads one line of Python from its input and runs it; that says which
Python it is and whether the package is in the cache; the package comes if not; then the agent begins.
"""

import functools
import hashlib
import io
import json
import os
import zipfile
from importlib.util import find_spec

from .._version import __version__

__all__ = ["CODE", "Boot"]

#: for ``python3 -c``: without quotes that a shell would take
CODE = "import os;exec(b''.join(iter(lambda:os.read(0,1),b'\\n')))"
_MARK = b"\0calloff-boot "
#: how much of what is no answer is kept, for an error
_WORDS = 4000

_SOURCE = """
import json, os, sys
key = {key!r}
def read(size):
    data = b""
    while len(data) < size:
        part = os.read(0, min(size - len(data), 1 << 20))
        if not part:
            os._exit(1)
        data += part
    return data
base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
where = os.path.join(base, "calloff", key)
have = os.path.isdir(where)
version = ".".join(map(str, sys.version_info[:3]))
facts = {{"python": version, "implementation": sys.implementation.name, "have": have}}
os.write(1, {mark!r} + json.dumps(facts).encode() + b"\\n")
if not have:
    size = int(read(12))
    data = read(size)
    import io, shutil, tempfile, zipfile
    def unpacked(make):
        new = make()
        try:
            zipfile.ZipFile(io.BytesIO(data)).extractall(new)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        return new
    def in_cache():
        os.makedirs(os.path.dirname(where), 0o700, exist_ok=True)
        return tempfile.mkdtemp(dir=os.path.dirname(where))
    try:
        new = unpacked(in_cache)
    except OSError:  # there is no room, or no right to it
        where = new = unpacked(lambda: tempfile.mkdtemp(prefix="calloff-"))
    if new != where:
        try:
            os.rename(new, where)
        except OSError:
            shutil.rmtree(new, ignore_errors=True)
sys.path[:0] = [where]
from calloff.cluster._agent import main
main(0, 1)
"""


class Boot:
    """The talk with one bare Python, until it is an agent.

    Args:
        modules: names of packages and modules that are brought along beside calloff; pure Python.
    """

    def __init__(self, modules: tuple[str, ...] = ()) -> None:
        self._bundle, key = bundle(modules)
        source = _SOURCE.format(key=key, mark=_MARK)
        self.first: bytes = f"exec({source!r})\n".encode()
        #: what is to be sent now
        self.reply: list[bytes] | None = None
        self._held = b""

    def feed(self, data: bytes) -> bytes | None:
        """Take what came; what is the agent's own, once it has begun."""
        self._held += data
        _, mark, rest = self._held.partition(_MARK)
        line, end, rest = rest.partition(b"\n")
        if not mark or not end:
            self._held = self._held[-_WORDS:] if not mark else self._held
            return None
        if not json.loads(line)["have"]:
            self.reply = [b"%012d" % len(self._bundle), self._bundle]
        return rest

    def said(self) -> str:
        """What came instead of an answer."""
        return " ".join(self._held.decode(errors="replace").split())[-400:]


@functools.cache
def bundle(modules: tuple[str, ...]) -> tuple[bytes, str]:
    """The package, with what it needs and what was asked for, as an archive; and a name that tells it from all others."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        told = zipfile.ZipInfo(f"calloff-{__version__}.dist-info/METADATA", (1980, 1, 1, 0, 0, 0))
        archive.writestr(told, f"Metadata-Version: 2.1\nName: calloff\nVersion: {__version__}\n")
        for name in ("calloff", "cloudpickle", *modules):
            for path, inside in sorted(_files(name)):
                info = zipfile.ZipInfo(inside, (1980, 1, 1, 0, 0, 0))
                info.external_attr = 0o644 << 16
                with open(path, "rb") as file:
                    archive.writestr(info, file.read(), zipfile.ZIP_DEFLATED)
    data = out.getvalue()
    return data, hashlib.sha256(data).hexdigest()[:24]


def _files(name: str) -> list[tuple[str, str]]:
    """The files of a module, each with its path in the archive."""
    spec = find_spec(name)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ValueError(f"modules: {name!r} is no module of Python code that this program could send")
    if spec.submodule_search_locations is None:
        return [(spec.origin, os.path.basename(spec.origin))]
    root = os.path.dirname(spec.origin)
    found: list[tuple[str, str]] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [each for each in folders if each != "__pycache__"]
        inside = os.path.join(name, os.path.relpath(folder, root))
        found += [(os.path.join(folder, each), os.path.normpath(os.path.join(inside, each))) for each in names]
    return found
