"""The auth service and its commands as processes, with nothing but their settings."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import grpc
import psycopg
import pytest
from realmultillm.auth.v1.auth_service_pb2 import GetSessionRequest, SignInRequest, SignInResponse, SignUpRequest
from realmultillm.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from realmultillm.auth.v1.token_service_pb2 import WatchRevocationsRequest
from realmultillm.auth.v1.token_service_pb2_grpc import TokenServiceStub

from deploy.local.ports import PortReservation
from libs.redaction import Secret
from libs.rpc.channel import open_channel
from tests.support.gate import gate
from tests.support.postgres import PostgresServer, database_of
from tests.support.rpc import Identities, bearer

ROOT = Path(__file__).parents[2]
PASSWORD = "seven green kettles"
WRONG = "eight green kettles"
STARTING = 30


async def start(command: str, *arguments: str, **environment: str) -> Process:
    """Starts a command of the service with this environment and no other."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", command, *arguments), cwd=ROOT, env=environment, stdout=PIPE, stderr=PIPE
    )


async def run(command: str, *arguments: str, **environment: str) -> tuple[int | None, str, str]:
    """Runs a command to its end; returns its status and what it printed."""
    process = await start(command, *arguments, **environment)
    async with asyncio.timeout(STARTING):
        stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


async def read_to_the_end(stream: grpc.aio.UnaryStreamCall) -> None:
    """Reads what comes while a service leaves, until it is gone."""
    async with asyncio.timeout(STARTING):
        while await stream.read() is not grpc.aio.EOF:
            continue


@asynccontextmanager
async def served(process: Process) -> AsyncIterator[Process]:
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
def url(postgres: PostgresServer) -> Secret:
    return postgres.fresh_database("auth")


@pytest.fixture
def url_file(url: Secret, tmp_path: Path) -> str:
    path = tmp_path / "url"
    path.write_text(url.reveal())
    return str(path)


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    return path


@pytest.fixture
def free_port() -> Iterator[int]:
    ports = PortReservation()
    yield ports.take(["auth"], {})["auth"]
    ports.release()


class TestService:
    async def test_serves_stops_when_told_and_keeps_secrets_to_itself(
        self, identity: Identities, pki_folder: Path, url: Secret, url_file: str, free_port: int, tmp_path: Path
    ) -> None:
        settings = {
            "AUTH_LISTEN": (address := f"127.0.0.1:{free_port}"),
            "AUTH_TLS_DIR": str(pki_folder / "auth"),
            "AUTH_DATABASE_URL_FILE": url_file,
            "AUTH_DATA_DIR": str(tmp_path / "data"),
            "AUTH_LOG_LEVEL": "debug",
        }
        async with (
            served(await start("services.auth", **settings)) as process,
            open_channel(address, "auth", identity("envoy")) as envoy,
            open_channel(address, "auth", identity("analytics")) as analytics,
        ):
            people = AuthServiceStub(envoy)
            email = f"{uuid4().hex}@example.com"
            opened: SignInResponse = await people.SignUp(
                SignUpRequest(email=email, password=PASSWORD), wait_for_ready=True, timeout=STARTING
            )
            with pytest.raises(grpc.aio.AioRpcError):
                await people.SignIn(SignInRequest(email=email, password=WRONG), timeout=STARTING)
            await people.GetSession(GetSessionRequest(), metadata=bearer(Secret(opened.token)), timeout=STARTING)
            # A service that follows revocations must not hold up the end.
            events = TokenServiceStub(analytics).WatchRevocations(WatchRevocationsRequest())
            assert (await events.read()).synchronized
            process.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError) as stopping:
                await read_to_the_end(events)
            assert stopping.value.code() is grpc.StatusCode.UNAVAILABLE
            async with asyncio.timeout(STARTING / 2):
                _, stderr = await process.communicate()
        log = stderr.decode()
        assert process.returncode == 0, log
        assert "/realmultillm.auth.v1.AuthService/SignUp" in log
        for secret in (PASSWORD, WRONG, opened.token, url.reveal(), email):
            assert secret not in log

    async def test_lists_the_settings_it_lacks(self) -> None:
        status, _, stderr = await run("services.auth", AUTH_HASHING_THREADS="many")
        assert status == os.EX_CONFIG
        for problem in ("AUTH_LISTEN", "AUTH_TLS_DIR", "AUTH_DATABASE_URL", "AUTH_HASHING_THREADS"):
            assert problem in stderr
        assert "Traceback" not in stderr


