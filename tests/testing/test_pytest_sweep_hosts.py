"""``pytest --cancel-sweep`` beside whatever else runs the tests: nothing fails for a reason that is the sweep's own."""

import sys
from pathlib import Path

import pytest

from .test_pytest_plugin import ANYIO_BACKEND, run_pytest, write

AUTO = "asyncio_mode = auto"
ASYNCIO = ("pytest_asyncio.plugin",)

WRAPPED = """
import asyncio
import functools
import threading

def runs(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return asyncio.run(function(*args, **kwargs))
    return wrapper

def runs_by_hand(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        try:
            function(*args, **kwargs).send(None)
        except StopIteration:
            pass
    return wrapper

@runs
async def test_decorated(lock=None):
    lock = asyncio.Lock()
    await lock.acquire()
    await asyncio.sleep(0.001)
    lock.release()

class Nothing:
    def __await__(self):
        return iter(())

@runs_by_hand
async def test_without_a_loop():
    await Nothing()

@runs_by_hand
async def test_another_without_a_loop():
    await Nothing()
"""


def test_a_test_that_a_decorator_runs_is_swept(tmp_path: Path) -> None:
    write(tmp_path, WRAPPED)
    text = run_pytest(tmp_path, "--cancel-sweep").stdout
    assert "test_decorated: UNSAFE: 1 await point" in text, text
    assert "- locks: the Lock is still held" in text
    assert "test_without_a_loop: not swept: it does not run in a task of asyncio" in text
    assert "not swept: 2 tests: it does not run in a task of asyncio" in text
    assert "of the tests 1 unsafe, 2 not swept" in text
    assert "1 failed, 2 passed" in text


POOL = """
import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

POOL = ThreadPoolExecutor(max_workers=1)

def slow(value):
    time.sleep(0.05)  # else it may have ended before it is awaited
    return value

async def test_in_a_thread():
    assert await asyncio.get_running_loop().run_in_executor(POOL, slow, 3) == 3
"""


def test_a_thread_pool_of_the_module_has_threads_in_each_run(tmp_path: Path) -> None:
    write(tmp_path, POOL)
    assert "test_in_a_thread: SAFE: 1 await point" in run_pytest(tmp_path, "--cancel-sweep").stdout


WIDE = """
import asyncio
import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="module")

@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def port():
    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()

async def test_one(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"one\\n")
        assert await reader.readline() == b"one\\n"
    finally:
        writer.close()

async def test_in_a_thread(port):
    assert await asyncio.to_thread(sum, [1, 2]) == 3
"""


def test_a_loop_of_the_module_is_each_runs_own(tmp_path: Path) -> None:
    pytest.importorskip("pytest_asyncio")
    write(tmp_path, WIDE)
    strict = ("-Werror::ResourceWarning", "-Werror::pytest.PytestUnraisableExceptionWarning")
    text = run_pytest(tmp_path, "--cancel-sweep", *strict, plugins=ASYNCIO).stdout
    assert "2 passed" in text, text
    assert "test_in_a_thread: SAFE" in text
    assert "error" not in text


EAGER = """
import asyncio
import anyio
import pytest

@pytest.fixture
def anyio_backend():
    def loop():
        made = asyncio.new_event_loop()
        made.set_task_factory(asyncio.eager_task_factory)
        return made
    return "asyncio", {"loop_factory": loop}

@pytest.mark.anyio
async def test_group():
    lock = anyio.Lock()
    async def child():
        async with lock:
            await anyio.sleep(0)
    async with anyio.create_task_group() as group:
        group.start_soon(child)
        group.start_soon(child)
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_eager_tasks_in_a_group_of_anyio(tmp_path: Path) -> None:
    pytest.importorskip("anyio")
    write(tmp_path, EAGER)
    assert "test_group: SAFE" in run_pytest(tmp_path, "--cancel-sweep", plugins=("anyio.pytest_plugin",)).stdout


PATIENT = """
import asyncio

async def test_patient():
    await asyncio.sleep(0.6)
