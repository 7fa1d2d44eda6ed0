"""The version, from what was installed: it is written down once, in `pyproject.toml`."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("calloff")
except PackageNotFoundError:  # packed without its metadata
    __version__ = "0+unknown"
