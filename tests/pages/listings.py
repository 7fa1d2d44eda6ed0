"""The listings of the README and of the pages, and how each is run.

A listing stands among others and names what its reader has: `fetch`, `urls`, `main`. `GIVEN` has that, so that the listing
runs as it stands, and `SEEN` what must hold then. What can't be run says in `NOT_RUN` why not. A listing that is taken from
an example is run with the examples.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^ *```", re.M | re.S)


@dataclass(frozen=True)
class Listing:
    """One listing.

    Attributes:
        page: the file, from the root of the project.
        line: the first line of it there.
        language: python, console, text, ...
        text: what it says.

    """

    page: str
    line: int
    language: str
    text: str

    @property
    def first(self) -> str:
        """The first line that says something."""
        return next(filter(None, map(str.strip, self.text.splitlines())), "")

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def listings(*languages: str) -> Iterator[Listing]:
    """All of these languages, but for those that a page takes from a file."""
    for path in PAGES:
        text = path.read_text()
        for found in _FENCE.finditer(text):
            if found[2] in languages and "--8<--" not in found[3]:
                body = re.sub(rf"^{found[1]}", "", found[3], flags=re.M)
                line = text.count("\n", 0, found.start()) + 2
                yield Listing(str(path.relative_to(ROOT)), line, found[2], body)


_CALLS = """
import asyncio, calloff
urls = [f"http://a{n}.example/{n}" for n in range(20)]
async def fetch(url="", *_):
    await asyncio.sleep(0.001)
    return len(url)
async def work():
    await asyncio.sleep(0.001)
main = work
"""
_DJANGO = """
import calloff, django.conf, json
from django.http import JsonResponse
if not django.conf.settings.configured:
    django.conf.settings.configure()
def render(number):
    return number * 2
"""
_FASTAPI = """
import calloff.asgi, httpx
from fastapi import FastAPI, Request
charged = []
async def charge(data):
    charged.append(data)
app = FastAPI()
calloff.asgi.install(app, timeout=30)
"""
_SERVED = """
import calloff.asgi, inspect, sys
from starlette.applications import Starlette
sys.modules["main"] = inspect
inspect.app = Starlette()
serve, served = calloff.asgi.serve, {}
def bind(*args, **options):
    served.update(inspect.signature(serve).bind(*args, **options).arguments)
calloff.asgi.serve = bind
"""
_REPORT = """
import os, calloff, opentelemetry.propagate
os.makedirs("bin", exist_ok=True)
with open("bin/report", "w") as file:
    file.write("#!/bin/sh\\n")
os.chmod("bin/report", 0o755)
os.environ["PATH"] = os.path.abspath("bin") + os.pathsep + os.environ["PATH"]
"""
_AIOHTTP = """
from aiohttp import ClientSession, web
async def answers(request):
    return web.Response(text="yes")
async def opened():
    global session, url, urls, runner
    app = web.Application()
    app.router.add_get("/", answers)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    urls = ["http://127.0.0.1:%d/" % site._server.sockets[0].getsockname()[1]] * 5
    session, url = ClientSession(), urls[0]
async def closed():
    await session.close()
    await runner.cleanup()
"""

#: what the reader has, beside calloff and asyncio: on each page, and for the listing that has these words
GIVEN: dict[str, dict[str, str]] = {
    "README.md": {"": _CALLS},
    "docs/explanation/others.md": {"": "import asyncio"},
    "docs/how-to/agents.md": {
        "": """
import calloff
from mcp.server.fastmcp import FastMCP
from pydantic_ai import Agent
from agents import function_tool
from langchain_core.tools import StructuredTool
@calloff.tool(timeout=1)
async def search(query: str) -> str:
    "Search the archive."
    return query
server, agent = FastMCP("docs"), Agent()
"""
    },
    "docs/how-to/cookbook.md": {
        "": _CALLS,
        "JsonResponse": _DJANGO,
        "session.get": _AIOHTTP,
        "client.get(url)": "import httpx\n" + _AIOHTTP,
        "@app.task": """
import celery
app = celery.Celery("pages")
def convert(path):
    return path.upper()
""",
        "crunch": "def crunch(number):\n    return number\n",
        "in the next cell": "class op:\n    async def outcome():\n        return None\n",
        "pytest.mark": "import pytest",
        "uvloop": "import uvloop",
        "anyio": "import anyio",
    },
    "docs/how-to/http-clients.md": {"grpc.aio.server(": "import calloff.http, grpc"},
    "docs/how-to/kubernetes.md": {"": _SERVED},
    "docs/how-to/map.md": {
        "": _CALLS + "import collections\nfrom urllib.parse import urlsplit\n",
        "aiolimiter": "import aiolimiter",
        "stamina": "import httpx, stamina\nclass client:\n    async def get(url):\n        return url\n",
        "tenacity": "import tenacity, types",
        "tqdm": "import tqdm",
    },
    "docs/how-to/on-stop.md": {
        "kill_query": """
import calloff
statement = "select 1"
def kill_query():
    pass
class cursor:
    async def execute(statement):
        assert statement == "select 1"
