"""The settings of the provider router, and the version it tells."""

import re
from pathlib import Path

from libs.settings import from_env
from libs.version import platform_version
from services.provider_router.settings import Settings

ENVIRONMENT = {
    "PROVIDER_ROUTER_LISTEN": "127.0.0.1:5105",
    "PROVIDER_ROUTER_TLS_DIR": "tls",
    "PROVIDER_ROUTER_DATA_DIR": "data",
    "PROVIDER_ROUTER_AUTH_ADDRESS": "auth:5101",
    "PROVIDER_ROUTER_KEY_VAULT_ADDRESS": "key-vault:5102",
    "PROVIDER_ROUTER_ANALYTICS_ADDRESS": "analytics:5103",
}


class TestSettings:
    def test_workers_are_addresses_by_provider(self) -> None:
        environment = ENVIRONMENT | {"PROVIDER_ROUTER_WORKERS": "openai=a:1,google-ai=b:2"}

        settings = from_env(Settings, "PROVIDER_ROUTER", environment)

        assert settings.workers == {"openai": "a:1", "google-ai": "b:2"}

    def test_the_catalogue_is_a_file_or_that_of_the_platform(self) -> None:
        environment = ENVIRONMENT | {"PROVIDER_ROUTER_WORKERS": "openai=a:1"}

        assert from_env(Settings, "PROVIDER_ROUTER", environment).catalog is None
        environment["PROVIDER_ROUTER_CATALOG"] = "/etc/catalog.toml"
        assert from_env(Settings, "PROVIDER_ROUTER", environment).catalog == Path("/etc/catalog.toml")


class TestVersion:
    def test_is_a_version(self) -> None:
        assert re.fullmatch(r"\d+\.\d+\.\d+\S*", platform_version())
