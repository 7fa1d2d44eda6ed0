"""What a sweep of a whole suite adds up to: faults and not findings, a summary by file, thresholds, a baseline."""

import json
import subprocess
from pathlib import Path

import pytest

from calloff.testing._suite.awaits import Table
from calloff.testing._suite.changed import Changed
from calloff.testing._suite.owners import Owners
from calloff.testing._sweep.points import Step
from calloff.testing._sweep.pythons import pythons_own

from .test_pytest_plugin import run_pytest

LIBRARY = """
import asyncio

class Slots:
    def __init__(self):
        self.lock = asyncio.Lock()

    async def use(self):
        await self.lock.acquire()
        await asyncio.sleep(0.001)
        self.lock.release()

    async def good(self):
        async with self.lock:
            await asyncio.sleep(0.001)

async def never():
    await asyncio.sleep(0)
"""

TESTS = """
import asyncio
import slots

async def test_one():
    await slots.Slots().use()

async def test_two():
    await slots.Slots().use()
    await slots.Slots().good()

async def test_that_leaves_its_own():
    task = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0.001)
    task.cancel()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "slots.py").write_text(LIBRARY)
    (tmp_path / "tests" / "test_slots.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    return tmp_path


def test_one_fault_over_all_tests_and_only_the_projects_own_fails(project: Path) -> None:
    options = ("--cancel-sweep", "--cancel-sweep-report=term,json,github", "--cancel-sweep-report=html:out/page.html")
    done = run_pytest(project, *options)
    text = done.stdout
    assert "1 failed, 2 passed" in text, text
    assert "1 fault of the project:\nUNSAFE slots.py:10 in use: await asyncio.sleep(0.001)" in text
    assert "of tests: what a test leaves when it is called off; not held against the project:" in text
    assert "::error file=slots.py,line=10,title=cancel sweep unsafe::locks: the Lock is still held" in text
    assert "::warning file=tests/test_slots.py,line=1" in text
    row = next(line.split() for line in text.splitlines() if line.startswith("slots.py "))
    assert row[1:4] == ["5", "2", "2"]
    assert row[-3:] == ["9,", "14,", "18"]
    document = json.loads((project / "cancel-sweep.json").read_text())
    mine = [fault for fault in document["faults"] if fault["owner"] == "project"]
    assert [(fault["line"], fault["function"]) for fault in mine] == [(10, "use")]
    assert document["files"]["slots.py"]["not_reached"] == [9, 14, 18]
    assert document["tests"]["tests/test_slots.py::test_two"]["verdict"] == "SAFE"
    assert "1 fault of the project" in (project / "out" / "page.html").read_text()


def test_an_await_is_swept_once_unless_every_test_is_wanted(project: Path) -> None:
    text = run_pytest(project, "--cancel-sweep", "--cancel-sweep-every-test").stdout
    assert "2 failed, 1 passed" in text, text
    assert "UNSAFE slots.py:10 in use: await asyncio.sleep(0.001)\n  locks (early, late); 2 tests, 1 await" in text


SAME = """
import asyncio
import inspect
import slots

async def test_first():
    await slots.Slots().good()

async def test_the_same_again():
    await slots.Slots().good()

async def test_that_looks_at_what_runs_it():
    task = asyncio.ensure_future(slots.Slots().good())
    assert inspect.iscoroutine(task.get_coro())
    await task
"""


def test_a_test_with_nothing_left_to_try_needs_no_run_but_its_own(project: Path) -> None:
    (project / "tests" / "test_slots.py").write_text(SAME)
    text = run_pytest(project, "--cancel-sweep", "--cancel-sweep-phases=early").stdout
    told = {line.partition("::")[2].partition(":")[0]: line for line in text.splitlines() if "::test_" in line}
    assert "3 passed" in text, text
    assert " 0 runs," not in told["test_first"], text
    assert "SAFE: 1 await point, 0 runs, 0 unsafe, 1 cancel" in told["test_the_same_again"], text
    assert "not swept: run once more, it fails" in told["test_that_looks_at_what_runs_it"], text


SHOP = """
import asyncio

