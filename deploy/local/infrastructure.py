"""The programs the platform stands on: how each is configured, and when it is ready.

Each class prepares its files when constructed, gives the program to run, and waits in `ready` until the program
serves, bringing it to the state the services expect.
"""

import asyncio
import contextlib
import json
import os
import pwd
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import hvac
import psycopg

from deploy.local import binaries, tether
from deploy.local.private_files import keep_secret, private_folder, write_private
from deploy.local.supervision import Program
from deploy.local.topology import Layout, address
from deploy.postgres import bootstrap as postgres_bootstrap
from deploy.vault import first_start

ROOT = Path(__file__).resolve().parent.parent.parent


class NotReady(Exception):
    """The program does not serve yet; the message says what it answered."""


def give_to_postgres(folder: Path) -> None:
    """Gives a folder to whom PostgreSQL shall run as, which is never root. Blocking.

    The tether runs it as the folder's owner, and where that is root as root under another name, in a user namespace.
    Where those are forbidden, as in many containers, the owner becomes `nobody`; that is second best, because
    PostgreSQL then cannot see its own programs when the clone lies in a folder that is closed to others.
    """
    if os.geteuid() != 0:
        return
    renames = subprocess.run([sys.executable, "-I", "-S", tether.__file__, "--can-rename-root"], capture_output=True)
    if renames.returncode != 0:
        with contextlib.suppress(OSError, LookupError):
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)


class Postgres:
    """PostgreSQL on loopback TCP, with a database, and per service a schema and its two roles."""

    def __init__(self, layout: Layout, ports: Mapping[str, int]) -> None:
        self._layout = layout
        self._port = ports["postgres"]
        self._data = layout.data("postgres")
        self._password = keep_secret(layout.secrets / "postgres-password")
        self._passwords = {
            login: keep_secret(layout.secrets / f"postgres-password-{login}") for login in postgres_bootstrap.LOGINS
        }
        for login, password in self._passwords.items():
            url = f"postgresql+psycopg://{login}:{password}@127.0.0.1:{self._port}/{postgres_bootstrap.DATABASE}"
            write_private(layout.database_url(login), url)

    @property
    def admin_url(self) -> str:
        """URL to connect as superuser."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self._port}/postgres"

    def create(self) -> None:
        """Makes the data folder on first use. Blocking; leaves nothing half-made behind. Raises NotReady."""
        if self._data.exists():
            return
        fresh = self._data.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        private_folder(fresh)
        give_to_postgres(fresh)
        specification = {
            "argv": [
                str(binaries.INITDB), f"--pgdata={fresh}", "--username=postgres", "--pwfile=/dev/stdin",
                "--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8",
                # Its files reach the disk with the first checkpoint; a crash before that means one more initdb.
                "--no-sync", "--no-instructions",
            ],
            "env": {"PATH": os.defpath},
            "cwd": str(fresh),
            "on_orphaned": "SIGKILL",
            "lock": str(self._layout.run / "alive.lock"),
            "leave_root": True,
        }  # fmt: skip
        path = write_private(self._layout.run / "initdb.json", json.dumps(specification))
        made = subprocess.run(
            [sys.executable, "-I", "-S", str(ROOT / "deploy" / "local" / "tether.py"), str(path)],
            env={"TETHERED_TO": str(os.getpid())},
            input=self._password,
            text=True,
            capture_output=True,
            timeout=120,
        )
        if made.returncode != 0:
            reason = f"initdb failed: {(made.stderr or made.stdout).strip()}"
            if os.geteuid() == 0 and fresh.stat().st_uid != 0:
                reason += "\nIt ran as `nobody`: move the clone to a folder others may enter, or use an ordinary user."
            raise NotReady(reason)
        fresh.rename(self._data)

    def program(self) -> Program:
        """The server, tuned to start fast and stay small; what it promises about durability is left alone."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "max_connections": "100",
            "shared_buffers": "64MB",
            # In the data folder instead of /dev/shm: nothing is left elsewhere, however it dies.
            "dynamic_shared_memory_type": "mmap",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "logging_collector": "off",
        }
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return Program(
            name="postgres",
            argv=[str(binaries.POSTGRES), "-D", str(self._data), *settings],
            cwd=self._data,
            stop_signal="INT",
            # Without goodbyes, but it takes its own children with it; the log is replayed at the next start.
            on_orphaned="SIGQUIT",
            leave_root=True,
        )

    async def ready(self) -> None:
        """Connects and prepares roles and schemas. Raises NotReady."""
        try:
            await asyncio.to_thread(postgres_bootstrap.bootstrap, self.admin_url, self._passwords)
        except psycopg.OperationalError as error:
            raise NotReady(str(error).strip().splitlines()[-1]) from None


