"""Where an error was raised that came from another process: its traceback came as text."""

from calloff._words.frame import Frame, develop, raised_at


class RemoteTraceback(Exception):
    pass


TEXT = """Traceback (most recent call last):
  File "/srv/odd", line 3, in name.py", line 12, in work
    inner(1)
    ^^^^^^^^
  File "<string>", line 4, in <module>
  File "/srv/b.py", line x, in no_number
ValueError: told
  File "/srv/quoted.py", line 2
"""


def test_the_frames_are_those_of_the_other_process() -> None:
    error = ValueError("told")
    error.__cause__ = RemoteTraceback(TEXT)
    assert develop(raised_at(error)) == (
        Frame('/srv/odd", line 3, in name.py', 12, "work", "inner(1)"),
        Frame("<string>", 4, "<module>", ""),
    )


def test_any_other_error_has_its_own_frames() -> None:
    try:
        raise ValueError from KeyError(TEXT)
    except ValueError as error:
        (frame,) = develop(raised_at(error))
    assert (frame.function, frame.source) == (
        "test_any_other_error_has_its_own_frames",
        "raise ValueError from KeyError(TEXT)",
    )
