"""Every listing of Python runs as it stands, and prints what it says that it prints."""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from pages.listings import NOT_RUN, ROOT, Listing, given, is_here, listings, seen

#: a listing that says no `await`, and is a part of a coroutine all the same
IN_A_COROUTINE = ("ClientSession(", "within=", "grpc.aio.server(", "Threads", "calloff.start(calloff.process(print")


def by_page() -> dict[str, list[Listing]]:
    found: dict[str, list[Listing]] = defaultdict(list)
    for each in listings("python"):
        if each.first not in NOT_RUN and is_here(each):
            found[each.page].append(each)
    return found


def run(page: str, folder: Path) -> None:
    """Run those of one page, in a folder that has what a checkout has."""
    for name in ("README.md", "examples"):
        (folder / name).symlink_to(ROOT / name)
    those = sorted(by_page()[page], key=lambda each: ".counts()" not in each.text)  # which counts from the beginning
    asked = [
        {
            "where": str(each),
            "page": str(ROOT / each.page),
            "line": each.line,
            "text": each.text,
            "given": given(each),
            "seen": seen(each),
            "in_loop": any(words in each.text for words in IN_A_COROUTINE),
        }
        for each in those
    ]
    runner = Path(__file__).with_name("run_listings.py")
    done = subprocess.run(
        [sys.executable, str(runner)], cwd=folder, input=json.dumps(asked), capture_output=True, text=True, timeout=100
    )
    assert done.returncode in (0, 1), done.stderr
    said = dict(zip(map(str, those), re.split(r"^-- .*\n", done.stdout, flags=re.M)[1:], strict=False))
    for each in those:
        for told in re.findall(r"^\s*print\(.*\)  # (.*)$|^# (.*)$", each.text, re.M):
            if "print(" in each.text:
                assert "".join(told) in said[str(each)], each
        page_text = (ROOT / each.page).read_text()
        below = page_text[page_text.index(each.text) + len(each.text) :]
        shown = re.match(r"```\n\n```text\n(.*?)```\n", below, re.S)
        assert shown is None or "print(" not in each.text or said[str(each)].strip() == shown[1].strip(), each
    assert done.returncode == 0, done.stderr
    assert len(said) == len(those)


@pytest.mark.parametrize("page", list(by_page()))
def test_they_run(page: str, tmp_path: Path) -> None:
    run(page, tmp_path)
