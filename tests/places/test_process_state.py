"""What a worker has of the program, and what one function in it leaves for the next."""

import asyncio
import copy
import ctypes
import importlib
import importlib.util
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import calloff
from calloff._child import by_value

pytestmark = pytest.mark.usefixtures("one_worker")


@pytest.fixture
def one_worker():
    """One function at a time, so that one worker has all of them."""
    calloff.process.configure(size=1)
    yield
    calloff.process.configure(size=max(4, os.cpu_count() or 1))


async def call(fn, *args):
    return await calloff.call(calloff.process(fn, *args), timeout=30)


# --- what the program changed since


def surroundings():
    return os.environ.get("CALLOFF_TEST"), os.getcwd(), sys.argv[-1], os.getpid()


def test_changes_of_the_program_are_seen_by_a_warm_worker(tmp_path, monkeypatch):
    async def main():
        before = await call(surroundings)
        monkeypatch.setenv("CALLOFF_TEST", "two")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["program", "changed"])
        after = await call(surroundings)
        assert after[:3] == ("two", str(tmp_path), "changed")
        assert after[3] == before[3], "the same worker"
        monkeypatch.delenv("CALLOFF_TEST")
        assert (await call(surroundings))[0] is None

    asyncio.run(main())


def test_a_module_that_was_written_anew_is_imported_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = tmp_path / "calloff_edited.py"

    def write(text):
        file.write_text(f"import os\ndef answer():\n    return {text!r}, os.getpid()\n")
        importlib.invalidate_caches()

    async def main():
        await call(os.getpid)
        monkeypatch.syspath_prepend(str(tmp_path))  # the worker runs already
        write("version 1")
        edited = importlib.import_module("calloff_edited")
        first, worker = await call(edited.answer)
        assert (await call(edited.answer)) == ("version 1", worker), "an unchanged one keeps its worker"
        write("the second version")
        importlib.reload(edited)
        second, other = await call(edited.answer)
        assert (first, second) == ("version 1", "the second version")
        assert worker != other

    try:
        asyncio.run(main())
    finally:
        sys.modules.pop("calloff_edited", None)


def test_restart_replaces_the_workers():
    async def main():
        before = await call(os.getpid)
        assert await call(os.getpid) == before
        calloff.process.restart()
        assert await call(os.getpid) != before

    asyncio.run(main())


# --- what a function leaves behind


def spoils():
    os.environ["CALLOFF_LEFT"] = "1"
    os.chdir("/")
    os.umask(0o077)
    sys.path.insert(0, "/left")
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    signal.alarm(100)
    signal.setitimer(signal.ITIMER_PROF, 1)
    return os.getpid()


def looks():
    mask = os.umask(0)
    os.umask(mask)
    return (
        os.getpid(),
        os.environ.get("CALLOFF_LEFT"),
        os.getcwd(),
        mask,
        "/left" in sys.path,
        signal.getsignal(signal.SIGUSR1),
        signal.SIGUSR2 in signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        signal.getitimer(signal.ITIMER_REAL)[0] + signal.getitimer(signal.ITIMER_PROF)[0],
    )


def test_the_next_function_finds_the_worker_as_it_was():
    async def main():
        before = await call(looks)
        assert await call(spoils) == before[0]
        assert await call(looks) == before

    asyncio.run(main())


def replaces_environ():
    vars(os)["environ"] = dict(os.environ, CALLOFF_LEFT="1")


