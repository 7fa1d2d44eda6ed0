"""The hook that PyInstaller runs when a program imports calloff."""

from PyInstaller.utils.hooks import collect_submodules  # pyright: ignore

#: what only the command line, its screens and pages, and tests need
_LEFT_OUT = tuple(f"calloff.{name}" for name in ("_pyinstaller", "cli", "otel", "testing", "top", "web", "__main__"))

hiddenimports = [
    "cloudpickle",
    *collect_submodules("calloff", filter=lambda name: not name.startswith(_LEFT_OUT), on_error="ignore"),
]