class Stock:
    def __init__(self):
        self.left, self.sold = 10, 0
        self.lock = asyncio.Lock()

    async def sell(self):
        self.left -= 1
        await asyncio.sleep(0.001)
        self.sold += 1

    async def reserve(self):
        await self.lock.acquire()
        await asyncio.sleep(0.001)
        self.lock.release()

    async def tidy(self):
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            await self.reserve()
            raise
"""
JUDGED = """
import asyncio
import pytest
import shop

@pytest.fixture
def stock():
    return shop.Stock()

@pytest.fixture
def adds_up(stock):
    async def check():
        return stock.left + stock.sold == 10
    return check

@pytest.fixture
def is_sold(stock):
    async def bystander():
        for _ in range(1000):
            if stock.left + stock.sold == 10:
                return
            await asyncio.sleep(0)
        raise AssertionError("nobody sold it")
    return bystander

async def test_plain(stock):
    await stock.sell()

@pytest.mark.cancel_sweep(check="adds_up")
async def test_of_no_stock(adds_up):
    await shop.Stock().sell()

@pytest.mark.cancel_sweep(check="adds_up")
async def test_checked(stock):
    await stock.sell()

@pytest.mark.cancel_sweep(bystander="is_sold")
async def test_beside(stock):
    await stock.sell()

@pytest.mark.cancel_sweep(bystander="is_sold", phases=["amid"])
async def test_amid(stock):
    await stock.sell()
"""


def told(text: str) -> dict[str, str]:
    """The line of each test, by its name."""
    pairs = (line.partition("::")[2].partition(": ") for line in text.splitlines() if line.startswith("tests/test_"))
    return {name: rest for name, _, rest in pairs if rest}


def shop(project: Path, tests: str) -> Path:
    (project / "shop.py").write_text(SHOP)
    (project / "tests" / "test_slots.py").write_text(tests)
    return project


def test_what_judges_the_world_of_a_test_is_asked_wherever_others_were_called_off(project: Path) -> None:
    text = run_pytest(shop(project, JUDGED), "--cancel-sweep").stdout
    verdicts = {name: line.partition(":")[0] for name, line in told(text).items()}
    assert verdicts == {
        "test_plain": "SAFE",
        "test_of_no_stock": "SAFE",  # what its check finds in order is another stock
        "test_checked": "UNSAFE",
        "test_beside": "UNSAFE",
        "test_amid": "UNSAFE",
    }, text
    assert "3 failed, 2 passed" in text


TERMS = """
import pytest
import shop

@pytest.mark.cancel_sweep
async def test_plain():
    await shop.Stock().sell()
"""


def test_only_tests_that_are_swept_on_the_same_terms_try_an_await_for_each_other(project: Path) -> None:
    marks = {
        "timeout": "timeout=0.5",
        "how": "how='deadline'",
        "without": "without=['locks']",
        "children": "children=False",
        "phases": "phases=['early']",
        "max_runs": "max_runs=1",
        "known": "known={'e-123456': 'it is mended soon'}",
        "isolate": "isolate=False",
    }
    same = {"equal": "timeout=0.5", "usual": "timeout=5", "empty": ""}
    test = "\n@pytest.mark.cancel_sweep({})\nasync def test_{}():\n    await shop.Stock().sell()\n"
    tests = TERMS + "".join(test.format(mark, name) for name, mark in (marks | same).items())
    text = run_pytest(shop(project, tests)).stdout
    swept = {name.removeprefix("test_") for name, line in told(text).items() if ", 0 runs," not in line}
    assert swept == {"plain", *marks}, text
    assert len(told(text)) == 12, text


@pytest.mark.parametrize(
    ("way", "first", "second"),
    [
        ("reserve", "without=['locks', 'restart']", ""),
        ("reserve", "phases=['double']", "phases=['early']"),
        ("tidy", "phases=['early']", "phases=['double']"),
    ],
)
def test_a_fault_that_the_first_test_leaves_aside_is_told_of_the_second(
    project: Path, way: str, first: str, second: str
) -> None:
    test = f"async def test_{{}}():\n    await shop.Stock().{way}()\n"
    tests = f"{TERMS}\n@pytest.mark.cancel_sweep({first})\n{test.format('first')}"
    tests += f"\n@pytest.mark.cancel_sweep({second})\n{test.format('second')}"
    text = run_pytest(shop(project, tests), "-k", "first or second").stdout
    verdicts = {name: line.partition(":")[0] for name, line in told(text).items()}
    assert verdicts == {"test_first": "SAFE", "test_second": "UNSAFE"}, text


def test_a_test_that_never_waits_is_said_to_be_so(project: Path) -> None:
    text = run_pytest(shop(project, "async def test_quick():\n    pass\n"), "--cancel-sweep").stdout
    assert "test_quick: SAFE: 0 await points, " in text, text
    assert "; there was no await at which it could be called off\n" in text, text


def test_a_script_beside_the_tests_is_no_project_of_theirs(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("print('nobody imports it')\n")
    (tmp_path / "test_own.py").write_text(TESTS.replace("slots.Slots()", "Slots()").replace("import slots", LIBRARY))
    assert "1 failed" in run_pytest(tmp_path, "--cancel-sweep", "-k", "one").stdout


SESSIONS = """
import asyncio