WRITES = {
    "one": "os.environ['CALLOFF_LEFT'] = '1'",
    "another value": "os.environ['CALLOFF_THERE'] = 'other'",
    "one less": "del os.environ['CALLOFF_THERE']",
    "pop": "os.environ.pop('CALLOFF_THERE')",
    "popitem": "os.environ.popitem()",
    "setdefault": "os.environ.setdefault('CALLOFF_LEFT', '1')",
    "update": "os.environ.update(CALLOFF_LEFT='1')",
    "or": "os.environ |= {'CALLOFF_LEFT': '1'}",
    "clear": "os.environ.clear()",
    "bytes": "os.environb[b'CALLOFF_LEFT'] = b'1'",
    "a copy that shares it": "copy.copy(os.environ)['CALLOFF_LEFT'] = '1'",
    "a put and a read": "os.putenv('CALLOFF_LEFT', '1'); getattr(os, 'reload_environ', spoils)()",
    **{
        f"inside, {call}": f"os.environ._data.{call}"
        for call in (
            "__setitem__(b'CALLOFF_LEFT', b'1')",
            "__delitem__(b'CALLOFF_THERE')",
            "__ior__({b'CALLOFF_LEFT': b'1'})",
            "update({b'CALLOFF_LEFT': b'1'})",
            "setdefault(b'CALLOFF_LEFT', b'1')",
            "pop(b'CALLOFF_THERE')",
            "popitem()",
            "clear()",
        )
    },
    "something else inside": "os.environ._data = {**os.environ._data, b'CALLOFF_LEFT': b'1'}",
    "something else in its place": "replaces_environ()",
}


def writes(line):
    before = dict(os.environ)
    exec(line)
    return os.getpid(), dict(os.environ) != before or os.environb.get(b"CALLOFF_LEFT") is not None


def environments():
    """What Python code sees, and what a program that is started does."""
    names = "CALLOFF_LEFT", "CALLOFF_THERE"
    line = "echo $CALLOFF_LEFT,$CALLOFF_THERE"
    return (
        os.getpid(),
        dict(os.environ),
        [os.environb.get(os.fsencode(name)) for name in names],
        subprocess.run(line, shell=True, capture_output=True, check=True).stdout,
    )


@pytest.mark.parametrize("line", WRITES.values(), ids=WRITES)
def test_whatever_writes_to_the_environment_it_is_put_back(line, monkeypatch):
    monkeypatch.setenv("CALLOFF_THERE", "yes")

    async def main():
        before = await call(environments)
        assert before[1] == dict(os.environ)
        for _ in range(2):
            assert await call(writes, line) == (before[0], True)
            assert await call(environments) == before

    asyncio.run(main())


def copies_its_environment():
    inside = vars(os.environ)["_data"]
    return copy.deepcopy(inside), dict(os.environ), os.environ.copy(), inside


def test_the_environment_in_a_worker_can_be_copied_and_sent():
    async def main():
        inside, plain, copied, sent = await call(copies_its_environment)
        assert type(inside) is type(plain) is type(copied) is type(sent) is dict
        assert plain == copied == dict(os.environ)
        assert inside == sent == vars(os.environ)["_data"]

    asyncio.run(main())


def leaves_a_thread(mark):
    def beat():
        while True:
            with open(mark, "a") as file:
                file.write(".")
            time.sleep(0.005)

    threading.Thread(target=beat, daemon=True).start()
    while not os.path.exists(mark):
        time.sleep(0.001)
    return os.getpid()


def test_a_thread_that_a_function_leaves_behind_is_dead_before_its_value_is_told(tmp_path):
    async def main():
        mark = tmp_path / "mark"
        worker = await call(leaves_a_thread, str(mark))
        beats = mark.stat().st_size
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
        await asyncio.sleep(0.05)
        assert mark.stat().st_size == beats
        assert await call(os.getpid) != worker

    asyncio.run(main())


def ends_a_thread():
    thread = threading.Thread(target=time.sleep, args=(0.01,))
    thread.start()
    return os.getpid()


def test_a_thread_that_is_about_to_end_costs_no_worker():
    async def main():
        for _ in range(20):  # a busy machine may give the thread no turn within the moment that it has
            if await call(ends_a_thread) == await call(os.getpid):
                return
        raise AssertionError("it has cost a worker each time")

    asyncio.run(main())


# --- children that it forks


def forks(fork, how):
    if not (os.fork() if fork == "by os.fork" else ctypes.PyDLL(None).fork()):
        if how == "returns":
            return "of the child"
        if how == "exits":
            sys.exit(3)
        raise KeyError("of the child")
    _, status = os.wait()
    return "of the function", os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize("fork", ["by os.fork", "by C"])
@pytest.mark.parametrize(("how", "status"), [("returns", 0), ("exits", 3), ("raises", 1)])
def test_a_forked_child_never_answers_for_its_function(fork, how, status):
    async def main():
        assert await call(forks, fork, how) == ("of the function", status)
        assert await call(abs, -3) == 3

    asyncio.run(main())


