"""Starts the key vault: `python -m services.key_vault`."""

from __future__ import annotations

from functools import partial

from realmultillm.keyvault.v1.credential_service_pb2_grpc import add_CredentialServiceServicer_to_server
from realmultillm.keyvault.v1.provider_config_service_pb2_grpc import add_ProviderConfigServiceServicer_to_server

from libs.audit import connect_audit
from libs.change_feed import ChangeFeed, listening
from libs.database import connect
from libs.provider_catalog import check_workers, load_catalog
from libs.rpc.remote_tokens import connect_tokens
from libs.rpc.server import run, serve
from libs.rpc.tls import TlsIdentity
from libs.settings import from_env
from libs.telemetry import configure_logging
from services.key_vault.access_policy import ACCESS_POLICY
from services.key_vault.key_trials import connect_key_trials
from services.key_vault.provider_configs import ProviderConfigs
from services.key_vault.servicer import CredentialServicer, ProviderConfigServicer
from services.key_vault.settings import PREFIX, Settings
from services.key_vault.transit import connect_transit


async def main() -> None:
    """Wires the service and serves until told to stop."""
    settings = from_env(Settings, PREFIX)
    configure_logging("key-vault", level=settings.rpc.log_level, log_format=settings.rpc.log_format)
    catalog = load_catalog(settings.catalog)
    check_workers(f"{PREFIX}_WORKERS", settings.workers, catalog)
    tls = TlsIdentity.load(settings.rpc.tls_dir)
    async with (
        connect(settings.database.database_url) as transactions,
        listening(ChangeFeed("key_vault"), settings.database.database_url) as feed,
        connect_transit(
            settings.vault_address,
            authority=settings.vault_ca,
            role_id=settings.vault_role_id,
            secret_id=settings.vault_secret_id,
        ) as transit,
        connect_key_trials(settings.workers, tls) as trials,
        connect_tokens(settings.auth_address, tls) as tokens,
        connect_audit(settings.auth_address, tls, settings.data_dir / "audit") as audit,
    ):
        configs = ProviderConfigs(transactions, feed, transit, trials, audit)
        await serve(
            settings.rpc,
            tls=tls,
            registrations=[
                partial(add_ProviderConfigServiceServicer_to_server, ProviderConfigServicer(configs, catalog)),
                partial(add_CredentialServiceServicer_to_server, CredentialServicer(configs, catalog)),
            ],
            policy=ACCESS_POLICY,
            tokens=tokens,
            audit=audit,
            probes={"database": transactions.ping, "vault": transit.ping},
        )


if __name__ == "__main__":
    run(main())