class Session:
    def __init__(self):
        self.loop, self.closed = asyncio.get_running_loop(), False

    async def get(self):
        await asyncio.sleep(0.001)

    def close(self):
        self.closed = True

    def __del__(self):
        if not self.closed:
            self.loop.call_exception_handler({"message": "Unclosed session", "session": self})

async def fetch():
    session = Session()
    await session.get()
    session.close()

async def opened():
    await asyncio.sleep(0.001)
    return Session()

async def in_a_task(session):
    await asyncio.create_task(session.get())
"""
USES_SESSIONS = """
import sessions

async def test_its_own():
    session = sessions.Session()
    await session.get()
    session.close()

async def test_that_of_the_project():
    await sessions.fetch()

async def test_one_that_is_handed_out():
    (await sessions.opened()).close()

async def test_as_a_task_begins():
    session = sessions.Session()
    await sessions.in_a_task(session)
    session.close()
"""


def test_what_complains_of_itself_is_held_against_who_had_it(project: Path) -> None:
    (project / "sessions.py").write_text(SESSIONS)
    (project / "tests" / "test_slots.py").write_text(USES_SESSIONS)
    text = run_pytest(
        project, "--cancel-sweep", "--cancel-sweep-phases=before,early", "--cancel-sweep-every-test"
    ).stdout
    own, _, tests = text.partition("of tests: what a test leaves")
    assert "test_one_that_is_handed_out: SAFE" in text, text  # what the sweep itself asks for once more is not left
    assert (
        "test_slots.py:17 in test_as_a_task_begins: await sessions.in_a_task(session)\n  errors (before, early)"
        in tests
    )
    assert "UNSAFE sessions.py:20 in fetch: await session.get()\n  errors (early); 1 test" in own, text
    assert "1 fault of the project" in own, text
    assert "UNSAFE tests/test_slots.py:6 in test_its_own: await session.get()" in tests, text


PATIENT = """
import asyncio

async def patient():
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "done"

class Owner:
    def start(self):
        self.task = asyncio.create_task(patient())

    async def stop(self):
        self.task.cancel()
        await self.task
"""
CALLS_OFF = """
import asyncio
import patients

async def test_that_calls_its_task_off():
    task = asyncio.create_task(patients.patient())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "done"

async def test_the_project_calls_it_off():
    owner = patients.Owner()
    owner.start()
    await asyncio.sleep(0)
    await owner.stop()
