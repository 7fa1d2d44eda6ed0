"""Run one of CPython's test files with asyncio's scopes replaced by calloff's: ``python replaced.py FILE``.

The file is loaded from where it is installed. What it needs of the package `test` is the running interpreter's own.
"""

import asyncio
import importlib.util
import json
import sys
import unittest

import calloff


def replace() -> None:
    """Put calloff's names in the place of asyncio's."""
    for name in ("timeout", "timeout_at", "wait_for", "TaskGroup"):
        setattr(asyncio, name, getattr(calloff, name))
    asyncio.timeouts.timeout = calloff.timeout  # type: ignore[assignment]
    asyncio.timeouts.timeout_at = calloff.timeout_at  # type: ignore[assignment]
    asyncio.tasks.wait_for = calloff.wait_for  # type: ignore[assignment]
    asyncio.taskgroups.TaskGroup = calloff.TaskGroup  # type: ignore[assignment,misc]


def main() -> None:
    spec = importlib.util.spec_from_file_location("suite", sys.argv[1])
    assert spec is not None
    assert spec.loader is not None
    suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suite)
    replace()
    result = unittest.TextTestRunner(stream=sys.stderr).run(unittest.defaultTestLoader.loadTestsFromModule(suite))
    failed = [str(test) for test, _ in result.failures + result.errors]
    print(json.dumps({"ran": result.testsRun, "failed": failed, "skipped": len(result.skipped)}))


main()
