"""The jobs of docker-compose.yml do their work by their own command lines, on the files that `prepare` writes.

Names of hosts stand for this machine here; everything else is as in the containers.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import hvac
import psycopg
import pytest

from deploy.compose.prepare import Wishes, prepare
from deploy.local import pki
from deploy.local.binaries import BAO, ENVOY, REDIS
from deploy.local.ports import PortReservation
from tests.support.compose import ROOT, Installation, read_compose, services
from tests.support.postgres import running_postgres
from tests.support.redis import redis_command
from tests.support.tethered import start_tethered
from tests.support.waiting import eventually

COMPOSE = read_compose()
SECONDS = 60.0
PAGE = ROOT / "docs" / "compose.md"
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation.prepared(tmp_path / "installation", COMPOSE)


@pytest.fixture(scope="module")
def with_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with a Postgres on which the jobs have run, twice: each `up` runs them again."""
    installation = Installation.prepared(tmp_path_factory.mktemp("installation"), COMPOSE)
    with running_postgres(tmp_path_factory.mktemp("postgres")) as server:
        url = server.admin_url()
        place = url.rpartition("@")[2].partition("/")[0]
        files = installation.folder / "files"
        rewrite(files / "postgres-bootstrap" / "admin-url", lambda _: url)
        for path in files.glob("*/database-url"):
            rewrite(path, lambda text: text.replace("postgres:5432", place))
        for _ in range(2):
            installation.run("postgres-bootstrap")
            for role in ("auth", "key-vault", "analytics"):
                installation.run(f"migrate-{role}")
        yield installation


