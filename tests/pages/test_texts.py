"""What a page shows as printed, beside the sessions of a terminal, is what an example prints, or says where it is from."""

import re

import pytest
from pages.listings import Listing, listings
from test_examples import PRINTED

#: by the first line: the example that prints it
FROM = {
    "search (query: str) -> str Search the archive.": "agent_tool.py",
    "the server has 30 s": "http_deadline.py",
    "Cancelled after 1 s, by ASKED": "on_stop.py",
    "ASKED: 'careful' did not end within 1 s: at careful (examples/thread.py:21): calloff.checkpoint(60)": "thread.py",
    "2 + 3 = 5": "process.py",
    "echo said: hello": "command.py",
    "shrink-cat: resizing cat.png": "trace_in_processes.py",
    "calloff_operations_ended_total completed task 3": "prometheus.py",
    "quick: HTTP/1.1 200 OK": "web_service.py",
}
#: by the beginning of the first line, where it is from instead
ELSEWHERE = {
    "calloff.TimedOut: 'stubborn'": "compared by tests/test_docs.py",
    "calloff.TimedOut: 'call_api'": "the line of the example is compared by tests/test_docs.py",
    "calloff ": "how a verb is used: compared with its help by tests/test_docs.py",
    "print can't be sent to a process": "compared with what the listing above it prints",
    "Abandoned 2": "of the listing above it with two changes, that the page names",
    "TimedOut: 'sleep'": "has the form that tests/places/test_command.py looks for",
    "Cancelled KILLED": "needs a program that becomes another user: tests/places/test_survivors.py",
    "control came back": "of examples/what_others_do.py, which measures for half a minute",
    "done - progress was seen": "of examples/mcp_session.py: tests/borders/test_mcp.py",
    "the request for ten was called off": "of a package with the fault: benchmarks and examples/sweep show how",
    "0 connections; the waiter": "as above",
    "2 faults of the project": "the suite of another package",
    "SmokeTest::": "as above",
    "4 passed, 26 deselected": "as above",
    "in the baseline": "as above",
    "# sweep-known.txt": "a file, which the session below it reads",
    "tests/test_pool.py::test_query: UNSAFE": "has the form that tests/testing/test_pytest_plugin.py looks for",
    "1 fault of the project": "has the form that tests/testing/test_pytest_sweep_suite.py looks for",
    "UNSAFE amid anyio/": "needs anyio 4.13.0",
    "UNSAFE double examples/sweep_ways.py": "of the command above it, which tests/pages/test_sessions.py runs",
    "UNSAFE early examples/sweep_ways.py": "as above",
    "map fetch ": "has the parts that tests/map/test_progress.py looks for",
    "UNSAFE early shop.py": "compared by tests/pages/test_sessions.py",
    "SAFE: 1 await point": "of the listing mended as the page says: tests/testing/test_sweep_request.py",
    "WARNING:calloff.operations": "has the form that tests/logs looks for",
    "rate(calloff_": "questions to Prometheus",
    "18998.": "has the words that tests/top looks for",
    '{"n":3': "has the fields that tests/map/test_output.py looks for",
}


@pytest.mark.parametrize("text", list(listings("text")), ids=str)
def test_it_is_known_where_it_is_from(text: Listing) -> None:
    example = FROM.get(text.first)
    if example is None:
        assert any(text.first.startswith(beginning) for beginning in ELSEWHERE), text
        return
    patterns = [each.removeprefix("^") if each.startswith("^") else re.escape(each) for each in PRINTED[example]]
    for line in text.text.splitlines():
        assert any(re.search(rf"^(?:{pattern})", line) for pattern in patterns), (text, line)
