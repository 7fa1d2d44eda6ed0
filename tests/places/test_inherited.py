"""What a command, or a function in a process, takes over: what the program has at that start, as with `subprocess`."""

import os
import subprocess
import sys
import textwrap

import pytest

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="drops privileges")

PROGRAM = """
import os, re, resource, signal, subprocess, sys
import calloff

SHELL = "umask; ulimit -n; ulimit -c; ulimit -Hn; nice; id -u; id -g; id -G; pwd; echo $X; "
SHELL += "grep -E 'SigBlk|SigIgn|Cap|NoNewPrivs|Cpus_allowed:' /proc/self/status"

def facts(executed):
    os.umask(mask := os.umask(0))
    status = open("/proc/self/status").read().splitlines()
    ids = [os.getresuid(), os.getresgid()]
    if not executed:  # who executes a program saves what is effective
        ids = [(real, effective, effective) for real, effective, _ in ids]
    return [mask, ids, os.getgroups(), os.getpriority(os.PRIO_PROCESS, 0),
        sorted(os.sched_getaffinity(0)), resource.getrlimit(resource.RLIMIT_NOFILE),
        [line for line in status if line.startswith(("CapBnd", "NoNewPrivs"))]]

def clean(text):  # glibc has signals 32 and 33 for itself, and its `posix_spawn` ignores them
    return re.sub("SigIgn:.(.*)", lambda found: f"SigIgn: {int(found[1], 16) & ~(3 << 31):x}", text)

async def look():
    plain = subprocess.run(SHELL, shell=True, capture_output=True).stdout.decode()
    ours = (await calloff.call(calloff.command(SHELL, shell=True))).text
    assert clean(plain) == clean(ours), (plain, ours)
    here, there = facts(False), await calloff.call(calloff.process(facts, True))
    assert here == there, (here, there)

async def main():
    await look()
    CHANGE
    await look()
    print("same")

calloff.run(main())
"""

CHANGES = {
    "umask": "os.umask(0o037)",
    "limits": "resource.setrlimit(resource.RLIMIT_NOFILE, (300, 400)); resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "niceness": "os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + 3)",
    "processors": "os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})",
    "directory and environment": "os.chdir('/usr'); os.environ['X'] = 'new'",
    "ignored signals": "signal.signal(signal.SIGHUP, signal.SIG_IGN); signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
    "SIGCHLD ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "blocked signals": "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGWINCH})",
}
DROPS = {
    "user": "os.setgroups([7, 9]); os.setgid(65534); os.setuid(65534)",
    "user, with root saved": "os.setgroups([]); os.setresgid(65534, 65534, 0); os.setresuid(65534, 65534, 0)",
    "two users, with root saved": "os.setgroups([]); os.setresuid(65533, 65534, 0)",
    "effective user": "os.setegid(65534); os.seteuid(65534)",
    "a capability": "import ctypes; assert not ctypes.CDLL(None).prctl(24, 5, 0, 0, 0)",
    "no new privileges": "import ctypes; assert not ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)",
}


def run(code, **options):
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(entry for entry in sys.path if entry))
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False, **options
    )


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_settings_are_those_of_the_start(change):
    done = run(PROGRAM.replace("CHANGE", change), cwd="/tmp")
    assert done.stdout == "same\n", done.stderr[-2000:]


@needs_root
@pytest.mark.parametrize("change", DROPS.values(), ids=DROPS)
def test_privileges_that_were_dropped_stay_dropped(change):
    done = run(PROGRAM.replace("CHANGE", change), cwd="/tmp")
    assert done.stdout == "same\n", done.stderr[-2000:]


@needs_root
def test_a_keeper_that_has_more_rights_is_let_go():
    code = """
    import asyncio, os, calloff
    from calloff._places import keepers, kept

    async def main():
        long = calloff.start(calloff.command("sleep", "100"))
        while long.body.pid is None:
            await asyncio.sleep(0.01)
        first = keepers._keeper.pid
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        assert (await calloff.call(calloff.command("id", "-u"))).text == "65534\\n"
        assert keepers._keeper.pid != first and os.path.exists(f"/proc/{first}"), "it has something to guard"
        rung = (await long.stop(grace=10)).report.rung
        assert rung is calloff.Rung.TERMINATED, rung
        for _ in range(500):
            if not os.path.exists(f"/proc/{first}"):
                return print("gone")
            await asyncio.sleep(0.01)

    calloff.run(main())
    """
    done = run(textwrap.dedent(code))
    assert done.stdout == "gone\n", done.stderr[-2000:]