"""


def test_a_test_may_take_longer_than_the_limit_after_a_cancel(tmp_path: Path) -> None:
    write(tmp_path, PATIENT)
    text = run_pytest(tmp_path, "--cancel-sweep", "--cancel-sweep-timeout=0.5", "--cancel-sweep-phases=early").stdout
    assert "test_patient: SAFE" in text, text


WRITES = """
import asyncio
from pathlib import Path

HERE = Path(__file__).parent

async def test_writes():
    kept, new = HERE / "kept.txt", HERE / "new.txt"
    old = kept.read_text()
    kept.write_text("half")
    new.write_text("something")
    await asyncio.sleep(0)
    kept.write_text(old)
    new.unlink()

async def test_reads():
    assert (HERE / "kept.txt").read_text() == "whole"
    assert not (HERE / "new.txt").exists()
    await asyncio.sleep(0)
"""


def test_what_a_test_that_is_called_off_leaves_in_the_tree_is_taken_back(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("whole")
    write(tmp_path, WRITES)
    text = run_pytest(tmp_path, "--cancel-sweep").stdout
    assert "test_reads: SAFE" in text, text
    assert "put back 1 file that runs had changed: kept.txt" in text
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".txt") == ["kept.txt"]
    assert (tmp_path / "kept.txt").read_text() == "whole"


TIMED = """
import asyncio

async def test_many():
    for _ in range(20):
        await asyncio.sleep(0)
"""


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_the_limit_of_pytest_timeout_is_for_the_test_alone(tmp_path: Path, method: str) -> None:
    pytest.importorskip("pytest_timeout")
    write(tmp_path, TIMED)
    options = ("--cancel-sweep", "--timeout=2", f"--timeout-method={method}", "-s")
    text = run_pytest(tmp_path, *options, plugins=("pytest_timeout",)).stdout
    assert "INTERNALERROR" not in text
    assert "test_many: SAFE: 20 await points" in text, text


FLAKY = """
import asyncio

runs = []

async def test_flaky():
    runs.append(1)
    assert len(runs) > 1
    await asyncio.sleep(0)

async def test_steady():
    await asyncio.sleep(0)
"""


def test_one_that_fails_is_left_to_pytest_rerunfailures(tmp_path: Path) -> None:
    pytest.importorskip("pytest_rerunfailures")
    write(tmp_path, FLAKY)
    text = run_pytest(tmp_path, "--cancel-sweep", "--reruns=2", plugins=("pytest_rerunfailures",)).stdout
    assert "2 passed" in text, text
    assert "test_steady: SAFE" in text
    assert "test_flaky: not swept: it failed, and passed when it was run again" in text
    assert "1 not swept" in text


def test_one_that_fails_does_not_pass_for_a_plugin_that_was_not_asked_to_run_it_again(tmp_path: Path) -> None:
    pytest.importorskip("pytest_rerunfailures")
    write(tmp_path, FLAKY)
    text = run_pytest(tmp_path, "--cancel-sweep", plugins=("pytest_rerunfailures",)).stdout
    assert "1 failed, 1 passed" in text, text


BACKENDS = """
import anyio
import pytest

@pytest.mark.anyio
async def test_sleep():
    await anyio.sleep(0.001)
"""


def test_a_run_on_trio_is_left_alone_and_counted(tmp_path: Path) -> None:
    pytest.importorskip("trio")
    write(tmp_path, BACKENDS)
    text = run_pytest(tmp_path, "--cancel-sweep", plugins=("anyio.pytest_plugin",)).stdout
    assert "test_sleep[asyncio]: SAFE" in text, text
    assert "test_sleep[trio]: not swept: it runs on trio" in text
    assert "2 passed" in text


SECOND = """
import asyncio

runs = []

async def test_only_once():
    runs.append(1)
    assert len(runs) == 1, "it is run again, in a process that saw the first run"
    await asyncio.sleep(0)
