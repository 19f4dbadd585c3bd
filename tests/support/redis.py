"""A real Redis server for the tests, that they may freeze, kill and start again."""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hiredis
import pytest

from deploy.local.binaries import REDIS
from deploy.local.ports import PortReservation
from libs.redaction import Secret
from tests.support.tethered import start_tethered

_SECONDS = 30


def redis_command(port: int, password: str, *words: str | int) -> Any:
    """Calls a command of a server on this machine, and returns the answer. Raises OSError, hiredis.ReplyError."""
    reader = hiredis.Reader(encoding="utf-8")
    with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as connection:
        commands: list[tuple[str | int, ...]] = [("AUTH", password), words]
        connection.sendall(b"".join(hiredis.pack_command(command) for command in commands))  # type: ignore[arg-type]
        answers: list[Any] = []
        while len(answers) < len(commands):
            received = connection.recv(65_536)
            if not received:
                raise ConnectionResetError("closed while it was asked")
            reader.feed(received)
            while (answer := reader.gets()) is not False:
                answers.append(answer)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers[-1]


class RedisServer:
    """One server that keeps nothing when it ends. `port` stays the same."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port
        self.password = Secret(secrets.token_urlsafe(12))

    @property
    def url(self) -> Secret:
        """The URL to connect with, password and all."""
        return Secret(f"redis://:{self.password.reveal()}@127.0.0.1:{self.port}/0")

    @property
    def running(self) -> bool:
        """Whether it was started and not killed."""
        return self._process is not None

    def start(self) -> None:
        """Starts the server, which answers afterwards. Blocking; a fraction of a second."""
        configuration = self._folder / "redis.conf"
        configuration.write_text(
            f'bind 127.0.0.1\nport {self.port}\nrequirepass {self.password.reveal()}\nappendonly no\nsave ""\n'
        )
        self._process = start_tethered(self._folder, [REDIS, configuration], on_orphaned="SIGKILL")
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                self.call("PING")
                return
            except OSError:
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.02)

    def kill(self) -> None:
        """Kills the server, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=_SECONDS)
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stops the server for the time of the block, without closing a connection. It may be killed meanwhile."""
        process = self._process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def call(self, *words: str | int) -> Any:
        """Calls a command, by a connection of its own, and returns the answer. Raises OSError, hiredis.ReplyError."""
        return redis_command(self.port, self.password.reveal(), *words)

    def log(self) -> str:
        """Returns what the server has written."""
        return (self._folder / "log").read_text()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The server of this session; tests take `redis`."""
    ports = PortReservation()
    server = RedisServer(tmp_path_factory.mktemp("redis"), ports.take(["redis"], {})["redis"])
    try:
        server.start()
        yield server
    finally:
        server.kill()
        ports.release()


@pytest.fixture
def redis(redis_server: RedisServer) -> RedisServer:
    """The server, empty. A test that kills it may leave it so."""
    if not redis_server.running:
        redis_server.start()
    redis_server.call("FLUSHALL")
    return redis_server
