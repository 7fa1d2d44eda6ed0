"""What a program may have in the place of what the interpreter has."""

from collections.abc import Coroutine, Generator
from typing import Any


class OwnCoroutine(Coroutine[Any, Any, Any]):
    """Wraps a coroutine, and is none of the interpreter's."""

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self.inner = inner

    def send(self, value: Any) -> Any:
        return self.inner.send(value)

    def throw(self, *error: Any) -> Any:
        return self.inner.throw(*error)

    def close(self) -> None:
        self.inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.inner.__await__()