"""


def test_one_that_passes_only_once_is_not_swept_and_passes(tmp_path: Path) -> None:
    write(tmp_path, SECOND)
    done = run_pytest(tmp_path, "--cancel-sweep")
    assert "1 passed" in done.stdout
    assert "not swept: 1 test: run once more, it fails without any cancel" in done.stdout.replace("\n", " "), (
        done.stdout
    )
    assert "of the tests 0 unsafe, 1 not swept" in done.stdout
    assert done.returncode == 0


OWN_CLOCK = """
import asyncio
from unittest.mock import Mock

import pytest

class Loop(asyncio.BaseEventLoop):
    # time passes only where a test waits for it, and each step of it is noted
    def __init__(self):
        super().__init__()
        self.now, self.timers, self.steps, self._selector = 0.0, [], [], Mock()

    def time(self):
        return self.now

    def call_at(self, when, callback, *args, **kwargs):
        self.timers.append(when)
        return super().call_at(when, callback, *args, **kwargs)

    def _process_events(self, events): ...

    def _write_to_self(self): ...

    def _run_once(self):
        super()._run_once()
        self.timers = sorted(when for when in self.timers if when > self.now)
        if self.timers and not self._ready:
            self.steps.append(self.timers[0] - self.now)
            self.now = self.timers.pop(0)

def runs(function):
    def test():
        loop = Loop()
        loop.run_until_complete(function())
    test.__wrapped__ = function
    return test

class Pool:
    free = 1

POOL = Pool()

@runs
async def test_steps():
    loop = asyncio.get_running_loop()
    assert POOL.free == 1
    POOL.free = 0
    await asyncio.sleep(100)
    await asyncio.sleep(1)
    POOL.free = 1
    assert loop.steps[:2] == [100, 1]
    loop.steps.clear()
    loop.call_exception_handler({"message": "said"})
"""


def test_a_loop_with_a_clock_and_a_selector_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, OWN_CLOCK)
    done = run_pytest(tmp_path, "--cancel-sweep")
    assert "not swept" not in done.stdout, done.stdout
    assert "2 await points" in done.stdout
    assert "error" not in done.stdout.splitlines()[-2]


SAID = """
import asyncio
import gc

import pytest

async def fails():
    raise ValueError("nobody looks")

@pytest.mark.asyncio
async def test_says(caplog):
    task = asyncio.ensure_future(fails())
    await asyncio.sleep(0)
    del task
    gc.collect()
    assert "never retrieved" in caplog.text
"""


def test_what_the_loop_complains_of_reaches_the_test(tmp_path: Path) -> None:
    write(tmp_path, SAID)
    done = run_pytest(tmp_path, "--cancel-sweep", plugins=ASYNCIO)
    assert "not swept" not in done.stdout, done.stdout
    assert "1 await point" in done.stdout


OWN_WORLD = """
import asyncio
import collections

class Pool:
    def __init__(self):
        self.free = collections.deque()
        self.waiters = collections.deque()

    async def get(self):
        if self.free:
            return self.free.popleft()
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        return await waiter

    def put(self, connection):
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self.free.append(connection)

async def query(pool, *, seconds=0.001):
    connection = await pool.get()
    try:
        await asyncio.sleep(seconds)
    finally:
        pool.put(connection)

def make():
    pool = Pool()
    asyncio.get_running_loop().call_later(0.005, pool.put, "connection")
    return pool

async def test_in_its_own_world():
    await query(make(), seconds=0.002)

async def closed(pool):
    if not pool.free:
        raise RuntimeError("the pool is closed")
    pool.free.clear()
    await asyncio.sleep(0.001)

async def test_what_may_be_closed_afterwards():
    pool = Pool()
    pool.put(1)
    await closed(pool)
"""


def test_a_test_that_makes_its_own_world_repeats_the_call_that_was_called_off(tmp_path: Path) -> None:
    write(tmp_path, OWN_WORLD)
    text = run_pytest(tmp_path, "--cancel-sweep").stdout
    assert "query, called again with the same arguments, hangs at test_suite.py:15: return await waiter" in text, text
    assert "1 failed, 1 passed" in text
    assert "test_what_may_be_closed_afterwards: SAFE" in text


CALLED_AGAIN = """
import asyncio
import calloff.testing._sweep.trial

