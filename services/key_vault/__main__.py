"""Starts the key vault: `python -m services.key_vault`."""

from __future__ import annotations

from functools import partial

from realmultillm.keyvault.v1.credential_service_pb2_grpc import add_CredentialServiceServicer_to_server
from realmultillm.keyvault.v1.data_key_service_pb2_grpc import add_DataKeyServiceServicer_to_server
from realmultillm.keyvault.v1.encryption_key_service_pb2_grpc import add_EncryptionKeyServiceServicer_to_server
from realmultillm.keyvault.v1.platform_config_service_pb2_grpc import add_PlatformConfigServiceServicer_to_server
from realmultillm.keyvault.v1.provider_config_service_pb2_grpc import add_ProviderConfigServiceServicer_to_server

from libs.audit import connect_audit
from libs.cache_metrics import CacheCollector
from libs.change_feed import ChangeFeed, listening
from libs.database import connect
from libs.metrics import process_metrics
from libs.outbox_metrics import OutboxCollector
from libs.provider_catalog import check_workers, load_catalog
from libs.provider_endpoints import EndpointRules
from libs.rpc.remote_tokens import connect_tokens
from libs.rpc.server import run, serve
from libs.rpc.tls import TlsIdentity
from libs.settings import from_env
from libs.telemetry import configure_logging
from services.key_vault.access_policy import ACCESS_POLICY
from services.key_vault.credential_changes import CredentialChanges
from services.key_vault.credential_servicer import CredentialServicer
from services.key_vault.credentials import Credentials
from services.key_vault.data_key_servicer import DataKeyServicer
from services.key_vault.encryption_key_servicer import EncryptionKeyServicer
from services.key_vault.key_trials import connect_key_trials
from services.key_vault.platform_config_servicer import PlatformConfigServicer
from services.key_vault.platform_configs import PlatformConfigs
from services.key_vault.provider_config_servicer import ProviderConfigServicer
from services.key_vault.provider_configs import ProviderConfigs
from services.key_vault.rewrapping import Rewrapping
from services.key_vault.rotations import Rotations
from services.key_vault.settings import PREFIX, Settings


async def main() -> None:
    """Wires the service and serves until told to stop."""
    settings = from_env(Settings, PREFIX)
    configure_logging("key-vault", level=settings.rpc.log_level, log_format=settings.rpc.log_format)
    catalog = load_catalog(settings.catalog)
    check_workers(f"{PREFIX}_WORKERS", settings.workers, catalog)
    endpoint_rules = EndpointRules(settings.private_endpoints)
    tls = TlsIdentity.load(settings.rpc.tls_dir)
    async with (
        connect(settings.database.database_url) as transactions,
        listening(ChangeFeed("key_vault"), settings.database.database_url) as feed,
        settings.connect_transit() as transit,
        connect_key_trials(settings.workers, tls) as trials,
        connect_tokens(settings.auth_address, tls) as tokens,
        connect_audit(settings.auth_address, tls, settings.data_dir / "audit") as audit,
    ):
        changes = CredentialChanges(feed)
        configs = ProviderConfigs(transactions, changes, transit, trials, audit)
        platform = PlatformConfigs(transactions, changes, transit, trials, audit)
        credentials = Credentials(transactions, transit, audit)
        rewrapping = Rewrapping(transactions, transit, audit, rows_per_second=settings.rewrap_rows_per_second)
        rotations = Rotations(transactions, transit, audit, rewrapping.wake)
        metrics = process_metrics()
        metrics.register(OutboxCollector(audit=audit.outbox))
        metrics.register(transactions.metrics)
        metrics.register(transit.metrics)
        metrics.register(CacheCollector(principals=tokens.cache))
        async with rewrapping.going_on():
            await serve(
                settings.rpc,
                tls=tls,
                registrations=[
                    partial(add_ProviderConfigServiceServicer_to_server, ProviderConfigServicer(configs, catalog)),
                    partial(
                        add_PlatformConfigServiceServicer_to_server,
                        PlatformConfigServicer(platform, catalog, endpoint_rules),
                    ),
                    partial(add_CredentialServiceServicer_to_server, CredentialServicer(credentials, changes, catalog)),
                    partial(add_EncryptionKeyServiceServicer_to_server, EncryptionKeyServicer(rotations)),
                    partial(add_DataKeyServiceServicer_to_server, DataKeyServicer(transit)),
                ],
                policy=ACCESS_POLICY,
                tokens=tokens,
                audit=audit,
                probes={"database": transactions.ping, "vault": transit.ping},
                metrics=metrics,
            )


if __name__ == "__main__":
    run(main(), holds_keys=True)
