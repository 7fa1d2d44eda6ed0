"""The last line of the screen: the keys, as many as have room; ``?`` tells all of them."""

from collections.abc import Iterable

from textual.app import ComposeResult
from textual.widget import Widget
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

__all__ = ["Keys"]

#: cells around a key and its word
_AROUND = 3


class Keys(Footer):
    """Textual's footer, without the word that would be cut at the edge, and those after it."""

    def compose(self) -> ComposeResult:
        """The keys."""
        yield from self._fitting(super().compose(), self.app.size.width)

    def on_resize(self) -> None:
        """More of them have room, or fewer."""
        list(self._fitting(self.children, self.app.size.width))

    def _fitting(self, keys: Iterable[Widget], room: int) -> Iterable[Widget]:
        for key in keys:
            if isinstance(key, FooterKey):
                room -= len(key.key_display) + len(key.description) + _AROUND
                key.display = room >= 0
            yield key