calloff.testing._sweep.trial._LEAST = 0.2

class Door:
    closed = False

    async def close(self):
        if not self.closed:
            await asyncio.sleep(0)
            await asyncio.sleep(0.5)
            self.closed = True

class Made:
    made = None

    def __init__(self, making):
        self.making = making

    async def get(self):
        if self.made is None:
            self.made = await self.making
        return self.made

async def make():
    await asyncio.sleep(0)
    return 1

class Line:
    def __init__(self):
        self.rest = ["one", "two"]

    async def read(self):
        await asyncio.sleep(0)
        rest, self.rest = self.rest, []
        return "".join(rest)

async def ask(server):
    await asyncio.sleep(0)
    if not server.sockets:
        raise ConnectionRefusedError("Connect call failed")

async def test_what_asks_a_server_that_it_closes():
    async def answer(reader, writer):
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        await ask(server)

async def test_what_takes_long_only_once():
    await Door().close()

async def test_what_is_made_only_once():
    await Made(make()).get()

async def test_what_returns_another_value_when_it_had_returned_one():
    await Line().read()
"""


def test_a_call_that_is_repeated_has_its_time_its_value_and_what_can_be_awaited_once(tmp_path: Path) -> None:
    write(tmp_path, CALLED_AGAIN)
    text = run_pytest(tmp_path, "--cancel-sweep", "--cancel-sweep-phases=early").stdout
    assert "4 passed" in text, text
    assert "again with the same" not in text


FILES = """
import asyncio
import os

def opened():
    return len(os.listdir("/proc/self/fd"))

def test_before():
    opened.before = opened()

async def test_one(): await asyncio.sleep(0)
async def test_two(): await asyncio.sleep(0)
async def test_three(): await asyncio.sleep(0)

def test_afterwards():
    assert opened() == opened.before
"""


def test_a_sweep_keeps_nothing_open_in_the_process_of_the_tests(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    text = run_pytest(tmp_path, "--cancel-sweep", "--cancel-sweep-phases=early").stdout
    assert "5 passed" in text, text
    assert "3 tests, 3 await points" in text


OF_A_FIXTURE = f"""
import pytest
{OWN_WORLD.partition("async def test_in_its_own_world")[0]}

@pytest.fixture
def pool():
    pool = Pool()
    pool.put("connection")
    return pool

async def test_by_hand(pool):
    asyncio.get_running_loop().call_later(0.002, pool.put, await pool.get())
    connection = await pool.get()
    await asyncio.sleep(0)
    pool.put(connection)

def test_backend(): ...
{ANYIO_BACKEND.replace("@pytest.fixture", "")}
"""


def test_a_test_is_run_again_with_its_fixtures(tmp_path: Path) -> None:
    pytest.importorskip("pytest_asyncio")
    write(tmp_path, OF_A_FIXTURE, AUTO)
    text = run_pytest(tmp_path, "--cancel-sweep", plugins=ASYNCIO).stdout
    assert "test_by_hand: UNSAFE" in text, text
    assert "restart: run again afterwards, it hangs at test_suite.py:17: return await waiter" in text


def test_an_id_that_no_test_has_is_said_so(tmp_path: Path) -> None:
    write(tmp_path, PATIENT.replace("0.6", "0"))
    done = run_pytest(tmp_path, "--cancel-sweep", "--cancel-sweep-replay=e-000000")
    assert "no cancel of the tests that were run has the id e-000000" in done.stdout
    assert done.returncode == pytest.ExitCode.USAGE_ERROR


SERVES = """
import asyncio

async def answer(reader, writer):
    await asyncio.sleep(0.01)
    writer.close()
"""
LEAVES_ITS_SERVER = """
import asyncio
from served import answer

async def test_answer():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await reader.read()
    writer.close()
    server.close()
"""


def test_a_socket_is_held_against_who_opened_it(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(SERVES)
    write(tmp_path, LEAVES_ITS_SERVER)
    done = run_pytest(tmp_path, "--cancel-sweep", "--cancel-sweep-phases=early")
    assert "opened at test_suite.py:6" in done.stdout, done.stdout
    assert "of the project:" not in done.stdout, done.stdout


OWNS_A_THREAD = """
import asyncio
import queue
import threading

