"""Settings of the key vault, variables `KEY_VAULT_…`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from libs.migration_command import DatabaseSettings
from libs.redaction import Secret
from libs.rpc.settings import RpcSettings
from libs.settings import SettingsError, setting

PREFIX = "KEY_VAULT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the service can be told."""

    rpc: RpcSettings
    database: DatabaseSettings
    auth_address: str = setting("Address of the auth service, host:port.")
    data_dir: Path = setting("Folder of this process alone, for events on their way to the audit log.")
    vault_address: str = setting("Address of Vault or OpenBao, https://host:port.")
    vault_ca: Path = setting("Certificate of the authority that issued Vault's.")
    vault_role_id: str = setting("Role id of the service's AppRole.")
    vault_secret_id: Secret = setting("Secret id of the service's AppRole.")
    workers: dict[str, str] = setting("Workers that try keys, provider=host:port,… Other keys are stored untried.")
    catalog: Path | None = setting("TOML file with the providers; the one of the platform by default.", default=None)

    def __post_init__(self) -> None:
        if not self.vault_address.startswith("https://"):
            raise SettingsError(f"{PREFIX}_VAULT_ADDRESS must start with https://, since keys travel on that way.")
