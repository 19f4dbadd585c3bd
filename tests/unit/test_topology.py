"""What a local stack consists of, for the catalogue it is given."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.local.sandbox_provider.dialects import DIALECTS
from deploy.local.topology import SANDBOX_ROLES, Layout, Topology, is_service, metrics_of, needs, ports_of, service_of
from libs.provider_catalog import load_catalog
from libs.providers import worker_service
from libs.ratelimit import limits_of
from libs.settings import SettingsError
from tests.architecture.deployables import DEPLOYABLES, policy

ROWS = """
[[providers]]
id = "openai"
name = "OpenAI"
endpoint = "https://api.openai.com/v1"
models = ["m"]
max_tokens = 1
max_context_length = 1

[[providers]]
id = "our-vllm"
name = "Our vLLM"
endpoint = "http://127.0.0.1:8000/v1"
models = ["m"]
max_tokens = 1
max_context_length = 1
worker = "openai_compatible"
default_model = "m"
"""


@pytest.fixture
def catalog_file(tmp_path: Path) -> Path:
    file = tmp_path / "catalog.toml"
    file.write_text(ROWS)
    return file


def settings_of(name: str, topology: Topology, only: list[str] | None = None) -> Mapping[str, str]:
    names = [port for process in topology.processes(only) for port in ports_of(process)]
    ports = {port: number for number, port in enumerate(names, start=1)}
    return topology.service_settings(name, Layout(Path("state")), ports)


class TestProcesses:
    def test_every_provider_of_the_platform_has_its_worker(self) -> None:
        processes = Topology.of(None, sandbox=True).processes()

        assert {worker_service(provider) for provider in load_catalog()} <= set(processes)

    def test_each_stands_behind_those_it_needs(self, catalog_file: Path) -> None:
        processes = Topology.of(catalog_file, sandbox=True).processes()

        assert processes.count("worker-our-vllm") == 1
        for place, name in enumerate(processes):
            assert set(needs(name, processes)) <= set(processes[:place])

    def test_what_reaches_workers_starts_behind_all_of_them(self, catalog_file: Path) -> None:
        processes = Topology.of(catalog_file, sandbox=True).processes()

        for name in ("provider-router", "envoy"):
            assert {"worker-openai", "worker-our-vllm"} <= set(needs(name, processes))

    def test_a_part_has_no_workers_but_those_named(self, catalog_file: Path) -> None:
        processes = Topology.of(catalog_file, sandbox=True).processes(["envoy", "worker-our-vllm"])

        assert [name for name in processes if name.startswith("worker-")] == ["worker-our-vllm"]
        assert {"auth", "key-vault", "analytics", "provider-router"} <= set(processes)
        assert {"postgres", "vault", "redis", "sandbox"} <= set(processes)

    def test_a_component_runs_alone(self) -> None:
        assert Topology.of(None, sandbox=True).processes(["vault"]) == ["vault"]

    def test_real_providers_need_no_sandbox(self, catalog_file: Path) -> None:
        topology = Topology.of(catalog_file, sandbox=False)

        assert "sandbox" not in topology.processes()
        assert topology.roles == {}
        assert "WORKER_ENDPOINT" not in settings_of("worker-openai", topology)

    def test_workers_are_services_whatever_the_catalogue(self) -> None:
        # A stack may be stopped, and its logs read, by a runner that does not know what it was started with.
        assert is_service("worker-whatever")
        assert needs("worker-whatever", ["auth", "redis", "envoy"]) == ["auth", "redis"]


class TestSettings:
    def test_a_worker_of_its_own_talks_to_the_sandbox(self, catalog_file: Path) -> None:
        settings = settings_of("worker-openai", Topology.of(catalog_file, sandbox=True))

        assert settings["WORKER_ENDPOINT"].endswith("/openai/v1")
        assert not {"WORKER_PROVIDER", "WORKER_CATALOG"} & settings.keys()

    def test_a_generic_worker_talks_to_the_server_of_its_row(self, catalog_file: Path) -> None:
        topology = Topology.of(catalog_file, sandbox=True)
        settings = settings_of("worker-our-vllm", topology)

        assert topology.service_module("worker-our-vllm") == "services.workers.openai_compatible"
        assert settings["WORKER_PROVIDER"] == "our-vllm"
        assert settings["WORKER_CATALOG"] == str(catalog_file)
        assert "WORKER_ENDPOINT" not in settings

    @pytest.mark.parametrize(("name", "prefix"), [("key-vault", "KEY_VAULT"), ("provider-router", "PROVIDER_ROUTER")])
    def test_who_knows_providers_gets_the_catalogue_and_the_workers(
        self, catalog_file: Path, name: str, prefix: str
    ) -> None:
        topology = Topology.of(catalog_file, sandbox=True)

        settings = settings_of(name, topology)
        assert settings[f"{prefix}_CATALOG"] == str(catalog_file)
        assert [each.partition("=")[0] for each in settings[f"{prefix}_WORKERS"].split(",")] == ["openai", "our-vllm"]
        part = settings_of(name, topology, only=["envoy", "worker-our-vllm"])
        assert part[f"{prefix}_WORKERS"].startswith("our-vllm=")
        assert "openai" not in part[f"{prefix}_WORKERS"]

    @pytest.mark.parametrize("name", ["provider-router", "worker-openai", "worker-our-vllm"])
    def test_who_knows_models_gets_the_file_about_them(self, catalog_file: Path, name: str) -> None:
        told = settings_of(name, Topology.of(catalog_file, sandbox=True, models_file=Path("models.toml")))

        prefix = "PROVIDER_ROUTER" if name == "provider-router" else "WORKER"
        assert told[f"{prefix}_MODELS"] == str(Path("models.toml").absolute())
        assert f"{prefix}_MODELS" not in settings_of(name, Topology.of(catalog_file, sandbox=True))

    def test_the_catalogue_of_the_platform_needs_no_setting(self) -> None:
        assert "KEY_VAULT_CATALOG" not in settings_of("key-vault", Topology.of(None, sandbox=True))

    def test_every_service_counts_in_redis_and_has_a_folder_of_its_own(self) -> None:
        topology = Topology.of(None, sandbox=True)
        services = [name for name in topology.processes() if is_service(name)]

        folders = set()
        for name in services:
            settings = settings_of(name, topology)
            (redis,) = (value for key, value in settings.items() if key.endswith("_REDIS_URL_FILE"))
            (folder,) = (value for key, value in settings.items() if key.endswith("_DATA_DIR"))
            assert redis == "state/secrets/redis-url"
            assert "redis" in needs(name, topology.processes())
            folders.add(folder)
        assert len(folders) == len(services)


class TestRateLimits:
    def test_are_the_usual_ones(self) -> None:
        assert "AUTH_RATE_LIMITS" not in settings_of("auth", Topology.of(None, sandbox=True))

    @pytest.mark.parametrize("deployable", DEPLOYABLES)
    def test_can_be_out_of_reach(self, deployable: str) -> None:
        name = "worker-openai" if deployable == "worker" else deployable
        settings = settings_of(name, Topology.of(None, sandbox=True, rate_limits=False))

        (text,) = (value for key, value in settings.items() if key.endswith("_RATE_LIMITS"))
        overrides = dict(pair.split("=") for pair in text.split(","))
        limits = limits_of(policy(deployable), overrides)
        assert limits
        assert all(limit.amount == 1_000_000 for limit in limits.values())


class TestFirstProvider:
    @pytest.mark.parametrize("sandbox", [True, False])
    def test_is_openai_where_there_is_one(self, sandbox: bool) -> None:
        assert Topology.of(None, sandbox=sandbox).first_provider == "openai"

    def test_is_any_where_the_sandbox_plays_none(self, catalog_file: Path) -> None:
        catalog_file.write_text("[[providers]]" + ROWS.split("[[providers]]")[2])

        assert Topology.of(catalog_file, sandbox=True).first_provider == "our-vllm"


class TestSandboxRoles:
    def test_it_plays_every_provider_of_the_platform_at_a_place_of_its_own(self) -> None:
        roles = Topology.of(None, sandbox=True).roles

        assert roles == SANDBOX_ROLES
        assert roles.keys() == load_catalog().keys()
        assert {role.mount for role in roles.values()} == {dialect.mount for dialect in DIALECTS}

    def test_the_provider_of_a_generic_worker_plays_itself(self, catalog_file: Path) -> None:
        catalog_file.write_text(ROWS.replace('id = "our-vllm"', 'id = "grok"'))

        assert list(Topology.of(catalog_file, sandbox=True).roles) == ["openai"]


class TestReplicas:
    topology = Topology.of(None, sandbox=True, replicas={"worker-openai": 3, "auth": 2})

    def test_all_stand_behind_those_they_need(self) -> None:
        processes = self.topology.processes(["envoy", "worker-openai"])

        assert [name for name in processes if service_of(name) == "worker-openai"] == [
            "worker-openai",
            "worker-openai.2",
            "worker-openai.3",
        ]
        assert {"auth", "auth.2"} <= set(needs("worker-openai.3", processes))
        assert {"worker-openai.2", "worker-openai.3", "auth.2"} <= set(needs("envoy", processes))

    def test_differ_in_their_addresses_and_data_only(self) -> None:
        one, other = (settings_of(name, self.topology) for name in ("worker-openai", "worker-openai.2"))

        assert one.keys() == other.keys()
        assert {name for name in one if one[name] != other[name]} == {
            "WORKER_LISTEN",
            "WORKER_METRICS_LISTEN",
            "WORKER_DATA_DIR",
        }

    def test_are_all_told_to_those_who_call_them(self) -> None:
        ports = {name: number for number, name in enumerate(("auth", "worker-openai", "auth.2", "key-vault"), start=1)}
        ports |= {metrics_of("key-vault"): 9}
        told = self.topology.service_settings("key-vault", Layout(Path("state")), ports | {"vault": 8, "analytics": 7})

        assert told["KEY_VAULT_AUTH_ADDRESS"] == "127.0.0.1:1 127.0.0.1:3"
        assert told["KEY_VAULT_WORKERS"] == "openai=127.0.0.1:2"

    @pytest.mark.parametrize("replicas", [{"postgres": 2}, {"worker-none": 2}, {"auth": 0}, {"auth.2": 2}])
    def test_are_of_services_alone(self, replicas: dict[str, int]) -> None:
        with pytest.raises(SettingsError, match="can be of auth"):
            Topology.of(None, sandbox=True, replicas=replicas)
