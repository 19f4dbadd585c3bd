"""Settings of the key vault, variables `KEY_VAULT_…`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from libs.migration_command import DatabaseSettings
from libs.redaction import Secret
from libs.rpc.settings import RpcSettings
from libs.settings import SettingsError, setting
from services.key_vault.transit import DEFAULT_MOUNT, Transit, connect_transit
from services.key_vault.vault_login import AppRole, Login, ServiceAccount

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
    vault_role_id: str | None = setting("Role id of the service's AppRole, for a login by AppRole.", default=None)
    vault_secret_id: Secret | None = setting("Secret id of that AppRole.", default=None)
    vault_kubernetes_role: str | None = setting(
        "Role for a login as the pod's service account, in place of an AppRole.", default=None
    )
    vault_kubernetes_token_path: Path = setting(
        "File with the token of that service account, read anew at each login.",
        default=Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
    )
    vault_auth_mount: str | None = setting(
        "Where the method of the login is mounted; approle or kubernetes by default.", default=None
    )
    vault_transit_mount: str = setting("Where the transit engine is mounted.", default=DEFAULT_MOUNT)
    vault_namespace: str | None = setting("Namespace of all of it, where there are any.", default=None)
    workers: dict[str, str] = setting("Workers that try keys, provider=host:port,… Other keys are stored untried.")
    private_endpoints: tuple[str, ...] = setting(
        "Host names, addresses and networks of providers' servers that need be neither public nor have https.",
        default=(),
    )
    rewrap_rows_per_second: int = setting(
        "How many stored keys a rotation seals anew a second; 0 is as fast as it goes.", at_least=0, default=500
    )
    catalog: Path | None = setting("TOML file with the providers; the one of the platform by default.", default=None)

    def __post_init__(self) -> None:
        if not self.vault_address.startswith("https://"):
            raise SettingsError(f"{PREFIX}_VAULT_ADDRESS must start with https://, since keys travel on that way.")
        by_app_role = self.vault_role_id is not None and self.vault_secret_id is not None
        halves = (self.vault_role_id is None) != (self.vault_secret_id is None)
        if halves or by_app_role == (self.vault_kubernetes_role is not None):
            raise SettingsError(
                f"Say how to log in to Vault: either {PREFIX}_VAULT_ROLE_ID and {PREFIX}_VAULT_SECRET_ID, "
                f"or {PREFIX}_VAULT_KUBERNETES_ROLE."
            )

    def vault_login(self) -> Login:
        """Returns how the service logs in to Vault."""
        if self.vault_role_id is not None and self.vault_secret_id is not None:
            return AppRole(self.vault_role_id, self.vault_secret_id, self.vault_auth_mount or "approle")
        return ServiceAccount(
            self.vault_kubernetes_role or "", self.vault_kubernetes_token_path, self.vault_auth_mount or "kubernetes"
        )

    def connect_transit(self) -> AbstractAsyncContextManager[Transit]:
        """Opens the transit engine these settings name."""
        return connect_transit(
            self.vault_address,
            authority=self.vault_ca,
            login=self.vault_login(),
            namespace=self.vault_namespace,
            mount=self.vault_transit_mount,
        )