def test_a_directory_that_was_removed(tmp_path):
    code = """
    import os, calloff
    calloff.run, calloff.command  # CPython 3.13.0 can't import asyncio in a directory that was removed
    os.mkdir("gone"); os.chdir("gone"); os.rmdir(os.getcwd())
    async def main():
        return (await calloff.call(calloff.command("ls", "-a"))).status
    assert calloff.run(main()) == 0
    """
    done = run(textwrap.dedent(code), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_function_is_where_the_program_is_that_stands_in_a_removed_directory(tmp_path):
    code = """
    import os, calloff
    calloff.run, calloff.process  # CPython 3.13.0 can't import asyncio in a directory that was removed

    def look():
        try:
            open("made", "w").close()
        except OSError as error:
            return type(error).__name__
        return os.getcwd()

    async def main():
        for name in ("gone", "gone too"):
            os.mkdir(f"{TOP}/{name}"); os.chdir(f"{TOP}/{name}"); os.rmdir(os.getcwd())
            print(await calloff.call(calloff.process(look)))
        os.chdir(TOP)
        print(await calloff.call(calloff.process(look)) == TOP)
    TOP = os.getcwd()
    calloff.run(main())
    """
    done = run(textwrap.dedent(code), cwd=tmp_path)
    assert done.stdout.split() == ["FileNotFoundError", "FileNotFoundError", "True"], done.stderr[-2000:]


def test_the_program_finds_no_child_that_it_has_not_started():
    code = """
    import os, calloff
    async def main():
        await calloff.call(calloff.command("true"))
        await calloff.call(calloff.process(os.getpid))
        try:
            while True:
                os.wait()
        except ChildProcessError:
            print("no child")
        await calloff.call(calloff.command("true"))
    calloff.run(main())
    """
    done = run(textwrap.dedent(code))
    assert done.stdout == "no child\n", done.stderr[-2000:]


@pytest.mark.parametrize("closed", ["0", "1", "2", "12", "012"])
def test_closed_standard_streams(tmp_path, closed):
    code = f"""
    import os, sys
    for number in map(int, {closed!r}):
        os.close(number)
    import calloff
    def speak():
        print("out"); print("err", file=sys.stderr)
        return "value"
    async def main():
        assert await calloff.call(calloff.process(speak), timeout=20) == "value"
        done = await calloff.call(calloff.command("sh", "-c", "echo out; echo err >&2; cat", stdin=b"in"), timeout=20)
        assert (done.stdout, done.stderr) == (b"out\\nin", b"err\\n"), done
        check = "for n in 0 1 2; do [ -e /proc/self/fd/$n ] || printf $n; done > {tmp_path}/closed"
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), "inherit")
        await calloff.call(calloff.command("sh", "-c", check, **streams), timeout=20)
    calloff.run(main())
    open("{tmp_path}/well", "w").close()
    """
    done = run(textwrap.dedent(code), stdin=subprocess.DEVNULL)
    assert (tmp_path / "well").exists(), done.stderr[-2000:]
    said = (tmp_path / "closed").read_text()
    assert set(said) | {"1"} == set(closed) | {"1"}, "what we do not have, a child does not have (1 is redirected)"


def test_a_program_that_lets_sigpipe_end_it():
    code = """
    import asyncio, os, signal, time, calloff
    from calloff._places import keepers, kept
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    async def main():
        pid = await calloff.call(calloff.process(os.getpid))
        await asyncio.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
        await calloff.start(calloff.process(os.getpid)).outcome()
        await calloff.call(calloff.command("true", stdin=b"x" * 1_000_000))
        os.kill(keepers._keeper.pid, signal.SIGKILL)
        time.sleep(0.1)
        await calloff.call(calloff.command("true"))
        print("lives")
    calloff.run(main())
    """
    done = run(textwrap.dedent(code))
    assert (done.stdout, done.returncode) == ("lives\n", 0), done.stderr[-2000:]


# --- where no keeper can live


@pytest.mark.parametrize("program", ["/bin/true", "/bin/cat", "/nonexistent", "/etc/passwd"])
@pytest.mark.parametrize("work", ["calloff.command('echo', 'hi')", "calloff.process(len, 'abc')"])
def test_an_executable_that_is_no_python(program, work):
    code = f"""
    import sys, calloff
    sys.executable = {program!r}
    async def main():
        try:
            await calloff.call({work})
        except calloff.CalloffError as error:
            assert {program!r} in str(error), error
            print(type(error).__name__, len(str(error).splitlines()))
    calloff.run(main(), grace=1)
    """
    done = run(textwrap.dedent(code))
    assert done.stdout == "CalloffError 1\n", done.stderr[-2000:]


def test_a_program_that_never_answers_as_keeper(tmp_path):
    file = tmp_path / "deaf"
    file.write_text("#!/bin/sh\nexec sleep 100\n")
    file.chmod(0o755)
    code = f"""
    import sys, calloff
    from calloff._places import keepers, kept
    kept._UP = 0.5
    sys.executable = {str(file)!r}
    async def main():
        try:
            await calloff.call(calloff.command("true"))
        except calloff.CalloffError as error:
            print("refused")
    calloff.run(main(), grace=1)
    """
    done = run(textwrap.dedent(code))
    assert done.stdout == "refused\n", done.stderr[-2000:]


@pytest.mark.parametrize("program", ["/bin/true", "/nonexistent"])
def test_the_command_line_says_that_it_failed_itself(program):
    code = f"import sys; sys.executable = {program!r}; from calloff.cli import main; "
    code += "sys.exit(main(['run', '--', 'echo', 'x']))"
    done = run(code)
    assert (done.returncode, done.stdout) == (125, "")
    assert "helper process" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_line_with_standard_output_closed():
    for words in ("len abc", "-- true", "--in thread len abc"):
        target = words.replace("len", "builtins:len")
        place = "" if words.startswith("-") else "--in process "
        line = f"{sys.executable} -m calloff run {place}{target} >&-"
        done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, ""), line


