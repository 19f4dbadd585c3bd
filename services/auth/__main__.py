"""Auth: accounts, sessions, and whom a token speaks for."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from realmultillm.auth.v1.api_token_service_pb2_grpc import add_ApiTokenServiceServicer_to_server
from realmultillm.auth.v1.audit_log_service_pb2_grpc import (
    add_AuditIngestServiceServicer_to_server,
    add_AuditLogServiceServicer_to_server,
)
from realmultillm.auth.v1.auth_service_pb2_grpc import add_AuthServiceServicer_to_server
from realmultillm.auth.v1.token_service_pb2_grpc import add_TokenServiceServicer_to_server
from realmultillm.auth.v1.user_admin_service_pb2_grpc import add_UserAdminServiceServicer_to_server

from libs.audit import audit_trail
from libs.change_feed import ChangeFeed, listening
from libs.database import connect
from libs.metrics import process_metrics
from libs.outbox_metrics import OutboxCollector
from libs.rpc.server import run, serve
from libs.rpc.tls import TlsIdentity
from libs.settings import from_env
from libs.telemetry import configure_logging
from services.auth.access_policy import ACCESS_POLICY
from services.auth.accounts import Accounts
from services.auth.administrators import Administrators
from services.auth.api_token_servicer import ApiTokenServicer
from services.auth.api_tokens import ApiTokens
from services.auth.audit_head import noting_head
from services.auth.audit_log import AuditLog
from services.auth.audit_log_servicer import AuditIngestServicer, AuditLogServicer
from services.auth.expiry import removing_ended
from services.auth.first_administrator import FirstAdministrator, making_first
from services.auth.last_uses import recording_uses
from services.auth.password_hashing import hashing_in
from services.auth.revocations import CHANNEL, Revocations
from services.auth.servicer import AuthServicer, TokenServicer
from services.auth.sessions import Lifetimes, Sessions
from services.auth.settings import PREFIX, Settings
from services.auth.token_verification import TokenVerification
from services.auth.user_admin_servicer import UserAdminServicer
from services.auth.user_administration import UserAdministration


async def main() -> None:
    """Runs the service until it is told to stop."""
    settings = from_env(Settings, PREFIX)
    configure_logging("auth", level=settings.rpc.log_level, log_format=settings.rpc.log_format)
    url = settings.database.database_url
    lifetimes = Lifetimes(timedelta(hours=settings.session_hours), timedelta(hours=settings.session_idle_hours))
    async with (
        connect(url) as transactions,
        listening(ChangeFeed(CHANNEL), url) as feed,
        noting_head(AuditLog(transactions)) as audit,
        audit_trail(settings.data_dir / "audit", audit.store_own) as trail,
        hashing_in(settings.hashing_threads) as hashing,
        removing_ended(transactions, lifetimes.idle),
        recording_uses(transactions) as last_uses,
    ):
        revocations = Revocations(feed)
        sessions = Sessions(transactions, revocations, audit, lifetimes)
        api_tokens = ApiTokens(transactions, revocations, audit)
        verification = TokenVerification(transactions, last_uses, lifetimes)
        first_administrator = FirstAdministrator(
            Administrators(transactions, hashing, revocations, audit), settings.admin_email, settings.admin_password
        )
        accounts = Accounts(transactions, sessions, hashing, audit, trail, first_administrator)
        users = UserAdministration(transactions, sessions, revocations, audit)
        metrics = process_metrics()
        metrics.register(transactions.metrics)
        metrics.register(OutboxCollector(audit=trail.outbox))
        async with making_first(first_administrator), verification.following(revocations):
            await serve(
                settings.rpc,
                tls=TlsIdentity.load(settings.rpc.tls_dir),
                registrations=[
                    partial(add_AuthServiceServicer_to_server, AuthServicer(accounts, sessions, api_tokens)),
                    partial(add_ApiTokenServiceServicer_to_server, ApiTokenServicer(api_tokens)),
                    partial(add_UserAdminServiceServicer_to_server, UserAdminServicer(users)),
                    partial(add_TokenServiceServicer_to_server, TokenServicer(verification, revocations)),
                    partial(add_AuditLogServiceServicer_to_server, AuditLogServicer(audit)),
                    partial(add_AuditIngestServiceServicer_to_server, AuditIngestServicer(audit)),
                ],
                policy=ACCESS_POLICY,
                tokens=verification,
                audit=trail,
                probes={"database": transactions.ping},
                metrics=metrics,
            )


if __name__ == "__main__":
    run(main())
