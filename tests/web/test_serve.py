"""`calloff serve` as a command."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from calloff.cli import serve


def run(*words: str, program: str = "-m calloff serve") -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *program.split(), *words], capture_output=True, text=True, timeout=60)


def start(tmp_path: Path, *words: str) -> "subprocess.Popen[str]":
    env = {**os.environ, "CALLOFF_SOCKETS": str(tmp_path / "sockets")}
    command = [sys.executable, "-m", "calloff", "serve", *words]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_it_prints_the_link_serves_and_ends_on_a_signal(tmp_path: Path, number: signal.Signals, status: int) -> None:
    process = start(tmp_path, "--port", "0")
    try:
        assert process.stdout is not None
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/#token=([\w-]{32})\n", process.stdout.readline())
        assert found is not None
        link, token = found.groups()
        with urllib.request.urlopen(f"{link}/", timeout=20) as answer:
            assert b"<title>calloff</title>" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="401") as refusal:
            urllib.request.urlopen(f"{link}/api/events", timeout=20)
        refusal.value.close()
        request = urllib.request.Request(f"{link}/api/events", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=20) as stream:
            assert stream.readline() == b"event: listing\n"
            process.send_signal(number)  # an open stream does not hold it up
            assert process.wait(20) == status
        assert process.communicate() == ("", "")
    finally:
        process.kill()
        process.communicate()


def test_two_links_have_two_tokens(tmp_path: Path) -> None:
    links = []
    for _ in range(2):
        process = start(tmp_path, "--port", "0")
        assert process.stdout is not None
        links.append(process.stdout.readline().partition("#")[2])
        process.terminate()
        process.communicate(timeout=20)
    assert links[0] != links[1]


def test_where_others_can_reach_it_that_is_said(tmp_path: Path) -> None:
    process = start(tmp_path, "--host", "0.0.0.0", "--port", "0")
    assert process.stdout is not None
    link = process.stdout.readline()
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert link.startswith(f"http://{socket.gethostname()}:")
    assert "listening on 0.0.0.0" in said
    assert "not encrypted" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--port", "x"], "--port: must be a number from 0 to 65535, not 'x'"),
        (["--port", "65536"], "from 0 to 65535"),
        (["--port", "-1"], "--port"),
        (["--open"], "--open"),
        (["here"], "here"),
    ],
)
def test_a_wrong_command_line(words: list[str], told: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_port_that_is_taken_and_a_host_that_is_not_ours() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("--port", str(taken.getsockname()[1]))
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("calloff serve: can't listen on 127.0.0.1, port ")
    assert os.strerror(errno.EADDRINUSE) in done.stderr
    for host in ("192.0.2.1", "no-such-host.invalid"):
        done = run("--host", host, "--port", "0")
        assert (done.returncode, done.stdout) == (125, "")
        assert f"can't listen on {host}" in done.stderr


def test_the_usual_port_is_left_to_whoever_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(serve, "PORT", taken.getsockname()[1])
        with serve._bind("127.0.0.1", None) as other:
            assert other.getsockname()[1] != serve.PORT


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    program = tmp_path / "without.py"
    program.write_text("import sys; sys.modules['starlette'] = None; from calloff.cli import main; sys.exit(main())")
    done = run("serve", program=str(program))
    assert (done.returncode, done.stdout) == (125, "")
    assert "pip install 'calloff[serve]'" in done.stderr


def test_help_needs_nothing(tmp_path: Path) -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--host" in done.stdout


def test_connections_that_ask_nothing_lock_nobody_out(tmp_path: Path) -> None:
    """Any user of the machine may open them; the one who has the token is let in all the same."""
    process = start(tmp_path, "--port", "0")
    idle: list[socket.socket] = []
    try:
        assert process.stdout is not None
        link, _, token = process.stdout.readline().strip().partition("/#token=")
        port = int(link.rpartition(":")[2])
        request = urllib.request.Request(f"{link}/api/events", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=20) as stream:
            assert stream.readline() == b"event: listing\n"
            for _ in range(400):
                idle.append(socket.create_connection(("127.0.0.1", port), timeout=20))
                idle[-1].sendall(b"GET / HTTP/1.1\r\n")  # and never more
            for _ in range(3):
                with urllib.request.urlopen(f"{link}/", timeout=20) as answer:
                    assert answer.status == 200
            with urllib.request.urlopen(request, timeout=20) as other:
                assert other.readline() == b"event: listing\n"
            assert stream.readline().startswith(b"data: ")  # what asked before goes on
    finally:
        for one in idle:
            one.close()
        process.kill()
        process.communicate()
