"""Pickling by value: with the code of what can't be imported, by cloudpickle, and with the file that the code is from.

cloudpickle from 3.1.3 on names that ``<dynamic-code>``, to have the same bytes for the same code. Here it is wanted: for
tracebacks, and to tell where a function is. Both ends of the wire use this.

Some things cloudpickle sends by name alone, also those of the main script, whom nobody finds by that at the other end:
functions with a cache (`functools.cache`), and what annotations are made of (``type X = ...``, `NewType`, `ParamSpec`).
They are made anew there. And from Python 3.14 on an annotation may name what there is not, as long as nobody looks at it:
then those of that function are sent as texts.
"""

import io
import sys
import typing
from abc import ABCMeta
from collections import ChainMap
from collections.abc import Callable
from functools import cache, lru_cache
from importlib import import_module
from operator import attrgetter
from pickle import PickleBuffer
from types import CodeType, FunctionType, MemberDescriptorType
from typing import Any

__all__ = ["dumps"]

_NAMELESS = "<dynamic-code>"


def dumps(value: Any, buffer_callback: Callable[[PickleBuffer], Any] | None = None) -> bytes:
    """The pickle of `value`.

    Raises:
        Exception: something of it can't be pickled.
    """
    file = io.BytesIO()
    _pickler()(file, 5, buffer_callback=buffer_callback).dump(value)
    return file.getvalue()


@cache
def _pickler() -> Any:
    cloudpickle: Any = import_module("cloudpickle")
    former: Any = cloudpickle.Pickler
    table = ChainMap({CodeType: _code(former.dispatch_table[CodeType])}, former.dispatch_table)

    def reducer_override(self: Any, value: Any) -> Any:
        kind = type(value)
        if kind is FunctionType:
            reduced = former.reducer_override(self, _with_texts(value))
        elif id(kind) in _MADE_ANEW and not _can_import(value, cloudpickle.list_registry_pickle_by_value()):
            reduced = _MADE_ANEW[id(kind)](value, vars(self).setdefault("_held", {}))
        else:
            reduced = former.reducer_override(self, value)
            if isinstance(value, type) and type(reduced) is tuple and len(reduced) == 6:
                reduced = _with_slots(value, *reduced)
        return reduced

    return type("Pickler", (former,), {"dispatch_table": table, "reducer_override": reducer_override})


def _code(
    reduce: Callable[[CodeType], tuple[Any, tuple[Any, ...]]],
) -> Callable[[CodeType], tuple[Any, tuple[Any, ...]]]:
    """What cloudpickle makes of code, with its file."""

    def reduce_with_file(code: CodeType) -> tuple[Any, tuple[Any, ...]]:
        make, args = reduce(code)
        return make, tuple([code.co_filename if type(arg) is str and arg == _NAMELESS else arg for arg in args])

    return reduce_with_file


def _with_slots(value: type, make: Any, args: Any, state: Any, *rest: Any) -> tuple[Any, ...]:
    """What cloudpickle makes of a class, with its slots: an object of one without them is not taken back here."""
    slots = {key for key, each in vars(value).items() if type(each) is MemberDescriptorType}
    if slots and "__slots__" in vars(value) and type(value) in (type, ABCMeta) and len(args) > 3:
        kind, name, bases, fields, *others = args
        args = (kind, name, bases, {**fields, "__slots__": vars(value)["__slots__"]}, *others)
        attributes, more = state
        state = {key: each for key, each in attributes.items() if key not in slots}, more
    return make, args, state, *rest


def _can_import(value: Any, by_value: set[str]) -> bool:
    """Whether the other end finds it by its name: not in the main script, nor in a module that goes by value."""
    module = value.__module__
    name = getattr(value, "__qualname__", value.__name__)
    above = f"{module}."
    if module == "__main__" or any(above.startswith(f"{each}.") for each in by_value):
        return False
    try:
        return attrgetter(name)(sys.modules[module]) is value
    except (AttributeError, KeyError):
        return False


def _with_texts(function: FunctionType) -> FunctionType:
    """The function, or one like it with texts for annotations, where these can't be evaluated."""
    if not getattr(function, "__annotate__", None):  # before Python 3.14 they are there
        return function
    try:
        function.__annotations__  # noqa: B018  # evaluates them
    except Exception:
        texts = import_module("annotationlib").get_annotations(function, format=4)
    else:
        return function
    like = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    for name in ("__kwdefaults__", "__module__", "__qualname__", "__doc__"):
        setattr(like, name, getattr(function, name))
    vars(like).update(vars(function))
    like.__annotations__ = texts
    return like


# --- made anew


def _cached(value: Any, held: Any) -> tuple[Any, ...]:
    """A function with a cache: there with one of its own, which is empty."""
    marks = {name: mark for name, mark in vars(value).items() if name != "__wrapped__"}
    return _by_value(_cache), (value.__wrapped__, value.cache_parameters()), marks


def _cache(function, settings):  # type: ignore[no-untyped-def]
    from functools import lru_cache

    return lru_cache(**settings)(function)


def _named(value: Any, held: Any) -> tuple[Any, ...]:
    """A parameter of a type."""
    return type(value), (value.__name__,)


def _new_type(value: Any, held: Any) -> tuple[Any, ...]:
    return typing.NewType, (value.__name__, value.__supertype__)


def _alias(value: Any, held: dict[int, Any]) -> tuple[Any, ...]:
    """What ``type X = ...`` makes, which may name itself: so the list that holds its value comes first."""
    if not value.__name__.isidentifier():  # made by a call, so that it can't name itself
        return type(value), (value.__name__, value.__value__)
    if id(value) not in held:
        held[id(value)] = holder = [value]  # which keeps the number its own, too
        holder[0] = value.__value__
    return _by_value(_aliased), (value.__name__, held[id(value)])


def _aliased(name, holder):  # type: ignore[no-untyped-def]
    made = {"holder": holder}
    exec(f"type {name} = holder[0]", made)  # which looks at it only when it is asked for
    return made[name]


@cache
def _by_value(function: FunctionType) -> FunctionType:
    """The same function, which goes by value itself: this module has another name at the other end."""
    made = FunctionType(function.__code__, {}, function.__name__)
    made.__module__ = "__main__"
    return made


#: by the numbers of their types: there are types that can't be hashed
_MADE_ANEW: dict[int, Callable[[Any, dict[int, Any]], tuple[Any, ...]]] = {
    id(type(lru_cache(len))): _cached,
    id(typing.NewType): _new_type,
    id(typing.ParamSpec): _named,
    id(typing.TypeVarTuple): _named,
}
if sys.version_info >= (3, 12):
    _MADE_ANEW[id(typing.TypeAliasType)] = _alias