class Database:
    \"\"\"May be opened by ``await``, as some are, and works in a thread of its own until nobody has it any more.\"\"\"

    def __init__(self):
        self.jobs = queue.SimpleQueue()
        self.in_transaction = False
        threading.Thread(target=serve, args=(self.jobs,), daemon=True).start()

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return self

    async def begin(self):
        if self.in_transaction:
            raise OSError("there is a transaction already")
        self.in_transaction = True
        await asyncio.sleep(0.001)

    def close(self):
        self.jobs.put(None)

    __del__ = close

def serve(jobs):
    jobs.get()

async def store(database, rolls_back):
    try:
        await database.begin()
        await asyncio.sleep(0.001)  # the second that wants a transaction
        database.in_transaction = False
    except asyncio.CancelledError:
        if rolls_back:
            database.in_transaction = False
        raise
"""
HAS_IT = """
import asyncio
import gc
import database

async def test_careless():
    store = await database.Database()
    await database.store(store, False)
    store.close()

async def test_careful():
    store = await database.Database()
    await database.store(store, True)
    store.close()
"""
KEEPS_IT = """

KEPT = []

async def test_leaves_its_thread():
    store = await database.Database()
    KEPT.append(store)
    await database.store(store, True)
    store.close()

def test_others_see_all_objects_when_all_is_over(request):
    def look():
        print("FROZEN", gc.get_freeze_count())
    request.config.add_cleanup(look)
"""


def test_a_call_is_repeated_whatever_its_arguments_hold(tmp_path: Path) -> None:
    (tmp_path / "database.py").write_text(OWNS_A_THREAD)
    write(tmp_path, HAS_IT)
    options = ("--cancel-sweep", "--cancel-sweep-phases=early", "--cancel-sweep-every-test")
    text = run_pytest(tmp_path, *options).stdout
    assert "store, called again with the same arguments, raises OSError: there is a transaction already" in text, text
    line = OWNS_A_THREAD.split("# the second").pop(0).count("\n") + 1
    assert f"UNSAFE database.py:{line} in store: await asyncio.sleep(0.001)" in text
    assert "1 failed, 1 passed" in text


def test_a_thread_is_held_against_who_started_it(tmp_path: Path) -> None:
    (tmp_path / "database.py").write_text(OWNS_A_THREAD)
    write(tmp_path, HAS_IT + KEEPS_IT)
    text = run_pytest(tmp_path, "--cancel-sweep", "--cancel-sweep-phases=early", "-k", "thread or objects").stdout
    assert "of the project:" not in text, text
    assert "UNSAFE test_suite.py:" in text
    assert "in test_leaves_its_thread: await database.store(store, True)" in text
    assert f"started at database.py:{OWNS_A_THREAD.split('threading.Thread(')[0].count(chr(10)) + 1}" in text
    assert "FROZEN 0" in text


SCHEDULER = """
import asyncio

class Scheduler:
    def __init__(self):
        self.helper = None

    async def spawn(self):
        if self.helper is None:
            self.helper = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0.001)

    async def close(self):
        self.helper.cancel()
        await asyncio.sleep(0.001)

    @classmethod
    async def opened(cls):
        self = cls()
        await self.spawn()
        return self
"""
KEPT_BY_THE_TEST = """
import asyncio
import scheduler

async def test_that_has_it():
    mine = scheduler.Scheduler()
    await mine.spawn()
    await mine.close()

async def test_that_was_given_nothing():
    mine = await scheduler.Scheduler.opened()
    await mine.close()

async def test_with_a_task_of_its_own():
    async def work():
        mine = scheduler.Scheduler()
        await mine.spawn()
        await enough.wait()
        await mine.close()

    enough = asyncio.Event()
    task = asyncio.create_task(work())
    await asyncio.sleep(0.002)
    enough.set()
    await task

async def test_whose_task_is_called_off_with_it():
    async def work():
        mine = scheduler.Scheduler()
        await mine.spawn()
        await mine.close()

    await asyncio.create_task(work())