"""
    },
    "docs/how-to/scopes.md": {"": _CALLS},
    "docs/how-to/see-and-stop.md": {"": _CALLS},
    "docs/how-to/stubborn-work.md": {
        "": _CALLS,
        'op.stop("': "op = None\nasync def opened():\n    global op\n    op = calloff.start(asyncio.sleep(60))\n",
    },
    "docs/how-to/sweep-known.md": {
        "": """
import asyncio, pytest, calloff.testing
async def setup():
    return 1
async def query(one):
    await asyncio.sleep(0)
"""
    },
    "docs/how-to/sweep-pytest.md": {"": "import pytest"},
    "docs/how-to/sweep-request.md": {},
    "docs/how-to/systemd.md": {
        "": """
class Consumer:
    async def run(self):
        pass
async def connect():
    return Consumer()
"""
    },
    "docs/how-to/telemetry.md": {"headers": _REPORT},
    "docs/how-to/web-services.md": {"@app.post": _FASTAPI, "stopping": "import httpx"},
    "docs/how-to/whole-programs.md": {"": _CALLS},
    "docs/tutorial/find-a-lost-connection.md": {
        "": "import calloff.testing, sys\nsys.path.append('examples')\nfrom pool import query, setup_mended\n"
    },
    "docs/tutorial/first-operation.md": {
        "match outcome": _CALLS + "async def opened():\n    global op\n    op = calloff.start(work())\n"
    },
    "docs/tutorial/ten-thousand-calls.md": {
        "": _CALLS
        + """
async def call_api(number):
    return number
def parse(file):
    return len(file)
files = ["a.txt", "b.txt"]
"""
    },
}

#: what must hold when the listing that has these words has run; it may await
SEEN = {
    "JsonResponse": """
assert json.loads((await report(None)).content) == {"value": 42}
assert json.loads((await asyncio.to_thread(report_of_a_plain_view, None)).content) == {"value": 42}
""",
    "session.get": "assert outcome.value == 'yes'",
    "@app.task": "assert await asyncio.to_thread(lambda: convert_upload.apply(['a']).get()) == 'A'",
    "async def test_it_ends": "work = lambda: asyncio.sleep(60)\nawait test_it_ends()",
    "if attempt >= 4": """
late = await calloff.start(asyncio.sleep(60), timeout=0.01).outcome()
assert [retry(late, attempt) for attempt in (1, 4)] == [1.0, None]
assert retry(await calloff.start(work()).outcome(), 1) is None
""",
    "stamina": "assert await fetch('x') == 'x'",
    "tenacity": "assert [retry(None, attempt) for attempt in (1, 2, 4, 5)] == [0.5, 1.0, 4.0, None]",
    "app.mount": "assert served['port'] == 8080",
    "await charge": """
async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a") as client:
    assert (await client.post("/orders", json={"n": 1})).status_code == 200
assert charged == [{"n": 1}]
""",
    "async def stopping": """
async def answers(request):
    return web.Response(text=calloff.current().name)
app = web.Application(middlewares=[stopping])
app.router.add_get("/{n}", answers)
runner = web.AppRunner(app)
await runner.setup()
site = web.TCPSite(runner, "127.0.0.1", 0)
await site.start()
async with httpx.AsyncClient(trust_env=False) as client:
    said = await client.get("http://127.0.0.1:%d/7" % site._server.sockets[0].getsockname()[1])
assert said.text == "GET /{n}", said.text
await runner.cleanup()
""",
}

#: listings of Python that are not run here, by their first line
NOT_RUN = {
    "import asyncio, calloff": "ends with the error that is shown below it: tests/test_docs.py compares",
    'cluster = calloff.cluster.ssh(["alpha", "beta", "me@gamma:2222"], python="python3.13")': "needs three machines; "
    "tests/cluster/test_ssh.py does it with nodes behind an sshd",
    "cluster = calloff.cluster.ray(slots=4, num_gpus=1)      # pip install 'calloff[ray]'; address= as for ray.init": "Ray "
    "takes half a minute to start: tests/cluster/test_ray.py, in the job `engines`",
    "cluster = calloff.cluster.dask(client)             # pip install 'calloff[dask]'": "needs a cluster of Dask: "
    "tests/cluster/test_dask.py, in the job `engines`",
    "import psycopg": "needs a PostgreSQL: tests/borders/test_drivers.py",
    "def count(connection):": "needs a PostgreSQL: tests/borders/test_drivers.py",
}


def given(listing: Listing) -> str:
    """What its reader has."""
    words = GIVEN.get(listing.page, {})
    return "\n".join(["import asyncio, calloff", *(code for key, code in words.items() if key in listing.text)])


def seen(listing: Listing) -> str:
    """What must hold when it has run."""
    return "\n".join(code for key, code in SEEN.items() if key in listing.text)


def needs(listing: Listing) -> set[str]:
    """The packages that it imports."""
    found: set[str] = set()
    for node in ast.walk(
        compile(given(listing) + "\n" + listing.text, "", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    ):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found - {"main", "pool"}


#: the packages of listings that are in the environment of the tests; those that need others run in that of tests/borders
WITH_THE_TESTS = {"anyio", "opentelemetry", "starlette", "uvloop"}


def is_here(listing: Listing) -> bool:
    """Whether all that it imports is installed."""
    return all(find_spec(name) for name in needs(listing))
