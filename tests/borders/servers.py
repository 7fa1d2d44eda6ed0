"""Servers of the system, started for the tests on a directory and a port of their own, and stopped behind them."""

import contextlib
import glob
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest


@dataclass
class Server:
    """Where one listens."""

    port: int
    directory: str


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def program(*patterns: str) -> str:
    """The path of a program of the system; without it the test is skipped."""
    for pattern in patterns:
        found = sorted(glob.glob(pattern)) or [path for path in [shutil.which(pattern)] if path]
        if found:
            return found[-1]
    pytest.skip(f"{os.path.basename(patterns[0])} is not installed: scripts/_servers.sh installs it on Debian, as root")


@contextlib.contextmanager
def running(argv: list[str], user: str | None, is_up: Callable[[], object], directory: str) -> Iterator[None]:
    """A server, from the moment that it answers to its end."""
    with open(os.path.join(directory, "log"), "w+b") as log:
        server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=user)
        try:
            until = time.monotonic() + 60
            while True:
                try:
                    is_up()
                    break
                except Exception as error:
                    if server.poll() is not None or time.monotonic() > until:
                        log.seek(0)
                        raise RuntimeError(f"{argv[0]} does not answer:\n{log.read().decode()[-2000:]}") from error
                    time.sleep(0.05)
            yield
        finally:
            server.kill()
            server.wait()


@contextlib.contextmanager
def folder(user: str | None) -> Iterator[str]:
    """A directory that belongs to the user that the server runs as."""
    with tempfile.TemporaryDirectory(prefix="calloff-", dir="/tmp", ignore_cleanup_errors=True) as directory:
        if user is not None:
            shutil.chown(directory, user)
            os.chmod(directory, 0o755)
        yield directory


def as_user(name: str) -> str | None:
    """The user for a server that refuses to run as root; ``None`` when we are somebody else already."""
    return name if os.getuid() == 0 else None


@contextlib.contextmanager
def postgres() -> Iterator[Server]:
    initdb = program("/usr/lib/postgresql/*/bin/initdb", "initdb")
    user = as_user("postgres")
    with folder(user) as directory:
        data, port = os.path.join(directory, "data"), free_port()
        made = [initdb, "-D", data, "-U", "calloff", "-A", "trust", "-N", "-E", "UTF8", "--no-locale"]
        subprocess.run(made, check=True, capture_output=True, user=user, cwd=directory)
        options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", directory, "-c", "fsync=off"]
        argv = [os.path.join(os.path.dirname(os.path.realpath(initdb)), "postgres"), "-D", data, *options]

        def is_up() -> None:
            import psycopg

            psycopg.connect(f"host=127.0.0.1 port={port} user=calloff dbname=postgres").close()

        with running(argv, user, is_up, directory):
            yield Server(port, directory)


@contextlib.contextmanager
def mariadb() -> Iterator[Server]:
    server, install = program("/usr/sbin/mariadbd", "mariadbd"), program("mariadb-install-db", "mysql_install_db")
    with folder(as_user("mysql")) as directory:
        data, port = os.path.join(directory, "data"), free_port()
        user = [f"--user={as_user('mysql')}"] if as_user("mysql") else []
        made = [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", *user]
        subprocess.run([*made, "--skip-test-db"], check=True, capture_output=True, cwd=directory)
        argv = [server, "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1", *user]
        argv += [f"--socket={directory}/socket", f"--pid-file={directory}/pid", "--skip-log-bin"]

        def is_up() -> None:
            import pymysql

            pymysql.connect(host="127.0.0.1", port=port, user="root").close()

        with running(argv, None, is_up, directory):
            yield Server(port, directory)


@contextlib.contextmanager
def redis_server() -> Iterator[Server]:
    server = program("redis-server")
    with folder(None) as directory:
        port = free_port()

        def is_up() -> None:
            socket.create_connection(("127.0.0.1", port), 1).close()

        argv = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
        with running(argv, None, is_up, directory):
            yield Server(port, directory)
