"""Settings of the key vault that would be dangerous or useless are refused."""

from __future__ import annotations

import pytest

from libs.settings import SettingsError, from_env
from services.key_vault.settings import PREFIX, Settings

USABLE = {
    "KEY_VAULT_LISTEN": "127.0.0.1:5102",
    "KEY_VAULT_TLS_DIR": "tls",
    "KEY_VAULT_DATA_DIR": "data",
    "KEY_VAULT_DATABASE_URL": "postgresql+psycopg://key_vault:canary@localhost/realmultillm",
    "KEY_VAULT_AUTH_ADDRESS": "127.0.0.1:5101",
    "KEY_VAULT_VAULT_ADDRESS": "https://127.0.0.1:8200",
    "KEY_VAULT_VAULT_CA": "ca.crt",
    "KEY_VAULT_VAULT_ROLE_ID": "role",
    "KEY_VAULT_VAULT_SECRET_ID": "canary",
    "KEY_VAULT_WORKERS": "openai=127.0.0.1:5105, grok=127.0.0.1:5109",
}


class TestSettings:
    def test_usable_ones_are_read(self) -> None:
        settings = from_env(Settings, PREFIX, USABLE)
        assert settings.workers == {"openai": "127.0.0.1:5105", "grok": "127.0.0.1:5109"}
        assert "canary" not in repr(settings)

    def test_an_open_way_to_vault_is_refused(self) -> None:
        with pytest.raises(SettingsError, match="KEY_VAULT_VAULT_ADDRESS must start with https://"):
            from_env(Settings, PREFIX, {**USABLE, "KEY_VAULT_VAULT_ADDRESS": "http://vault"})