# --- ends that are meant for the process


def ends_its_process(kind, *args):
    raise {"exit": SystemExit, "interrupt": KeyboardInterrupt}[kind](*args)


@pytest.mark.parametrize(("kind", "args", "status"), [("exit", (3,), 3), ("exit", (), 0), ("interrupt", (), 1)])
async def test_the_program_of_the_caller_goes_on(kind, args, status):
    outcome = await calloff.start(calloff.process(ends_its_process, kind, *args)).outcome()
    assert isinstance(outcome, calloff.Failed)
    assert isinstance(outcome.error, calloff.WorkerDied)
    assert outcome.error.status == status
    assert "ends_its_process ended its process" in str(outcome.error)
    assert await call(abs, -3) == 3


# --- what can't be sent, or not as it is


class KeywordOnly(Exception):
    def __init__(self, text, *, code):
        super().__init__(text)
        self.code = code


class NewKeyword(Exception):
    def __new__(cls, *args, code):
        return super().__new__(cls, *args)

    def __init__(self, *args, code):
        super().__init__(*args)
        self.code = code


class HoldsLock(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()
        self.hint = "kept"


class BadText(Exception):
    def __str__(self):
        raise ValueError("no text")


def raises_a_group():
    error = KeywordOnly("inner", code=3)
    error.add_note("the note")
    raise ExceptionGroup("several", [ValueError(1), error, ExceptionGroup("more", [NewKeyword("new", code=4)])])


def raises(kind):
    makes: dict[str, Any] = {
        "lock": lambda: HoldsLock("locked"),
        "text": BadText,
        "new": lambda: NewKeyword("new", code=4),
    }
    raise makes[kind]()


async def test_errors_of_a_group_keep_type_text_notes_and_traceback():
    with pytest.raises(ExceptionGroup, match="several") as caught:
        await call(raises_a_group)
    first, second, third = caught.value.exceptions
    assert (type(first), first.args) == (ValueError, (1,))
    assert (type(second), second.args, second.code) == (KeywordOnly, ("inner",), 3)
    assert second.__notes__ == ["the note"]
    assert (third.message, type(third.exceptions[0]), third.exceptions[0].code) == ("more", NewKeyword, 4)
    assert "in raises_a_group" in str(caught.value.__cause__)


async def test_errors_keep_what_of_them_can_be_sent():
    with pytest.raises(HoldsLock, match="locked") as caught:
        await call(raises, "lock")
    assert caught.value.hint == "kept"
    assert not hasattr(caught.value, "lock")
    with pytest.raises(NewKeyword, match="new"):
        await call(raises, "new")
    with pytest.raises(BadText):
        await call(raises, "text")


@pytest.mark.parametrize("name", ["calloff_plugin", "calloff_plugins.inner.plugin"])
def test_a_module_that_was_loaded_by_its_path_is_sent_by_value(tmp_path, name):
    folder = tmp_path.joinpath(*name.split(".")[:-1])
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name.split('.')[-1]}.py"
    file.write_text("FACTOR = 3\ndef inner(n):\n    return n * FACTOR\ndef triple(n):\n    return inner(n)\n")
    spec: Any = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    names = [name]
    for above in (*file.relative_to(tmp_path).parents,)[:-1]:  # namespaces, as pytest's importlib mode makes them
        space = ModuleType(".".join(above.parts))
        space.__path__ = [str(tmp_path / above)]
        sys.modules[space.__name__] = space
        names.append(space.__name__)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        assert asyncio.run(call(module.triple, 4)) == 12
    finally:
        for known in names:
            del sys.modules[known]


def run_script(tmp_path: Path, text: str) -> str:
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(text))
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pools_and_pickles_inside_know_the_script(tmp_path):
    out = run_script(
        tmp_path,
        """
        import dataclasses, multiprocessing, pickle
        import calloff

        @dataclasses.dataclass
        class Point:
            x: int

        def square(x):
            return x * x

        def pool(method):
            with multiprocessing.get_context(method).Pool(1) as pool:
                return pool.map(square, range(4))

        def pickles():
            return pickle.loads(pickle.dumps(Point(3)))

        async def main():
            for method in ("fork", "spawn"):
                print(await calloff.call(calloff.process(pool, method), timeout=30))
            point = await calloff.call(calloff.process(pickles))
            print(type(point) is Point, point)

        if __name__ == "__main__":
            calloff.run(main())
        """,
    )
    assert out.splitlines() == ["[0, 1, 4, 9]"] * 2 + ["True Point(x=3)"]