"""


def test_a_task_that_a_test_calls_off_itself_may_put_up_with_that(project: Path) -> None:
    (project / "patients.py").write_text(PATIENT)
    (project / "tests" / "test_slots.py").write_text(CALLS_OFF)
    options = ("--cancel-sweep", "--cancel-sweep-phases=early", "--cancel-sweep-every-test")
    text = run_pytest(project, *options, "-k", "its_task").stdout
    assert "of the project" not in text, text
    text = run_pytest(project, *options, "-k", "the_project").stdout
    assert "1 fault of the project" in text, text
    assert "UNSAFE patients.py:6 in patient: await asyncio.sleep(60)\n  obeyed (early)" in text, text
    assert "1 fault of tests: " in text, text  # it leaves its owner: told at one line, wherever the task was


def test_where_a_test_waits_for_its_own_it_is_called_off_for_what_the_project_has_open_around(project: Path) -> None:
    name = "test_that_leaves_its_own"
    text = run_pytest(project, "--cancel-sweep", "-k", name).stdout
    assert "tasks (early); 1 test, 1 await" in text, text
    assert "2 cancels not tried" in text  # its late one, and the start of its task
    text = run_pytest(project, "--cancel-sweep", "--cancel-sweep-fault=tests", "-k", name).stdout
    assert "tasks (early, late); 1 test, 1 await" in text, text


def test_what_is_garbage_is_held_against_who_opened_it(project: Path) -> None:
    (project / "slots.py").write_text(
        "import asyncio\n\nasync def both(*works):\n    return await asyncio.gather(*works)\n"
    )
    (project / "tests" / "test_slots.py").write_text(
        """
import asyncio
import socket
import slots

async def test_that_has_sockets():
    mine = socket.socket()
    await slots.both(asyncio.sleep(0.001), asyncio.sleep(0.001))
    mine.close()