class Vault:
    """OpenBao with integrated storage, unsealing itself with a key file; transit and one AppRole."""

    def __init__(self, layout: Layout, ports: Mapping[str, int]) -> None:
        self._layout = layout
        self._address = f"https://{address(ports, 'vault')}"
        self._authority = layout.pki / "vault" / "ca.crt"
        self._kept = first_start.Kept(
            root_token=layout.secrets / "vault-root-token",
            recovery_key=layout.secrets / "vault-recovery-key",
            role_id=layout.secrets / "key-vault-role-id",
            secret_id=layout.secrets / "key-vault-secret-id",
        )
        data = private_folder(layout.data("vault"))
        seal_key = layout.secrets / "vault-seal-key"
        # In hexadecimal: the server trims white space, which raw bytes may begin or end with.
        keep_secret(seal_key, lambda: secrets.token_hex(32))
        certificate = layout.pki / "vault"
        configuration = {
            "storage": {"raft": {"path": str(data), "node_id": "local", "performance_multiplier": 1}},
            "listener": {
                "tcp": {
                    "address": address(ports, "vault"),
                    "cluster_address": address(ports, "vault-cluster"),
                    "tls_cert_file": str(certificate / "tls.crt"),
                    "tls_key_file": str(certificate / "tls.key"),
                    "tls_min_version": "tls13",
                }
            },
            # Relative to its working directory: an absolute path is parsed as a URL, which not every path survives.
            "seal": {
                "static": {"current_key_id": "local-1", "current_key": f"file://{os.path.relpath(seal_key, data)}"}
            },
            "api_addr": self._address,
            "cluster_addr": f"https://{address(ports, 'vault-cluster')}",
            "telemetry": {"disable_hostname": True, "usage_gauge_period": "0s"},
        }
        self._configuration = write_private(layout.run / "vault.hcl.json", json.dumps(configuration, indent=2))

    def program(self) -> Program:
        """The server."""
        argv = [str(binaries.BAO), "server", f"-config={self._configuration}"]
        return Program(name="vault", argv=argv, cwd=self._layout.data("vault"))

    async def ready(self) -> None:
        """Initialises the server on first use and prepares it for the services. Raises NotReady."""
        await asyncio.to_thread(self._ready)

    def _ready(self) -> None:
        client = hvac.Client(self._address, verify=str(self._authority), timeout=20)
        try:
            first_start.prepare(client, self._kept)
        except first_start.NotServing as error:
            raise NotReady(str(error)) from None


class Redis:
    """Redis on loopback; what it holds (counters of limits) may be lost."""

    def __init__(self, layout: Layout, ports: Mapping[str, int]) -> None:
        self._port = ports["redis"]
        self._data = private_folder(layout.data("redis"))
        self._password = keep_secret(layout.secrets / "redis-password")
        write_private(layout.secrets / "redis-url", f"redis://:{self._password}@127.0.0.1:{self._port}/0")
        directives = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "requirepass": self._password,
            "appendonly": "no",
            "save": '""',
            "daemonize": "no",
        }
        lines = [f"{name} {value}" for name, value in directives.items()]
        self._configuration = write_private(layout.run / "redis.conf", "\n".join(lines) + "\n")

    def program(self) -> Program:
        """The server."""
        return Program(name="redis", argv=[str(binaries.REDIS), str(self._configuration)], cwd=self._data)

    async def ready(self) -> None:
        """Authenticates and sends PING. Raises NotReady."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(f"AUTH {self._password}\r\nPING\r\n".encode())
            answers = [await reader.readline(), await reader.readline()]
            writer.close()
            await writer.wait_closed()
        except OSError as error:
            raise NotReady(error.strerror or str(error)) from None
        if answers != [b"+OK\r\n", b"+PONG\r\n"]:
            raise NotReady(answers[0].decode().strip())


class Sandbox:
    """The stand-in for the providers."""

    def __init__(self, ports: Mapping[str, int], *, chunk_delay_ms: int) -> None:
        self._port = ports["sandbox"]
        self._chunk_delay_ms = chunk_delay_ms
        self.url = f"http://{address(ports, 'sandbox')}"

    def program(self) -> Program:
        """The server."""
        arguments = ["--port", str(self._port), "--chunk-delay-ms", str(self._chunk_delay_ms)]
        argv = [sys.executable, "-m", "deploy.local.sandbox_provider", *arguments]
        return Program(name="sandbox", argv=argv, cwd=ROOT)

    async def ready(self) -> None:
        """Asks for its health. Raises NotReady."""
        await expect_ok(f"{self.url}/_sandbox/health")


async def expect_ok(url: str) -> None:
    """Raises NotReady unless a GET is answered by 200."""
    try:
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            answer = await client.get(url)
    except httpx.HTTPError as error:
        raise NotReady(str(error) or type(error).__name__) from None
    if answer.status_code != 200:
        raise NotReady(f"{answer.status_code} {answer.text.strip()[:80]}")
