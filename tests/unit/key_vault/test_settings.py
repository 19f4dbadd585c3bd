"""Settings of the key vault that would be dangerous or useless are refused."""

from __future__ import annotations

from pathlib import Path

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


APP_ROLE = {name: USABLE[name] for name in ("KEY_VAULT_VAULT_ROLE_ID", "KEY_VAULT_VAULT_SECRET_ID")}
POD = {"KEY_VAULT_VAULT_KUBERNETES_ROLE": "key-vault"}
NEITHER = {name: value for name, value in USABLE.items() if name not in APP_ROLE}


class TestLogin:
    def test_is_by_the_app_role_that_is_given(self) -> None:
        login = from_env(Settings, PREFIX, USABLE).vault_login()
        assert (login.mount, login.credentials()) == ("approle", {"role_id": "role", "secret_id": "canary"})
        assert "canary" not in repr(login)

    def test_is_as_the_pods_service_account_when_there_is_a_role(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("pods-own\n")
        path = {"KEY_VAULT_VAULT_KUBERNETES_TOKEN_PATH": str(tmp_path / "token")}
        login = from_env(Settings, PREFIX, {**NEITHER, **POD, **path}).vault_login()
        assert (login.mount, login.credentials()) == ("kubernetes", {"role": "key-vault", "jwt": "pods-own"})

    @pytest.mark.parametrize("how", [APP_ROLE, POD])
    def test_has_its_method_where_it_is_mounted(self, how: dict[str, str]) -> None:
        elsewhere = {**NEITHER, **how, "KEY_VAULT_VAULT_AUTH_MOUNT": "clusters/blue"}
        assert from_env(Settings, PREFIX, elsewhere).vault_login().mount == "clusters/blue"

    @pytest.mark.parametrize(
        "given",
        [{}, {**APP_ROLE, **POD}, *({name: value} for name, value in APP_ROLE.items())]
        + [{name: value, **POD} for name, value in APP_ROLE.items()],
        ids=",".join,
    )
    def test_is_exactly_one(self, given: dict[str, str]) -> None:
        with pytest.raises(SettingsError, match=r"either .*_ROLE_ID and .*_SECRET_ID, or .*_KUBERNETES_ROLE") as caught:
            from_env(Settings, PREFIX, {**NEITHER, **given})
        assert "canary" not in str(caught.value)