def test_a_global_that_can_not_be_sent_is_named(tmp_path):
    out = run_script(
        tmp_path,
        """
        import threading
        import calloff

        lock = threading.Lock()

        def with_lock():
            with lock:
                return 1

        def deep():
            return with_lock()

        class Service:
            def __init__(self):
                self.client = threading.Lock()

            def work(self):
                return 1

        async def main():
            for function in (deep, Service().work):
                try:
                    await calloff.call(calloff.process(function))
                except TypeError as error:
                    print(error)

        calloff.run(main())
        """,
    )
    first, second = out.splitlines()
    assert "deep can't be sent to a process: the global 'lock', which with_lock uses, a _thread.lock," in first
    assert "the attribute 'client' of Service, a _thread.lock," in second


# --- results that take long to unpickle


class Blocks:
    """Unpickling it takes until a file is there."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return wait_for, (self.file,)


def wait_for(file):
    while not os.path.exists(file):
        time.sleep(0.005)
    return "at last"


async def test_a_result_that_is_slow_to_unpickle_holds_up_only_its_own_operation(tmp_path):
    calloff.process.configure(size=4)
    file = tmp_path / "release"
    slow = calloff.start(calloff.process(Blocks, str(file)), grace=0.05)
    other = calloff.start(calloff.process(abs, -3))
    assert await other == 3
    while slow.body.worker is not None or not slow.body.unpickling:
        await asyncio.sleep(0.005)
    outcome = await slow.stop()
    assert isinstance(outcome, calloff.Abandoned)
    assert "the thread that unpickles the result" in outcome.report.survivors[0]
    assert slow in calloff.operations()
    file.touch()
    while slow in calloff.operations():
        await asyncio.sleep(0.005)


class Hostile:
    def __reduce__(self):
        return ends_its_process, ("exit", 3)


async def test_a_result_that_raises_anything_while_it_is_unpickled():
    with pytest.raises(RuntimeError, match="SystemExit was raised") as caught:
        await call(Hostile)
    assert "while the result of Hostile was unpickled" in caught.value.__notes__[0]


# --- waiting for a worker


def waits_for(path):
    while not os.path.exists(path):
        time.sleep(0.005)


async def test_what_waits_for_a_worker_uses_up_no_limit(tmp_path):
    gate = tmp_path / "gate"
    operations = [calloff.start(calloff.process(waits_for, str(gate)), timeout=30, stall=30) for _ in range(4)]
    while not any(str(operation.state) == "running" for operation in operations):
        await asyncio.sleep(0.005)
    states = [str(operation.state) for operation in operations]
    assert states.count("pending") == 3
    last = operations[-1]
    assert last.deadline is None
    assert last.remaining is None
    late = await last.stop("not needed")
    assert isinstance(late, calloff.Cancelled)
    assert late.report.started is False
    gate.touch()
    await asyncio.gather(*operations[:-1])


async def test_a_limit_that_is_shorter_than_the_wait():
    first = calloff.start(calloff.process(time.sleep, 1.2))
    rest = [calloff.start(calloff.process(abs, -number), timeout=1.0) for number in range(5)]
    assert await asyncio.gather(*rest) == [0, 1, 2, 3, 4]
    await first


# --- what can't be put back, and what is asked of code that blocks


def changes_its_limits(how):
    if how == "nice":
        os.nice(1)
    elif how == "limits":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    return os.getpid()


@pytest.mark.parametrize("how", ["nice", "limits"])
def test_a_worker_that_has_become_another_gets_no_further_job(how):
    async def main():
        worker = await call(changes_its_limits, "")
        assert await call(changes_its_limits, how) == worker
        assert await call(os.getpid) != worker
        assert await call(os.getpriority, os.PRIO_PROCESS, 0) == os.getpriority(os.PRIO_PROCESS, 0)

    asyncio.run(main())


def waits_like_a_driver(path, freed):
    """As drivers of databases do: what the server does for it is called off at Ctrl-C."""
    try:
        Path(path).touch()
        time.sleep(600)
    except KeyboardInterrupt:
        Path(freed).touch()
        raise


async def test_code_that_waits_frees_what_it_holds_as_at_ctrl_c(tmp_path):
    op = calloff.start(calloff.process(waits_like_a_driver, str(tmp_path / "in"), str(tmp_path / "freed")))
    while not (tmp_path / "in").exists():
        await asyncio.sleep(0.002)
    outcome = await op.stop(grace=30)
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.ASKED
    assert (tmp_path / "freed").exists()


def wraps(path):
    try:
        Path(path).touch()
        time.sleep(600)
    except asyncio.CancelledError as error:
        raise BaseExceptionGroup("wrapped", [ValueError(1), error]) from None


async def test_the_asking_arrives_as_a_plain_cancel_when_it_is_sent_on(tmp_path):
    op = calloff.start(calloff.process(wraps, str(tmp_path / "in")))
    while not (tmp_path / "in").exists():
        await asyncio.sleep(0.002)
    op.cancel(grace=30)
    with pytest.raises(BaseExceptionGroup, match="wrapped") as caught:
        await op
    assert [type(error) for error in caught.value.exceptions] == [ValueError, asyncio.CancelledError]


# --- the interpreter


def test_a_worker_has_the_interpreter_that_the_program_has(tmp_path):
    file = tmp_path / "script.py"
    file.write_text(
        textwrap.dedent(
            """
            import sys, warnings
            import calloff

            def tell():
                return sys.flags.optimize, sys.flags.dev_mode, sys._xoptions.get("mine"), hash("calloff"), sys.warnoptions

            async def main():
                there, here = await calloff.call(calloff.process(tell)), tell()
                print(there[:1] + there[3:] == here[:1] + here[3:] and there[0] == 1, there, here)

            if __name__ == "__main__":
                calloff.run(main())
            """
        )
    )
    command = [sys.executable, "-O", "-W", "error::UserWarning", file]
    environment = {**os.environ, "PYTHONHASHSEED": "123", "PYTHONPATH": str(tmp_path / "elsewhere")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.stdout.startswith("True"), done.stdout + done.stderr


# --- the operation, as the function sees it


def looks_at_its_operation():
    op = calloff.current()
    assert op is not None
    public = """done cancelled result exception add_done_callback remove_done_callback cancel stop outcome watch where
        reschedule deadline remaining elapsed id name place parent children state reason report progress ref get_loop
        __await__"""
    missing = [name for name in public.split() if not (hasattr(op, name) and hasattr(calloff.Operation, name))]
    texts = {}
    for name, arguments in {"result": (), "reschedule": (3,), "watch": (), "add_done_callback": (print,)}.items():
        try:
            getattr(op, name)(*arguments)
        except (RuntimeError, asyncio.InvalidStateError) as error:
            texts[name] = str(error)
    for waits in (op.stop, op.outcome):
        try:
            asyncio.run(waits())
        except RuntimeError as error:
            texts[waits.__name__] = str(error)
    return missing, texts, op.where()[-1].function, op.state, op.done()


async def test_the_operation_in_a_worker_has_all_of_one_or_says_why_not():
    missing, texts, function, state, done = await call(looks_at_its_operation)
    assert missing == []
    assert (function, str(state), done) == ("looks_at_its_operation", "running", False)
    assert texts["result"] == "'looks_at_its_operation' has not ended"
    assert texts["stop"] == texts["outcome"] == "'looks_at_its_operation' can't wait for its own end"
    for name in ("reschedule", "watch", "add_done_callback"):
        assert texts[name].startswith(f"{name}() works in the program that has started")


# --- the code of functions that are sent by value


def test_code_keeps_its_file_whatever_cloudpickle_makes_of_it():
    """cloudpickle 3.1.3 has one name for the files of all code that it sends."""
    code = looks_at_its_operation.__code__
    reduced = by_value._code(lambda code: (type(code), (1, "<dynamic-code>", code.co_name)))(code)
    assert reduced == (type(code), (1, __file__, "looks_at_its_operation"))
    assert pickle.loads(by_value.dumps(lambda: 3)).__code__.co_filename == __file__
