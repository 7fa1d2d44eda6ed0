"""Where the sockets are, and whom that place is closed to."""

import asyncio
import contextlib
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import calloff
from calloff.cli import main
from calloff.control import Client, Unreachable, expose, processes
from calloff.control._directory import Unusable, checked, home, places


def test_the_usual_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALLOFF_SOCKETS")
    user = os.geteuid()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/mine")
    assert places() == ["/run/mine/calloff", f"/run/user/{user}/calloff", f"/tmp/calloff-{user}"]
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert places() == [f"/run/user/{user}/calloff", f"/tmp/calloff-{user}"]
    monkeypatch.setenv("CALLOFF_SOCKETS", "here")
    assert places() == [os.path.abspath("here")]


def test_a_system_without_users_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("CALLOFF_SOCKETS")
    monkeypatch.delattr(os, "geteuid")
    assert main(["ps"]) == 3
    assert capsys.readouterr().err == "calloff ps: programs are seen on POSIX systems only\n"


def test_it_is_made_for_the_user_alone(sockets: Path) -> None:
    former = os.umask(0)
    try:
        assert home() == str(sockets)
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        with expose():
            made = sockets / f"{os.getpid()}.sock"
            assert stat.S_ISSOCK(made.stat().st_mode)
            assert stat.S_IMODE(made.stat().st_mode) == 0o600
            assert [entry.name for entry in sockets.iterdir()] == [made.name]
        assert list(sockets.iterdir()) == []
    finally:
        os.umask(former)


def test_what_is_not_safe_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, link, file = tmp_path / "open", tmp_path / "link", tmp_path / "file"
    opened.mkdir()
    opened.chmod(0o755)
    (tmp_path / "target").mkdir(mode=0o700)
    link.symlink_to(tmp_path / "target")
    file.touch()
    for path, words in ((opened, "open to other users: chmod 700"), (link, "not a directory"), (file, "not a direct")):
        with pytest.raises(Unusable, match=words):
            checked(str(path))
        monkeypatch.setenv("CALLOFF_SOCKETS", str(path))
        with pytest.raises(calloff.CalloffError, match=f"can't be seen from outside: .*{words}"), expose():
            pass
        with pytest.raises(Unreachable, match=words):
            processes()
        with pytest.raises(Unreachable, match=words):
            processes(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of another user")
def test_a_directory_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir(mode=0o700)
    os.chown(foreign, 12345, 12345)
    monkeypatch.setenv("CALLOFF_SOCKETS", str(foreign))
    with pytest.raises(Unusable, match="belongs to another user"):
        home()
    with pytest.raises(Unreachable, match="belongs to another user"):
        processes()


def test_the_next_place_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "missing" / "calloff", tmp_path / "calloff"
    monkeypatch.setattr("calloff.control._directory.places", lambda: [str(first), str(second)])
    assert home() == str(second)
    monkeypatch.setattr("calloff.control._directory.places", lambda: [str(first)])
    with pytest.raises(Unusable, match="missing does not exist"):
        home()


def test_other_files_there_are_no_sockets(sockets: Path) -> None:
    sockets.mkdir(mode=0o700)
    for name in ("x.sock", "12.new", "12", "-3.sock", "¹.sock", ".sock"):
        (sockets / name).touch()
    assert processes() == []
    assert sorted(entry.name for entry in sockets.iterdir()) == sorted(
        ["x.sock", "12.new", "12", "-3.sock", "¹.sock", ".sock"]
    )


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="makes PID namespaces")
def test_programs_of_two_pid_namespaces_with_one_number(sockets: Path) -> None:
    """None takes the place of the other: each can be seen, and hears what is meant for it."""
    program = "import sys, calloff.control\nwith calloff.control.expose(): print('up', flush=True); sys.stdin.read()"
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", program]
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            started = subprocess.Popen(unshare, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.enter_context(started)
            stack.callback(started.kill)
            assert started.stdout is not None
            if started.stdout.readline() != b"up\n":
                pytest.skip("no PID namespaces here")
        found = processes()
        assert [process.pid for process in found] == [1, 1]
        assert len({process.socket for process in found}) == 2
        assert all("namespace" in process.argv[0] for process in found)


def test_a_path_longer_than_a_socket_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 120)
    monkeypatch.setenv("CALLOFF_SOCKETS", str(deep))
    with expose():
        (process,) = processes()
        assert process.pid == os.getpid()
        assert process.socket == str(deep / f"{os.getpid()}.sock")


def test_nothing_there(sockets: Path) -> None:
    async def look() -> None:
        async with Client() as client:
            overview = await client.list()
            assert (overview.rows, overview.total, overview.processes) == ((), 0, ())

    asyncio.run(look())
    assert not sockets.exists()


def test_a_program_that_cannot_be_seen_runs_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CALLOFF_SOCKETS", str(tmp_path / "file"))

    async def main() -> int:
        return 3

    assert calloff.run(main(), expose=True) == 3
    assert "can't be seen from outside" in caplog.text


def test_the_environment_has_the_last_word(sockets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> bool:
        return sockets.exists() and any(sockets.iterdir())

    assert calloff.run(main()) is False
    assert calloff.run(main(), expose=True) is True
    monkeypatch.setenv("CALLOFF_EXPOSE", "0")
    assert calloff.run(main(), expose=True) is False
    monkeypatch.setenv("CALLOFF_EXPOSE", "1")
    assert calloff.run(main()) is True
