"""What PyInstaller is told about calloff: it loads its own modules by name, which no static analysis finds."""

__all__ = ["folders"]


def folders() -> list[str]:
    """Where the hooks are; asked by PyInstaller through the entry point ``pyinstaller40``."""
    return list(__path__)
