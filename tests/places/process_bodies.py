"""What the tests of processes run in workers: importable there."""

import asyncio
import contextlib
import contextvars
import ctypes
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import calloff
from calloff._child.wire import DUMP


def add(a, b=0):
    return a + b


async def async_add(a, b):
    await asyncio.sleep(0.01)
    return a + b


def fail(text):
    raise ValueError(text)


class Odd(Exception):
    """An error that can be pickled but not unpickled."""

    def __init__(self, number, *, hint):
        super().__init__(f"odd: {number}")
        self.number = number
        self.hint = hint


class Quits:
    """Ends whatever program unpickles it."""

    def __reduce__(self):
        return sys.exit, (3,)


class CannotLeave:
    """Ends whatever program pickles it."""

    def __reduce__(self):
        sys.exit(3)


class Interrupts:
    def __reduce__(self):
        raise KeyboardInterrupt


def return_what_interrupts():
    return Interrupts()


def close_all_files():
    os.closerange(3, 256)


def raise_quits():
    raise ValueError("quits", Quits())


def return_what_cannot_leave():
    return CannotLeave()


def raise_odd():
    raise Odd(3, hint="even")


def raise_unpicklable():
    class Local(Exception):
        def __init__(self):
            super().__init__("local")
            self.lock = __import__("threading").Lock()

    raise Local


def raise_kind(name):
    import builtins

    raise getattr(builtins, name)("x")


def raise_cancelled():
    raise asyncio.CancelledError


def die(how):
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(100)


def lock():
    return __import__("threading").Lock()


def echo(value):
    return value


def touch_and_sleep(path, seconds=100.0):
    Path(path + "~").write_text(str(os.getpid()))
    os.rename(path + "~", path)  # whoever sees it finds nothing but this function
    time.sleep(seconds)
    return "slept"


def clean_up(path, seconds):
    try:
        Path(path + ".in").touch()
        time.sleep(100)
    finally:
        time.sleep(seconds)
        Path(path).write_text("clean")


async def async_clean_up(path, seconds):
    try:
        Path(path + ".in").touch()
        await asyncio.sleep(100)
    finally:
        await asyncio.sleep(seconds)
        Path(path).write_text("clean")


def clean_up_in_program(path, seconds):
    calloff.run(async_clean_up(path, seconds))


def swallow_from_program(path):
    async def main():
        Path(path).touch()
        await asyncio.sleep(100)

    try:
        calloff.run(main())
    except asyncio.CancelledError:
        pass
    time.sleep(100)


async def async_block(path):
    Path(path).touch()
    time.sleep(100)


def swallow(path):
    while True:
        try:
            Path(path).touch()
            time.sleep(100)
        except BaseException:
            pass


async def async_swallow(path):
    while True:
        try:
            Path(path).touch()
            await asyncio.sleep(100)
        except BaseException:
            pass


async def clean_up_in_generator(path, seconds):
    async def items():
        try:
            Path(path + ".in").touch()
            await asyncio.sleep(100)
            yield 1
        finally:
            await asyncio.sleep(seconds)

    async for _ in items():
        pass


def refuse_once(path):
    try:
        Path(path).touch()
        time.sleep(100)
    except asyncio.CancelledError:
        return "all the same"


def made(path):
    """Makes the file when it is iterated over, in C: nothing can come between that and what C does next."""
    return itertools.starmap(os.open, [(path, os.O_CREAT | os.O_WRONLY)])


def spin_in_c(path):
    numbers = itertools.chain(made(path), range(10**13))
    return sum(numbers)


async def async_spin_in_c(path):
    return spin_in_c(path)


def spin_in_python(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sorted(range(20), key=lambda value: -value)
    return "whole"


def ignore_signals(path):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    swallow(path)


def give_back_slowly(path, taken):
    """Wait for a condition whose lock takes its time, in C, to be given back."""

    naps = itertools.chain(made(path), itertools.starmap(time.sleep, [(0.3,)]))

    class Lock:
        release: Any = staticmethod(partial(list, naps))

        def acquire(self, *_):
            Path(taken).touch()
            return True

        def _is_owned(self):
            return True

        def locked(self):
            return True

    lock: Any = Lock()
    threading.Condition(lock).wait(1000)


def stop_itself(path):
    stop = itertools.starmap(os.kill, [(os.getpid(), signal.SIGSTOP)])
    list(itertools.chain(made(path), stop))
    time.sleep(100)


def stubborn_child(marker):
    """A child that ignores what can be ignored, marked in its environment."""
    code = "import signal,time\nfor n in (1,2,15): signal.signal(n, signal.SIG_IGN)\n"
    code += "print(flush=True)\ntime.sleep(1000)"
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code],
        env={"CALLOFF_TEST": marker},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    child.stdout.readline()
    return child


def daemon(marker):
    """A process that left its session and its parents: init's child, on any other system."""
    if not os.fork():
        os.setsid()
        if not os.fork():
            os.execve("/bin/sleep", ["sleep", "1000"], {"CALLOFF_TEST": marker})
        os._exit(0)
    os.wait()


def tree(path, marker, then="swallow"):
    stubborn_child(marker)
    for _ in range(3):
        daemon(marker)
    subprocess.Popen(["/bin/sh", "-c", "sleep 1000 & sleep 1000 & wait"], env={"CALLOFF_TEST": marker})
    if then == "return":
        return "left them"
    return swallow(path)


def become_another_program(path):
    """Nothing of Python, nor any handler of a signal, is left of the process."""
    os.execvp("sh", ["sh", "-c", 'exec 9>"$0" && sleep 1000', path])