class TestFirstAdministrator:
    @pytest.fixture
    def settings(self, pki_folder: Path, url_file: str, free_port: int, tmp_path: Path) -> dict[str, str]:
        return {
            "AUTH_LISTEN": f"127.0.0.1:{free_port}",
            "AUTH_TLS_DIR": str(pki_folder / "auth"),
            "AUTH_DATABASE_URL_FILE": url_file,
            "AUTH_DATA_DIR": str(tmp_path / "data"),
            "AUTH_ADMIN_EMAIL": "Root@example.com",
        }

    async def test_can_sign_in_once_the_service_serves(
        self, identity: Identities, settings: dict[str, str], password_file: Path
    ) -> None:
        settings["AUTH_ADMIN_PASSWORD_FILE"] = str(password_file)
        async with (
            served(await start("services.auth", **settings)) as process,
            open_channel(settings["AUTH_LISTEN"], "auth", identity("envoy")) as envoy,
        ):
            opened: SignInResponse = await AuthServiceStub(envoy).SignIn(
                SignInRequest(email="root@example.com", password=PASSWORD), wait_for_ready=True, timeout=STARTING
            )
            assert opened.user.role == "admin"
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(STARTING):
                _, stderr = await process.communicate()
        log = stderr.decode()
        assert "the first administrator is made" in log
        for secret in (PASSWORD, "root@example.com", "Root@example.com"):
            assert secret not in log

    @pytest.mark.parametrize(
        ("changed", "problem"),
        [
            ({}, "AUTH_ADMIN_PASSWORD_FILE is required"),
            ({"AUTH_ADMIN_EMAIL": "nobody"}, "AUTH_ADMIN_EMAIL"),
            ({"AUTH_ADMIN_PASSWORD": "too short"}, "AUTH_ADMIN_PASSWORD"),
        ],
    )
    async def test_is_asked_for_in_words(self, settings: dict[str, str], changed: dict[str, str], problem: str) -> None:
        status, _, stderr = await run("services.auth", **settings | changed)
        assert status == os.EX_CONFIG
        assert problem in stderr
        assert "Traceback" not in stderr
        assert "too short" not in stderr

    async def test_is_asked_for_when_the_database_comes_later(
        self, url: Secret, settings: dict[str, str], tmp_path: Path
    ) -> None:
        async with gate(url) as (gate_url, open_gate):
            (tmp_path / "gate").write_text(gate_url.reveal())
            settings["AUTH_DATABASE_URL_FILE"] = str(tmp_path / "gate")
            async with served(await start("services.auth", **settings)) as process:
                assert process.stderr is not None
                async with asyncio.timeout(STARTING):
                    log = (await process.stderr.readuntil(b'"serving"')).decode()
                    await open_gate()
                    _, stderr = await process.communicate()
        assert process.returncode == os.EX_CONFIG
        assert "no first administrator yet" in log
        assert "AUTH_ADMIN_PASSWORD_FILE is required" in stderr.decode()
        assert "Traceback" not in stderr.decode()


class TestMigrate:
    async def test_may_be_repeated(self, postgres: PostgresServer, url: Secret, tmp_path: Path) -> None:
        owner = tmp_path / "owner-url"
        owner.write_text(postgres.url("auth_owner", database_of(url)).reveal())
        for _ in range(2):
            status, _, stderr = await run("services.auth.migrate", AUTH_DATABASE_URL_FILE=str(owner))
            assert status == 0, stderr

    async def test_is_not_for_the_service_itself(self, url_file: str) -> None:
        status, _, stderr = await run("services.auth.migrate", AUTH_DATABASE_URL_FILE=url_file)
        assert status == os.EX_CONFIG
        assert "auth_owner" in stderr
        assert "Traceback" not in stderr

    async def test_needs_to_know_the_database(self) -> None:
        status, _, stderr = await run("services.auth.migrate")
        assert status == os.EX_CONFIG
        assert "AUTH_DATABASE_URL is required" in stderr
        assert "Traceback" not in stderr

    @pytest.mark.parametrize(
        ("changed", "to", "said"), [(":{port}/", ":1/", "refused"), (":{password}@", ":x@", "auth")]
    )
    async def test_says_why_the_database_does_not_let_it_in(
        self, postgres: PostgresServer, url: Secret, changed: str, to: str, said: str
    ) -> None:
        known = postgres.url("auth_owner", database_of(url)).reveal()
        password = postgres.passwords["auth_owner"]
        port = known.rpartition(":")[2].partition("/")[0]
        other = known.replace(changed.format(port=port, password=password), to)

        status, _, stderr = await run("services.auth.migrate", AUTH_DATABASE_URL=other)

        assert status == os.EX_UNAVAILABLE, stderr
        assert stderr.startswith("The database of AUTH_DATABASE_URL cannot be used: ")
        assert said in stderr
        assert password not in stderr
        assert "Traceback" not in stderr


