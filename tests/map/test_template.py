"""The template of a command."""

import pytest

from calloff._map.template import Template


@pytest.mark.parametrize(
    ("template", "item", "words"),
    [
        ("gzip", "a b", ["gzip", "a b"]),
        ("gzip {}", "a b", ["gzip", "a b"]),
        ("convert {} {.}.png", "d.x/e.jpg", ["convert", "d.x/e.jpg", "d.x/e.png"]),
        ("x {/} {//} {/.}", "d/e.tar.gz", ["x", "e.tar.gz", "d", "e.tar"]),
        ("x {//}", "e", ["x", "."]),
        ("x n{#}:{}", "e", ["x", "n7:e"]),
        ("x '{} {}'", 3, ["x", "3 3"]),
        (["x", "--name={name}", "{age}"], {"name": "A B", "age": 4}, ["x", "--name=A B", "4"]),
        ("x {2} {1}", ["a", "b"], ["x", "b", "a"]),
        ("x {1}", "a", ["x", "a"]),
        ("x", {"a": [1]}, ["x", '{"a": [1]}']),
        ("x {a-b} {}", "{.}", ["x", "{a-b}", "{.}"]),
    ],
)
def test_places(template, item, words):
    assert Template(template).words(item, 7) == words


def test_a_field_that_is_not_there():
    with pytest.raises(ValueError, match="no field 'b'"):
        Template("x {b}").words({"a": 1}, 1)


def test_its_name_is_that_of_the_program():
    assert Template("/bin/echo {}").name == "echo"
    assert str(Template("echo 'a b'")) == "echo 'a b' '{}'"