"""


def test_a_task_that_an_object_keeps_is_for_who_has_the_object_to_end(tmp_path: Path) -> None:
    (tmp_path / "scheduler.py").write_text(SCHEDULER)
    write(tmp_path, KEPT_BY_THE_TEST)
    options = ("--cancel-sweep", "--cancel-sweep-phases=early", "--cancel-sweep-every-test")
    text = run_pytest(tmp_path, *options, "-k", "has_it or of_its_own").stdout
    assert "of the project:" not in text, text
    assert "in test_that_has_it: await mine.spawn()" in text
    assert "in test_with_a_task_of_its_own: await " in text
    text = run_pytest(tmp_path, *options, "-k", "with_it").stdout
    assert "of the project:" not in text, text
    assert "in work: await mine.spawn()" in text
    text = run_pytest(tmp_path, *options, "-k", "given_nothing").stdout
    assert "of the project:" in text, text
    assert "UNSAFE scheduler.py:11 in spawn: await asyncio.sleep(0.001)" in text


BLOCKS = """
import asyncio
import threading

async def test_closes_a_pool():
    never = threading.Event()
    waits = asyncio.get_running_loop().run_in_executor(None, never.wait)
    try:
        await asyncio.sleep(0.001)
    finally:
        if not asyncio.current_task().cancelling():
            never.set()
            await waits

async def test_blocks():
    try:
        await asyncio.sleep(0.001)
    finally:
        if asyncio.current_task().cancelling():
            threading.Event().wait()  # for ever
"""


def test_a_run_that_blocks_for_ever_does_not_take_the_time_of_a_whole_test(tmp_path: Path) -> None:
    write(tmp_path, BLOCKS)
    options = (
        "--cancel-sweep",
        "--cancel-sweep-phases=early",
        "--cancel-sweep-timeout=2",
        "--cancel-sweep-fault=all",
    )
    text = run_pytest(tmp_path, *options).stdout
    assert "- ended: the process was blocked for 7 s and had to be killed" in text, text
    line = BLOCKS.split("# for ever")[0].count("\n") + 1
    assert f'test_suite.py", line {line} in test_blocks' in text
    assert "- threads: the thread asyncio_0 still runs" in text


LATE = """
import asyncio
import functools
import time

import pytest

@pytest.fixture
def runner():
    with asyncio.Runner() as runner:
        yield runner

async def world():
    waiters = []
    for delay in (0.05, 0.5):
        asyncio.get_running_loop().call_later(delay, lambda: [waiter.put_nowait(1) for waiter in waiters])
    return waiters

@pytest.fixture
def messages(runner):
    yield runner.run(world())

@pytest.fixture
def busy(messages):
    time.sleep(0.7)

async def next_of(waiters):
    mine = asyncio.Queue()
    waiters.append(mine)
    try:
        return await mine.get()
    finally:
        waiters.remove(mine)

def on_the_runner(function):
    @functools.wraps(function)
    def test(runner, messages, busy):
        return runner.run(function(runner, messages, busy))

    return test

@on_the_runner
async def test_next(runner, messages, busy):
    assert await next_of(messages) == 1
"""


def test_what_a_fixture_has_timed_waits_for_the_test_to_begin(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(LATE)
    text = run_pytest(tmp_path, "--cancel-sweep", "--cancel-sweep-fault=all").stdout
    assert "test_next: SAFE: 1 await point, 5 runs, 0 unsafe in" in text, text


def test_a_call_that_can_not_be_made_again_is_told(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(ONE_ITEM)
    text = run_pytest(tmp_path, "--cancel-sweep", "--cancel-sweep-fault=all", "-v").stdout
    assert "0 unsafe, restart not tried in" in text, text


ONE_ITEM = """
import asyncio

async def take(queue):
    return await queue.get()

async def test_take():
    queue = asyncio.Queue()
    asyncio.get_running_loop().call_later(0.002, queue.put_nowait, "the only item")
    assert await take(queue) == "the only item"
"""
