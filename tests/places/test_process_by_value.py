"""What of the main script goes to a process by value, though cloudpickle sends it by its name alone."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

CACHES = """
    import asyncio, functools
    import calloff

    @functools.cache
    def fibonacci(n):
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    @functools.lru_cache(maxsize=2, typed=True)
    def double(n):
        "Doubles."
        return 2 * n
    double.mark = double

    class Shop:
        @functools.lru_cache
        def price(self, n):
            return n + 1

    def uses(n):
        return fibonacci(n), double(n), double.__doc__, double.cache_parameters(), double.mark is double, Shop().price(n)

    def gives_back():
        return fibonacci

    async def main():
        print(await calloff.call(calloff.process(fibonacci, 20)))
        print(*await calloff.call(calloff.process(uses, 10)))
        print((await calloff.call(calloff.process(gives_back)))(7))
        print([each.value for each in await calloff.map(fibonacci, range(5), place=calloff.process)])
        op = calloff.start(calloff.process(fibonacci, 1))
        print(op.body._first_line[0][1:])
        await op

    if __name__ == "__main__":
        calloff.run(main())
"""
TYPES = """
    import functools
    from collections.abc import Callable
    from typing import NewType, ParamSpec, TypeVar, TypeVarTuple, Unpack
    import calloff

    P, T, Ts = ParamSpec("P"), TypeVar("T"), TypeVarTuple("Ts")
    Number = NewType("Number", int)

    def decorated(function: Callable[P, T]) -> Callable[P, T]:
        def inner(*args: P.args, **kwargs: P.kwargs) -> T:
            return function(*args, **kwargs)
        return inner

    @decorated
    def number(n):
        return Number(n)

    def many(*args: Unpack[Ts]) -> tuple[Unpack[Ts]]:
        return args

    async def main():
        print(await calloff.call(calloff.process(number, 1)), await calloff.call(calloff.process(many, 1, 2)))

    if __name__ == "__main__":
        calloff.run(main())
"""
ALIASES = """
    from typing import TypeAliasType
    import calloff

    type Tree = int | list[Tree]
    type Named[T] = dict[str, T]
    Odd = TypeAliasType("an odd name", int)

    def plant(tree: Tree, named: Named[int], odd: Odd = 0) -> Tree:
        return tree, Tree.__name__, str(Tree.__value__), Named.__name__, Odd.__name__

    async def main():
        print(*await calloff.call(calloff.process(plant, [1], {})))

    if __name__ == "__main__":
        calloff.run(main())
"""
NOT_THERE = """
    import threading
    from typing import TYPE_CHECKING
    import calloff

    if TYPE_CHECKING:
        from nowhere import Missing

    lock = threading.Lock()

    def marked(item: Missing, *, more: int = 2) -> list[Missing]:
        "Marks."
        return item, more, marked.__name__, marked.__doc__, marked.__annotations__
    marked.mark = 1

    def locked(item: Missing):
        with lock:
            return item

    async def main():
        print(*await calloff.call(calloff.process(marked, 1)))
        try:
            calloff.start(calloff.process(locked, 1))
        except TypeError as error:
            print(error)

    if __name__ == "__main__":
        calloff.run(main())
"""


SLOTS = """
    import dataclasses
    from typing import NamedTuple
    import calloff

    @dataclasses.dataclass(slots=True)
    class Row:
        n: int

    class Secret:
        __slots__ = ("__hidden", "__weakref__")
        def __init__(self, hidden):
            self.__hidden = hidden
        def tell(self):
            return self.__hidden

    class More(Secret):
        __slots__ = "more"

    class Open(More):
        pass

    class Pair(NamedTuple):
        one: int

    def made(n, row):
        more = More(n)
        more.more = row.n
        free = Open(n)
        free.any = n
        return Row(n), Secret(n), more, free, Pair(n), hasattr(Row(n), "__dict__"), Row.__slots__

    async def main():
        row, secret, more, free, pair, *told = await calloff.call(calloff.process(made, 1, Row(2)))
        print(row, type(row) is Row, secret.tell(), more.tell(), more.more, free.tell(), free.any, pair, *told)
        print([each.value for each in await calloff.map(Row, range(2), place=calloff.process)])

    if __name__ == "__main__":
        calloff.run(main())
"""


def run(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(text))
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_functions_with_a_cache(tmp_path):
    assert run(tmp_path, CACHES) == [
        "6765",
        "55 20 Doubles. {'maxsize': 2, 'typed': True} True 11",
        "13",
        "[0, 1, 1, 2, 3]",
        "(5, 'fibonacci')",
    ]


def test_classes_with_slots(tmp_path):
    assert run(tmp_path, SLOTS) == [
        "Row(n=1) True 1 1 2 1 1 Pair(one=1) False ('n',)",
        "[Row(n=0), Row(n=1)]",
    ]


def test_what_annotations_are_made_of(tmp_path):
    assert run(tmp_path, TYPES) == ["1 (1, 2)"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement is new in 3.12")
def test_a_type_alias_also_one_that_names_itself(tmp_path):
    assert run(tmp_path, ALIASES) == ["[1] Tree int | list[Tree] Named an odd name"]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="before 3.14 annotations are evaluated where they stand")
def test_an_annotation_that_names_what_there_is_not_goes_as_a_text(tmp_path):
    assert run(tmp_path, NOT_THERE) == [
        "1 2 marked Marks. {'item': 'Missing', 'more': 'int', 'return': 'list[Missing]'}",
        "locked can't be sent to a process: the global 'lock', which locked uses, a _thread.lock, can't be pickled: "
        "cannot pickle '_thread.lock' object",
    ]
