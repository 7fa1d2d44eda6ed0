"""Runs listings, each in a namespace of its own, as their reader would: reads them as JSON, stops at the first that fails.

Started by the tests in a process of its own, for a listing may configure what it likes.
"""

import asyncio
import inspect
import json
import sys
from typing import Any

import calloff

LOOP = inspect.CO_COROUTINE
AWAIT = 0x2000  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def main() -> None:
    """Run those on standard input."""
    for each in json.load(sys.stdin):
        print(f"-- {each['where']}", flush=True)
        names: dict[str, Any] = {"__name__": "listing"}
        exec(compile(each["given"], f"what {each['where']} takes for granted", "exec"), names)
        code = compile("\n" * (each["line"] - 1) + each["text"], each["page"], "exec", flags=AWAIT)
        check = compile(each["seen"], f"what {each['where']} is to show", "exec", flags=AWAIT)
        if not code.co_flags & LOOP and not each["in_loop"]:
            eval(code, names)
            code = compile("", "", "exec")
        calloff.run(_run(code, check, names), timeout=60)


async def _run(code: Any, check: Any, names: dict[str, Any]) -> None:
    if "opened" in names:
        await names["opened"]()
    try:
        for step in (code, check):
            done = eval(step, names)
            if inspect.isawaitable(done):
                await done
    finally:
        if "closed" in names:
            await names["closed"]()
    assert asyncio.current_task() is not None


if __name__ == "__main__":
    main()