class TestCreateAdmin:
    async def test_says_what_it_did(self, url_file: str, password_file: Path) -> None:
        arguments = ("--email", " Root@Example.com", "--password-file", str(password_file))
        said = []
        for _ in range(2):
            status, stdout, stderr = await run(
                "services.auth.create_admin", *arguments, AUTH_DATABASE_URL_FILE=url_file
            )
            assert status == 0, stderr
            said.append(stdout.strip())
        assert said == [
            "Created the account root@example.com, an administrator.",
            "root@example.com is an administrator already.",
        ]

    async def test_makes_up_a_password_and_shows_it_this_once(self, url_file: str) -> None:
        said = []
        for _ in range(2):
            status, stdout, stderr = await run(
                "services.auth.create_admin", "--email=root@example.com", AUTH_DATABASE_URL_FILE=url_file
            )
            assert status == 0, stderr
            said.append(stdout.splitlines())
        created, shown = said[0]
        assert created == "Created the account root@example.com, an administrator."
        assert len(shown.rpartition(" ")[2]) == 24
        assert said[1] == ["root@example.com is an administrator already."]

    @pytest.mark.parametrize("content", [b"", b"short", b"\xff\xfe not text at all", None])
    async def test_says_why_it_did_nothing(self, url_file: str, tmp_path: Path, content: bytes | None) -> None:
        path = tmp_path / "unusable"
        if content is not None:
            path.write_bytes(content)
        status, stdout, stderr = await run(
            "services.auth.create_admin",
            *("--email", "root@example.com", "--password-file", str(path)),
            AUTH_DATABASE_URL_FILE=url_file,
        )
        assert status == 1
        assert stdout == ""
        assert stderr.startswith("No administrator was made: ")
        assert "Traceback" not in stderr

    async def test_says_that_the_database_is_away(self, password_file: Path) -> None:
        status, _, stderr = await run(
            "services.auth.create_admin",
            *("--email", "root@example.com", "--password-file", str(password_file)),
            AUTH_DATABASE_URL="postgresql+psycopg://auth:canary-password@127.0.0.1:1/realmultillm",
        )
        assert status == 1
        assert "not available" in stderr
        assert "canary" not in stderr


class TestVerifyAuditLog:
    async def test_says_what_it_found(self, postgres: PostgresServer, url: Secret, url_file: str) -> None:
        command = "services.auth.verify_audit_log"
        status, stdout, _ = await run(command, AUTH_DATABASE_URL_FILE=url_file)
        assert (status, stdout) == (0, "The audit log is empty.\n")

        await run("services.auth.create_admin", "--email", "root@example.com", AUTH_DATABASE_URL_FILE=url_file)
        status, stdout, _ = await run(command, AUTH_DATABASE_URL_FILE=url_file)
        assert status == 0
        assert "as it was written" in stdout
        head = stdout.split()[-1]

        status, stdout, _ = await run(command, "--expect", head, AUTH_DATABASE_URL_FILE=url_file)
        assert status == 0, stdout
        status, stdout, _ = await run(command, "--expect", f"2:{'0' * 64}", AUTH_DATABASE_URL_FILE=url_file)
        assert status == 1
        assert "entry 2 is missing or another" in stdout

        with psycopg.connect(postgres.superuser_url(url)) as superuser:
            superuser.execute("ALTER TABLE auth.audit_logs DISABLE TRIGGER only_grows")
            superuser.execute("UPDATE auth.audit_logs SET user_id = 'usr_1'")
        status, stdout, stderr = await run(command, AUTH_DATABASE_URL_FILE=url_file)
        assert status == 1
        assert "entry 1 is missing or not as it was written" in stdout
        assert stderr == ""

    @pytest.mark.parametrize("head", ["", "17", "17:xyz", "0:" + "0" * 64])
    async def test_says_what_no_head_is(self, url_file: str, head: str) -> None:
        status, _, stderr = await run(
            "services.auth.verify_audit_log", "--expect", head, AUTH_DATABASE_URL_FILE=url_file
        )
        assert status == 2
        assert "ID:HASH" in stderr
        assert "Traceback" not in stderr

    async def test_says_that_it_could_not_look(self) -> None:
        url = "postgresql+psycopg://auth:canary-password@127.0.0.1:1/realmultillm"
        status, stdout, stderr = await run("services.auth.verify_audit_log", AUTH_DATABASE_URL=url)
        assert status == os.EX_UNAVAILABLE
        assert stdout == ""
        assert "not verified" in stderr
        assert "canary" not in stderr
        status, _, stderr = await run("services.auth.verify_audit_log")
        assert status == os.EX_CONFIG
        assert "AUTH_DATABASE_URL is required" in stderr
