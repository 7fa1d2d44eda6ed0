"""Values that can't be changed: what ``@dataclass(frozen=True, slots=True)`` makes, without the code that it generates.

To generate and compile that code at the import takes as long as many modules. `dataclasses` itself is loaded when somebody
asks it for the fields of such a value (`dataclasses.replace`, `fields`, `asdict`); for it, these are dataclasses.
"""

from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(**_):
        """Tell type checkers what a value is; do nothing."""
        return lambda cls: cls


__all__ = ["Value", "dataclass", "put"]

#: sets an attribute of a value, for its ``__init__`` alone
put = object.__setattr__


class _Asked:
    """An attribute that `dataclasses` looks for: that of the dataclass which a value would have been."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, value: object, owner: type) -> Any:
        home: Any = next(cls for cls in owner.__mro__ if "__match_args__" in vars(cls))
        if home is Value:
            raise AttributeError(self._name)
        from dataclasses import field, make_dataclass

        names: tuple[str, ...] = home.__match_args__
        defaults: tuple[Any, ...] = home.__init__.__defaults__ or ()
        given = [(name, home.__annotations__[name]) for name in names[: len(names) - len(defaults)]]
        optional = [
            (name, home.__annotations__[name], field(default=default))
            for name, default in zip(names[len(given) :], defaults, strict=True)
        ]
        return getattr(make_dataclass(home.__name__, [*given, *optional], frozen=True, slots=True), self._name)


class Value:
    """The base of a value, which names its fields in ``__slots__`` and ``__match_args__`` and sets them in ``__init__``."""

    __slots__ = ()
    __match_args__ = ()

    if not TYPE_CHECKING:  # the decorator of the class says all this to type checkers
        __dataclass_fields__ = _Asked()
        __dataclass_params__ = _Asked()

        def __setattr__(self, name, value):
            if _is_fixed(self, name):
                raise _frozen(f"cannot assign to field {name!r}")
            put(self, name, value)

        def __delattr__(self, name):
            if _is_fixed(self, name):
                raise _frozen(f"cannot delete field {name!r}")
            object.__delattr__(self, name)

        @recursive_repr()
        def __repr__(self):
            parts = zip(self.__match_args__, self.__getstate__(), strict=True)
            return f"{type(self).__qualname__}({', '.join(f'{name}={part!r}' for name, part in parts)})"

        def __eq__(self, other):
            if type(other) is not type(self):
                return NotImplemented
            return self is other or self.__getstate__() == other.__getstate__()

        def __hash__(self):
            return hash(tuple(self.__getstate__()))

        def __replace__(self, /, **changes):
            from dataclasses import replace

            return replace(self, **changes)

        def __getstate__(self):
            return [getattr(self, name) for name in self.__match_args__]

        def __setstate__(self, state):
            for name, part in zip(self.__match_args__, state, strict=True):
                put(self, name, part)


def _is_fixed(value: Any, name: str) -> bool:
    """A class below may have attributes of its own."""
    return name in value.__match_args__ or not hasattr(value, "__dict__")


def _frozen(text: str) -> AttributeError:
    from dataclasses import FrozenInstanceError

    return FrozenInstanceError(text)
