"""Auth: accounts, sessions, and whom a token speaks for."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from realmultillm.auth.v1.auth_service_pb2_grpc import add_AuthServiceServicer_to_server
from realmultillm.auth.v1.token_service_pb2_grpc import add_TokenServiceServicer_to_server

from libs.change_feed import ChangeFeed, listening
from libs.database import connect
from libs.rpc.server import run, serve
from libs.rpc.tls import TlsIdentity
from libs.settings import from_env
from libs.telemetry import configure_logging
from services.auth.access_policy import ACCESS_POLICY
from services.auth.accounts import Accounts
from services.auth.expiry import removing_ended
from services.auth.password_hashing import hashing_in
from services.auth.revocations import CHANNEL, Revocations
from services.auth.servicer import AuthServicer, TokenServicer
from services.auth.sessions import Sessions
from services.auth.settings import PREFIX, Settings


async def main() -> None:
    """Runs the service until it is told to stop."""
    settings = from_env(Settings, PREFIX)
    configure_logging("auth", level=settings.rpc.log_level, log_format=settings.rpc.log_format)
    url = settings.database.database_url
    async with (
        connect(url) as transactions,
        listening(ChangeFeed(CHANNEL), url) as feed,
        hashing_in(settings.hashing_threads) as hashing,
        removing_ended(transactions),
    ):
        revocations = Revocations(feed)
        sessions = Sessions(transactions, revocations, lifetime=timedelta(hours=settings.session_hours))
        accounts = Accounts(transactions, sessions, hashing)
        await serve(
            settings.rpc,
            tls=TlsIdentity.load(settings.rpc.tls_dir),
            registrations=[
                partial(add_AuthServiceServicer_to_server, AuthServicer(accounts, sessions)),
                partial(add_TokenServiceServicer_to_server, TokenServicer(sessions, revocations)),
            ],
            policy=ACCESS_POLICY,
            tokens=sessions,
            probes={"database": transactions.ping},
        )


if __name__ == "__main__":
    run(main())