def take_all_handlers_away(path):
    """As a program does that makes itself a daemon."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is not None:  # of the C library
            signal.signal(number, signal.SIG_DFL)
    Path(path).touch()
    until = time.monotonic() + 60
    while time.monotonic() < until and not os.path.exists(f"{path}.go"):
        time.sleep(0.01)
    return "went on"


def take_the_handler_of_c_away(path):
    signal.signal(DUMP, signal.SIG_DFL)
    return sum(itertools.chain(made(path), range(5 * 10**7))) > 0


def write_to_files_of_others(data):
    """As code does that goes on using the number of a file which it has closed."""
    for number in range(3, 30):
        with contextlib.suppress(OSError):
            os.write(number, data)


def report_progress(count):
    for number in range(count):
        calloff.progress((number + 1, count))
    return calloff.current().name


def tell():
    operation = calloff.current()
    return operation.id, operation.name, operation.place, operation.remaining, calloff.remaining()


def checkpoints(path):
    refused = 0
    while True:
        try:
            Path(path).touch()
            calloff.checkpoint(0.5)
        except asyncio.CancelledError:
            refused += 1
            if refused == 2:
                reason = calloff.current().reason
                return str(reason.kind), reason.text


async def nested(path):
    async def inner():
        try:
            await asyncio.sleep(100)
        finally:
            Path(path).write_text("inner ended")

    op = calloff.start(inner())
    await asyncio.sleep(0.01)
    return str(op.parent.name)


def call_itself_off():
    calloff.current().cancel("enough of this")
    time.sleep(100)


def many_stalls(count):
    for _ in range(count):
        time.sleep(0.05)
        calloff.progress()
    return count


def short(milliseconds):
    end = time.perf_counter() + milliseconds / 1000
    while time.perf_counter() < end:
        pass
    return milliseconds


def inner_line():
    time.sleep(100)  # the line that is seen


async def async_line():
    await inner_await()


async def inner_await():
    await asyncio.sleep(100)  # the await that is seen


def print_and_return(text):
    print(text)
    print(text, file=sys.stderr)


def waits_for(path):
    while not os.path.exists(path):
        time.sleep(0.005)


def import_and_wait(folder, name, patience=None):
    """Import a slow module, then be there; with `patience`, imports are interrupted after so many seconds."""
    if patience is not None:
        vars(sys.modules["_calloff._child.worker"])["_IMPORT"] = patience
    sys.path.insert(0, folder)
    try:
        __import__(name)
    finally:
        sys.path.remove(folder)
    time.sleep(100)


def look_at_module(name):
    return os.getpid(), getattr(sys.modules.get(name), "last", None)


class Slow:
    """Takes its time to be destroyed, and tells when that was broken off."""

    def __init__(self, path, left):
        self.path, self.left = path, left

    def __del__(self):
        try:
            Path(self.path).touch()
            time.sleep(100)
        finally:
            Path(self.left).touch()


def ask_in_destructor(path, left):
    Slow(path, left)
    time.sleep(100)


def told_deadline(path):
    """What is left, before and after a new deadline came."""
    before = calloff.remaining(), calloff.current().remaining
    Path(path).touch()
    while calloff.remaining() > 100:
        time.sleep(0.002)
    return before, (calloff.remaining(), calloff.current().remaining)


def use_processes():
    return asyncio.run(calloff.call(calloff.process(os.getpid))) != os.getpid()


class Wire:
    """A socket at which the main thread waits inside C, where no signal handler of Python gets to run."""

    def __init__(self):
        self.end, self.other = socket.socketpair()

    def cut(self):
        self.end.shutdown(socket.SHUT_RDWR)

    def wait(self):
        receive, room = ctypes.CDLL(None).recv, ctypes.create_string_buffer(1)
        calloff.progress("waiting")
        while receive(self.end.fileno(), room, 1, 0) != 0:  # a signal makes it look, and wait again
            pass
        raise ConnectionError("cut")


def wait_in_c():
    wire = Wire()
    with calloff.on_stop(wire.cut):
        wire.wait()


def wait_in_c_in_a_thread():
    wire = Wire()
    context, found = contextvars.copy_context(), []

    def wait():
        try:
            with calloff.on_stop(wire.cut):
                wire.wait()
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=context.run, args=(wait,))
    thread.start()
    try:
        thread.join()
    finally:
        thread.join()
    raise found[0]


def ask_slowly():
    def ask():
        time.sleep(0.1)
        calloff.operations()
        order.append("asked")

    order: list[Any] = []
    try:
        with calloff.on_stop(ask):
            calloff.progress("waiting")
            time.sleep(60)
    finally:
        calloff.progress(", then ".join([*order, "left"]))


def leave_as_it_is_asked():
    """Nothing is raised in what is called `release`: the exception arrives while the block waits at its end."""
    begun, order = threading.Event(), []

    def ask():
        begun.set()
        time.sleep(1)  # who raises it has to get a turn meanwhile, on a busy machine, too
        order.append("asked")

    def release():
        while not begun.is_set():
            pass

    try:
        with calloff.on_stop(ask):
            calloff.progress("waiting")
            release()
    finally:
        calloff.progress(", then ".join([*order, "left"]))


async def ask_slowly_by_a_task():
    async def ask():
        await asyncio.sleep(0.1)
        order.append("asked")

    order: list[Any] = []
    try:
        async with calloff.on_stop(ask):
            calloff.progress("waiting")
            await asyncio.sleep(60)
    finally:
        calloff.progress(", then ".join([*order, "left"]))
