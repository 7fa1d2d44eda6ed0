"""The listings of the pages that need the packages of others."""

import sys
from pathlib import Path

import pytest
from pages.listings import NOT_RUN, WITH_THE_TESTS, is_here, listings, needs
from pages.test_python import run

#: what the environment of the other tests has
_OURS = {*WITH_THE_TESTS, *sys.stdlib_module_names, "calloff", "pytest"}
PAGES = ("agents", "cookbook", "http-clients", "map", "web-services")


@pytest.mark.parametrize("page", PAGES)
def test_they_run(page: str, tmp_path: Path) -> None:
    run(f"docs/how-to/{page}.md", tmp_path)


def test_each_listing_runs_here_or_with_the_other_tests() -> None:
    left = [each for each in listings("python") if each.first not in NOT_RUN and not is_here(each)]
    assert all(needs(each) <= _OURS for each in left), left
    elsewhere = {each.page for each in listings("python") if not needs(each) <= _OURS and each.first not in NOT_RUN}
    assert elsewhere == {f"docs/how-to/{page}.md" for page in PAGES}