"""
    )
    text = run_pytest(project, "--cancel-sweep").stdout
    assert "1 passed" in text, text
    assert "1 fault of tests: what a test leaves" in text
    assert "files: left for the garbage collector to close: unclosed <socket.socket" in text
    row = next(line.split() for line in text.splitlines() if line.startswith("slots.py "))
    assert row[1:6] == ["1", "1", "0", "0", "0"]  # nothing is known of it


@pytest.mark.parametrize(("fault", "outcome"), [("tests", "2 failed, 1 passed"), ("all", "2 failed, 1 passed")])
def test_whose_faults_fail_is_a_setting(project: Path, fault: str, outcome: str) -> None:
    with (project / "pytest.ini").open("a") as ini:
        ini.write(f"cancel_sweep_fault = {fault}\ncancel_sweep_phases = early\n")
    assert outcome in run_pytest(project, "--cancel-sweep").stdout


def test_a_baseline_and_a_threshold(project: Path) -> None:
    options = ("--cancel-sweep", "--cancel-sweep-baseline=known.json", "--cancel-sweep-phases=early")
    done = run_pytest(project, *options, "--cancel-sweep-write-baseline")
    assert done.returncode == 0, done.stdout
    assert "known.json: 2 faults that are there now" in done.stdout
    again = run_pytest(project, *options)
    assert again.returncode == 0, again.stdout
    assert "in the baseline" in again.stdout
    body = "async with self.lock:\n            await asyncio.sleep(0.001)"
    worse = "await self.lock.acquire()\n        await asyncio.sleep(0.002)\n        self.lock.release()"
    (project / "slots.py").write_text(LIBRARY.replace(body, worse))
    new = run_pytest(project, *options)
    assert new.returncode == 1, new.stdout
    assert "UNSAFE slots.py:15 in good" in new.stdout
    short = run_pytest(project, *options, "--cancel-sweep-fail-under=90", "-k", "one")
    assert "0.0 % of the awaits that were reached are safe, and 90 % are wanted: failed" in short.stdout
    assert short.returncode == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cancel-sweep-fault=mine",), "cancel_sweep_fault must be project, tests or all, not 'mine'"),
        (("--cancel-sweep-report=pdf",), "cancel_sweep_report must be of term, html, json, github, not 'pdf'"),
        (("--cancel-sweep-fail-under=most",), "cancel_sweep_fail_under must be a number, not 'most'"),
        (("--cancel-sweep-write-baseline",), "--cancel-sweep-write-baseline needs the file"),
        (("--cancel-sweep-baseline=pytest.ini",), "pytest.ini is not a baseline of a sweep"),
        (("--cancel-sweep-baseline=none.json",), "none.json: No such file"),
        (("--cancel-sweep-diff=nothing",), "cancel sweep: "),
    ],
)
def test_wrong_settings_are_usage(project: Path, options: tuple[str, ...], message: str) -> None:
    done = run_pytest(project, "--cancel-sweep", *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert message in done.stderr + done.stdout


def git(folder: Path, *words: str) -> None:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", str(folder), *words]
    subprocess.run(command, check=True, capture_output=True)


def test_only_what_differs_from_a_commit(project: Path) -> None:
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-qm", "one")
    text = LIBRARY.replace("async with self.lock:\n", "async with self.lock:  # changed\n")
    (project / "slots.py").write_text(text)
    changed = Changed("HEAD", project)
    assert changed.meets((Step(str(project / "slots.py"), 15, "good"),))
    assert not changed.meets((Step(str(project / "slots.py"), 10, "use"),))
    out = run_pytest(project, "--cancel-sweep", "--cancel-sweep-diff=HEAD").stdout
    assert "3 passed" in out, out
    row = next(line.split() for line in out.splitlines() if line.startswith("slots.py "))
    assert row[1:5] == ["5", "2", "1", "1"]


def test_whose_a_file_is(tmp_path: Path) -> None:
    for name in ("src/shop/__init__.py", "src/shop/pay.py", "src/shop/tests/smoke.py", "tests/test_pay.py", "other.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    installed = tmp_path / ".venv/site-packages"
    for name in ("shop/pay.py", "driver/wire.py"):
        (installed / name).parent.mkdir(parents=True, exist_ok=True)
        (installed / name).touch()
    owners = Owners(tmp_path, [tmp_path / "tests/test_pay.py"])
    whose = {name: owners.of(str(tmp_path / name)) for name in ("src/shop/pay.py", "src/shop/tests/smoke.py")}
    assert whose == {"src/shop/pay.py": "project", "src/shop/tests/smoke.py": "tests"}
    assert owners.of(str(tmp_path / "tests/test_pay.py")) == "tests"
    assert owners.of(str(installed / "shop/pay.py")) == "project", "the same package, installed"
    assert owners.of(str(installed / "driver/wire.py")) == "library"
    assert owners.of("wire.pyx") == "library"
    assert owners.of(json.__file__) == "python"
    assert owners.files() == [str(tmp_path / "src/shop" / name) for name in ("__init__.py", "pay.py")]
    assert Owners(tmp_path, [], ["src/shop"]).of(str(tmp_path / "other.py")) == "library"


def test_a_folder_with_nothing_but_tests_is_the_project(tmp_path: Path) -> None:
    test = tmp_path / "test_pay.py"
    test.touch()
    assert Owners(tmp_path, [test]).of(str(test)) == "project"


@pytest.mark.parametrize(("version", "found"), [((3, 12), True), ((3, 13), False)])
def test_a_fault_of_python_is_told_as_pythons_until_it_is_mended(version: tuple[int, int], found: bool) -> None:
    import asyncio

    code = asyncio.Condition.wait.__code__
    stack = (Step(__file__, 1, "mine"), Step(code.co_filename, code.co_firstlineno + 20, "wait"))
    own = pythons_own(stack, frozenset({"restart"}), version)
    assert (own is not None) == found
    if own is not None:
        assert own[1].label == "Python's own fault: Condition.wait loses a notify at a cancel, before 3.13"
    assert pythons_own((*stack, Step(__file__, 2, "mine")), frozenset({"restart"}), version) is None


@pytest.mark.parametrize("name", ["create_server", "create_unix_server"])
def test_what_the_caller_opened_at_another_line_is_no_fault_of_pythons(name: str) -> None:
    import asyncio

    code = getattr(asyncio.SelectorEventLoop, name).__code__
    line = max(line for _, _, line in code.co_lines() if line)
    stack = (Step(__file__, 2, "mine"), Step(code.co_filename, line, name))
    files = frozenset({"files"})
    assert pythons_own(stack, files, made=(Step(__file__, 2, "mine"),)) is not None
    assert pythons_own(stack, files, made=(Step(__file__, 1, "mine"),)) is None


def test_of_awaits_that_nobody_reached_none_is_said_to_be_safe(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text("async def work(other):\n    await other\n")
    table = Table([str(file)], [])
    assert table.percent == 0
    assert table.lines()[-1].endswith("none was reached")
    assert Table([str(file)], [(str(file), 2, "safe")]).percent == 100
    assert Table([], []).percent == 100