class TestPostgres:
    def test_a_service_reaches_its_tables_and_no_others(self, with_tables: Installation) -> None:
        url = (with_tables.folder / "files" / "auth" / "database-url").read_text().replace("+psycopg", "")

        with psycopg.connect(url) as auth:
            assert auth.execute("SELECT count(*) FROM users").fetchone() is not None
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                auth.execute("SELECT count(*) FROM key_vault.provider_configs")

    def test_the_first_administrator_is_made_in_the_container_of_auth(self, with_tables: Installation) -> None:
        made = subprocess.run(
            [*command_in(PAGE, "services.auth.create_admin"), "--email", "first@example.com"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **with_tables.environment("auth")},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

        assert made.returncode == 0, made.stderr
        assert "first@example.com" in made.stdout

    async def test_a_service_is_healthy_by_the_check_of_its_image(
        self, with_tables: Installation, tmp_path: Path
    ) -> None:
        ports = PortReservation()
        taken = ports.take(["grpc", "health", "metrics"], {})
        here = {
            "0.0.0.0:5100": f"127.0.0.1:{taken['grpc']}",
            "127.0.0.1:5101": f"127.0.0.1:{taken['health']}",
            "0.0.0.0:9100": f"127.0.0.1:{taken['metrics']}",
        }
        (check,) = re.findall(r"^HEALTHCHECK .*\\\n +CMD (\[.*])$", DOCKERFILE.read_text(), re.MULTILINE)
        asking = [sys.executable, *(with_others(word, here) for word in json.loads(check)[1:])]
        environment = {name: with_others(value, here) for name, value in with_tables.environment("auth").items()}

        async def healthy() -> bool:
            asked = await asyncio.to_thread(subprocess.run, asking, cwd=ROOT, capture_output=True, check=False)
            return asked.returncode == 0

        with started_service("auth", environment, tmp_path / "log") as process:
            assert await eventually(healthy, bool, seconds=SECONDS), (tmp_path / "log").read_text()

        assert process.returncode == 0, (tmp_path / "log").read_text()
        assert [path.name for path in Path(environment["AUTH_DATA_DIR"]).iterdir()] == ["replica-1"]
        ports.release()


class TestVault:
    def test_it_is_initialised_once_and_the_key_vault_logs_in(self, installation: Installation, tmp_path: Path) -> None:
        ports = PortReservation()
        port, cluster = ports.take(["vault", "vault-cluster"], {}).values()
        address = f"https://127.0.0.1:{port}"
        here = {"0.0.0.0:8200": f"127.0.0.1:{port}", "0.0.0.0:8201": f"127.0.0.1:{cluster}"}
        here |= {"https://vault:8200": address, "https://vault:8201": f"https://127.0.0.1:{cluster}"}
        configuration = installation.folder / "files" / "vault" / "vault.hcl.json"
        rewrite(configuration, lambda text: with_others(installation.on_this_machine("vault", text), here))
        command = [installation.on_this_machine("vault", word) for word in services(COMPOSE)["vault"]["command"]]
        folder = fresh(tmp_path / "server")
        with ended(start_tethered(folder, [BAO, *command], on_orphaned="SIGKILL")):
            installation.run("vault-bootstrap", instead=here)
            login = files_of(installation.path_of("key-vault", "/etc/key-vault-login"))
            operator = files_of(installation.path_of("vault-bootstrap", "/operator"))
            # As at a second `up`.
            installation.run("vault-bootstrap", instead=here)

            assert files_of(installation.path_of("key-vault", "/etc/key-vault-login")) == login
            assert files_of(installation.path_of("vault-bootstrap", "/operator")) == operator
            assert operator.keys() == {"root-token", "recovery-key"}
            environment = installation.environment("key-vault")
            client = hvac.Client(address, verify=environment["KEY_VAULT_VAULT_CA"])
            client.auth.approle.login(
                Path(environment["KEY_VAULT_VAULT_ROLE_ID_FILE"]).read_text(),
                Path(environment["KEY_VAULT_VAULT_SECRET_ID_FILE"]).read_text(),
            )
            assert client.is_authenticated()
            health = services(COMPOSE)["vault"]["healthcheck"]["test"]
            asked = [installation.on_this_machine("vault", word.replace(":8200", f":{port}")) for word in health[2:]]
            assert subprocess.run([BAO, *asked], timeout=SECONDS, capture_output=True, check=False).returncode == 0
            snapshot = tmp_path / "vault.snap"
            (saving,) = re.findall(r"vault sh -c '(.*?)'", PAGE.read_text(), re.DOTALL)
            saving = installation.on_this_machine("vault", saving).replace(":8200", f":{port}")
            saved = subprocess.run(
                ["sh", "-c", saving.replace("/tmp/vault.snap", str(snapshot))],
                env={"PATH": f"{BAO.parent}:{os.environ['PATH']}", "BAO_TOKEN": operator["root-token"]},
                timeout=SECONDS,
                capture_output=True,
                check=False,
            )
            # A compressed archive, and nothing is left behind.
            assert saved.stdout[:2] == b"\x1f\x8b", saved.stderr
            assert not snapshot.exists()
        ports.release()


class TestRedis:
    async def test_it_forgets_no_counter_and_asks_for_the_password(
        self, installation: Installation, tmp_path: Path
    ) -> None:
        ports = PortReservation()
        port = ports.take(["redis"], {})["redis"]
        (configuration,) = services(COMPOSE)["redis"]["command"]
        password = (installation.folder / "files" / "redis" / "password").read_text()
        server = [REDIS, installation.on_this_machine("redis", configuration), "--port", str(port)]

        async def answers() -> bool:
            try:
                return bool(redis_command(port, password, "PING") == "PONG")
            except OSError:
                return False

        with ended(start_tethered(fresh(tmp_path / "server"), server, on_orphaned="SIGKILL")):
            assert await eventually(answers, bool, seconds=SECONDS)
            assert redis_command(port, password, "CONFIG", "GET", "maxmemory-policy") == [
                "maxmemory-policy",
                "noeviction",
            ]
            assert redis_command(port, password, "CONFIG", "GET", "maxmemory") == ["maxmemory", str(256 * 1024 * 1024)]
            url = (installation.folder / "files" / "auth" / "redis-url").read_text()
            assert url == f"redis://:{password}@redis:6379/0"
        ports.release()


class TestEnvoy:
    async def test_it_is_ready_and_drains_by_its_script(self, installation: Installation, tmp_path: Path) -> None:
        ports = PortReservation()
        taken = ports.take(["http", "https", "admin", "metrics"], {})
        numbers = {8080: taken["http"], 8443: taken["https"], 9901: taken["admin"], 9100: taken["metrics"]}
        here = {f"port_value: {was} ": f"port_value: {now} " for was, now in numbers.items()}
        files = installation.folder / "files" / "envoy"
        for path in (*files.glob("*.json"), files / "envoy.yaml"):
            rewrite(path, lambda text: with_others(installation.on_this_machine("envoy", text), here))
        command = [installation.on_this_machine("envoy", word) for word in services(COMPOSE)["envoy"]["command"]]
        folder = fresh(tmp_path / "server")
        script = ["bash", str(ROOT / "deploy" / "envoy" / "admin.sh")]
        environment = {"PATH": os.environ["PATH"], "ENVOY_ADMIN_PORT": str(taken["admin"])}

        ((_, _, *leaving),) = (step["command"] for step in services(COMPOSE)["envoy"]["pre_stop"])

        async def administration(*arguments: str) -> int:
            command = [*script, *arguments]
            asked = await asyncio.to_thread(subprocess.run, command, env=environment, timeout=SECONDS, check=False)
            return asked.returncode

        async def ready() -> bool:
            return await administration("ready") == 0

        with ended(start_tethered(folder, [ENVOY, *command], on_orphaned="SIGKILL")) as process:
            assert await eventually(ready, bool, seconds=SECONDS)
            public = ssl.get_server_certificate(("127.0.0.1", taken["https"]), timeout=SECONDS)
            assert public.split() == (files / "public-tls" / "tls.crt").read_text().split()
            assert await administration(*leaving) == 0
            # It has failed its health check, and still runs.
            assert not await ready()
            assert process.poll() is None
        ports.release()


class TestPrepare:
    def test_certificates_near_their_end_are_renewed_and_nothing_else(
        self, installation: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # They last a year, and the authority ten.
        monkeypatch.setattr(pki, "_RENEW_BEFORE", datetime.timedelta(days=366))

        renewed = prepare(
            installation.folder / "files",
            Wishes(public_hosts=["localhost"]),
            descriptor_set=installation.folder / "descriptors.pb",
        )

        assert {name.rpartition("/")[2] for name in renewed} == {"tls.crt", "tls.key"}
        holders = {name.partition("/")[0] for name in renewed}
        assert holders == {"envoy", "vault", *(name for name in services(COMPOSE) if is_platform(name))}

    def test_a_certificate_of_a_public_authority_goes_before_its_own(self, installation: Installation) -> None:
        theirs = installation.path_of("prepare", "/public-tls")
        theirs.mkdir()
        for part in ("tls.crt", "tls.key"):
            (theirs / part).write_text(f"theirs: {part}")

        said = installation.prepare()

        assert sorted(said.split()) == ["envoy/public-tls/tls.crt", "envoy/public-tls/tls.key", "new:", "new:"]
        assert (installation.folder / "files" / "envoy" / "public-tls" / "tls.crt").read_text() == "theirs: tls.crt"

    def test_another_public_name_is_another_public_certificate(self, installation: Installation) -> None:
        renamed = Installation(installation.folder, read_compose({"PUBLIC_HOSTS": "chat.example.com"}))

        said = renamed.prepare()

        assert sorted(said.split()) == ["envoy/public-tls/tls.crt", "envoy/public-tls/tls.key", "new:", "new:"]


def is_platform(name: str) -> bool:
    return "REPLICAS_SHARE_VOLUME" in services(COMPOSE)[name].get("environment", {})


def fresh(folder: Path) -> Path:
    folder.mkdir()
    return folder


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Changes what a file says, though nobody may write to it."""
    text = change(path.read_text())
    path.unlink()
    path.write_text(text)


def with_others(text: str, instead: Mapping[str, str]) -> str:
    for was, now in instead.items():
        text = text.replace(was, now)
    return text


def files_of(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def command_in(page: Path, module: str) -> list[str]:
    """Returns the command that a page has people run in a container."""
    found = re.search(rf"docker compose exec \S+ python -m {re.escape(module)}", page.read_text())
    assert found is not None
    return [sys.executable, "-m", module]


@contextmanager
def started_service(folder: str, environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a service by the entry point of its image, for the time of the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "SERVICE": folder, **environment},
            stdout=output,
            stderr=output,
        )
        with ended(process):
            yield process


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=SECONDS)