NO_PIDFD = """
import ctypes, errno, os, struct
def refuse(number, error):
    op = lambda *parts: struct.pack("HBBI", *parts)
    program = op(0x20, 0, 0, 0) + op(0x15, 0, 1, number) + op(0x06, 0, 0, 0x50000 | error) + op(0x06, 0, 0, 0x7FFF0000)
    buffer = ctypes.create_string_buffer(program)
    class Filter(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
    libc = ctypes.CDLL(None)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.byref(Filter(4, ctypes.addressof(buffer))), 0, 0) == 0
refuse(434, errno.ENOSYS)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the filter has the numbers of x86-64")
def test_without_pidfds(tmp_path):
    code = NO_PIDFD + textwrap.dedent("""
    import asyncio, calloff, time
    calloff.Operation.policy = calloff.Operation.policy._replace(last=60.0)
    async def main():
        assert (await calloff.call(calloff.command("echo", "x"))).text == "x\\n"
        assert await calloff.call(calloff.process(len, "abc")) == 3
        line = "trap '' TERM; setsid sleep 1000 & touch $1; sleep 1000"
        deaf = calloff.start(calloff.command("sh", "-c", line, "sh", READY), timeout=100, grace=0.2)
        while not os.path.exists(READY):
            await asyncio.sleep(0.01)
        deaf.reschedule(0.1)
        print((await deaf.outcome()).report.rung)
        asked = calloff.start(calloff.process(time.sleep, 1000), timeout=0.5, grace=20)
        print((await asked.outcome()).report.rung)
    calloff.run(main())
    """).replace("READY", repr(str(tmp_path / "ready")))
    done = run(code)
    assert done.stdout == "KILLED\nASKED\n", done.stderr[-2000:]


# --- files


@pytest.mark.parametrize("work", ["calloff.command('true')", "calloff.process(abs, 1)"])
def test_starts_that_fail_for_want_of_files_leave_none_open(work):
    code = f"""
    import asyncio, os, resource, calloff
    def count():
        return len(os.listdir("/proc/self/fd")) - 1
    async def main():
        calloff.process.configure(max_jobs=1, spares=0)
        for _ in range(2):
            await calloff.call({work})
        assert sum(calloff.process.counts()) == 0
        before, failed = count(), 0
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for room in range(1, 20):
            resource.setrlimit(resource.RLIMIT_NOFILE, (count() + room, hard))
            for _ in range(2):
                try:
                    await calloff.call({work}, timeout=20)
                except OSError:
                    failed += 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(200):
            if count() <= before:
                break
            await asyncio.sleep(0.02)
        print(count() - before, failed > 5)
    calloff.run(main())
    """
    done = run(textwrap.dedent(code))
    assert done.stdout == "0 True\n", done.stderr[-2000:]


def test_what_waits_for_the_keeper_when_a_loop_is_closed():
    code = """
    import asyncio, os, resource, signal, socket, calloff
    from calloff._places import keepers, kept
    resource.setrlimit(resource.RLIMIT_NOFILE, (16384, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    async def first():
        await calloff.call(calloff.command("true"))
        keepers._keeper._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        while not keepers._keeper._backlog:
            os.kill(keepers._keeper.pid, signal.SIGSTOP)  # each letter continues it
            calloff.start(calloff.command("true"), detached=True)
    async def second():
        return type(await calloff.start(calloff.command("true"), timeout=20).outcome()).__name__
    asyncio.run(first())
    print(asyncio.run(second()), asyncio.run(second()), len(keepers._keeper._backlog), flush=True)
    os._exit(0)
    """
    done = run(textwrap.dedent(code))
    assert done.stdout == "Completed Completed 0\n", done.stderr[-2000:]


def test_importing_the_kernels_floor_is_quick():
    code = "import sys; before = set(sys.modules); import calloff._os.proc, calloff._os.reaper, calloff._os.fds; "
    code += "print({'ctypes', 'asyncio', 'socket', 'signal', 'typing', 'subprocess'} & (set(sys.modules) - before))"
    done = run("import calloff;" + code)
    assert done.stdout == "set()\n", done.stderr[-2000:]


BY_C = """
import asyncio, os, calloff

def files():
    import resource
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

def lower():
    import ctypes
    both = (ctypes.c_uint64 * 2)(77, 88)
    assert ctypes.CDLL(None).setrlimit(7, both) == 0
    return os.getpid()

async def main():
    first = await calloff.call(calloff.process(files))
    lowered = await calloff.call(calloff.process(lower))
    assert await calloff.call(calloff.process(os.getpid)) != lowered
    assert await calloff.call(calloff.process(files)) == first > 77
    lower()
    await asyncio.sleep(0.05)  # nobody who has Python only can have changed them, so they are looked at now and then
    assert await calloff.call(calloff.process(files)) == 77
    print("same")

calloff.run(main())
"""


def test_limits_that_c_code_changes_are_noticed():
    done = run(BY_C)
    assert done.stdout == "same\n", done.stderr[-2000:]


def test_resource_can_be_imported_afterwards():
    code = "import calloff; calloff.run(calloff.call(calloff.process(abs, -1))); import resource; resource.getrlimit(7)"
    assert run(code).returncode == 0


ALL_LIMITS = """
import sys, calloff

def are_looked_at(_):
    return "resource" in sys.modules

async def main():
    for batch in (1, 4):
        async with calloff.map(are_looked_at, range(4), place=calloff.process, batch=batch) as results:
            async for _, outcome in results:
                assert outcome.value is False, batch
    print(are_looked_at(None))

calloff.run(main())
"""


def test_nothing_of_ours_makes_each_start_look_at_all_limits():
    done = run(ALL_LIMITS)
    assert done.stdout == "False\n", done.stderr[-2000:]
