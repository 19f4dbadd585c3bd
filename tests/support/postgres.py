"""A real Postgres for the tests: one server a session, with the roles of production, and a database for each test."""

import itertools
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from deploy.local.binaries import INITDB, POSTGRES
from deploy.local.infrastructure import give_to_postgres
from deploy.local.ports import PortReservation
from deploy.postgres.bootstrap import DATABASE, LOGINS, bootstrap
from libs.database import upgrade
from libs.database_roles import owner_of
from libs.redaction import Secret
from tests.support.tethered import start_tethered

_START_SECONDS = 30


class PostgresServer:
    """A running server. Databases are copies of a template that the real migrations made."""

    def __init__(self, port: int, admin_password: str) -> None:
        self._port = port
        self._admin_password = admin_password
        self.passwords = {role: secrets.token_urlsafe(12) for role in LOGINS}
        self._templates: dict[str, str] = {}
        self._numbers = itertools.count(1)

    def bootstrap(self, database: str = DATABASE, *, admin_url: str = "") -> None:
        """Creates the roles and the empty database of the platform, or another; as the superuser by default."""
        bootstrap(admin_url or self.admin_url(), self.passwords, database=database)

    def fresh_database(self, role: str) -> Secret:
        """Makes a database with the migrated schema of a service, and returns the URL its role connects with.

        Blocking; a fraction of a second, more for the first of a role.
        """
        template = self._templates.get(role)
        if template is None:
            template = self._templates[role] = self._copy(DATABASE, f"template_{role}")
            upgrade(self.url(owner_of(role), template), f"services.{role}")
        return self.url(role, self._copy(template, f"test_{role}_{next(self._numbers)}"))

    def empty_database(self) -> str:
        """Makes a database with nothing in it, and returns its name."""
        return self._copy("template1", f"test_empty_{next(self._numbers)}")

    def url(self, login: str, database: str) -> Secret:
        """Returns the URL by which a role of the platform connects to a database."""
        return Secret(f"postgresql+psycopg://{login}:{self.passwords[login]}@127.0.0.1:{self._port}/{database}")

    def superuser_url(self, url: Secret) -> str:
        """Returns the URL by which the superuser connects to the database of another URL."""
        return self.admin_url(database_of(url))

    def _copy(self, original: str, name: str) -> str:
        with psycopg.connect(self.admin_url(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(original))
            )
        return name

    def admin_url(self, database: str = "postgres") -> str:
        """Returns the URL by which the superuser connects to a database."""
        return f"postgresql://postgres:{self._admin_password}@127.0.0.1:{self._port}/{database}"


def database_of(url: Secret) -> str:
    """Returns the name of the database that a URL leads to."""
    return url.reveal().rpartition("/")[2]


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The server of this session."""
    with running_postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@contextmanager
def running_postgres(folder: Path) -> Iterator[PostgresServer]:
    """Runs a server with its data in a folder. It dies with the test process, however that ends."""
    data, password_file = folder / "data", folder / "password"
    data.mkdir(mode=0o700)
    password_file.write_text(secrets.token_urlsafe(12))
    give_to_postgres(data)
    ports = PortReservation()
    port = ports.take(["postgres"], {})["postgres"]
    initialize = [INITDB, "-D", data, "-U", "postgres", "--auth=scram-sha-256", "--pwfile", password_file, "--no-sync"]
    with start_tethered(folder, initialize, on_orphaned="SIGKILL", as_owner_of=data) as initialization:
        assert initialization.wait() == 0, (folder / "log").read_text()
    options = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "shared_buffers": "32MB",
        # The data is thrown away; nobody needs it to survive a power cut.
        "fsync": "off",
    }
    serve = [POSTGRES, "-D", data, *(f"--{name}={value}" for name, value in options.items())]
    with start_tethered(folder, serve, on_orphaned="SIGQUIT", as_owner_of=data) as process:
        server = PostgresServer(port, password_file.read_text())
        _bootstrap_when_up(server, process, folder / "log")
        yield server
        # A fast shutdown: the one of SIGTERM waits for everybody who is still connected.
        process.send_signal(signal.SIGINT)
    ports.release()


def _bootstrap_when_up(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            return server.bootstrap()
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
