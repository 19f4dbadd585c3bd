"""The settings of the provider router, and the version it tells."""

import re

import pytest

from libs.settings import SettingsError, from_env
from libs.version import platform_version
from services.provider_router.settings import Settings

ENVIRONMENT = {
    "PROVIDER_ROUTER_LISTEN": "127.0.0.1:5105",
    "PROVIDER_ROUTER_TLS_DIR": "tls",
    "PROVIDER_ROUTER_AUTH_ADDRESS": "auth:5101",
    "PROVIDER_ROUTER_KEY_VAULT_ADDRESS": "key-vault:5102",
    "PROVIDER_ROUTER_ANALYTICS_ADDRESS": "analytics:5103",
}


class TestSettings:
    def test_workers_are_addresses_by_provider(self) -> None:
        environment = ENVIRONMENT | {"PROVIDER_ROUTER_WORKERS": "openai=a:1,google-ai=b:2"}

        settings = from_env(Settings, "PROVIDER_ROUTER", environment)

        assert settings.workers == {"openai": "a:1", "google-ai": "b:2"}

    def test_a_worker_of_an_unknown_provider_is_refused_by_name(self) -> None:
        environment = ENVIRONMENT | {"PROVIDER_ROUTER_WORKERS": "openai=a:1,closedai=b:2"}

        with pytest.raises(SettingsError, match="closedai"):
            from_env(Settings, "PROVIDER_ROUTER", environment)


class TestVersion:
    def test_is_a_version(self) -> None:
        assert re.fullmatch(r"\d+\.\d+\.\d+\S*", platform_version())
