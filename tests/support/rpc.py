"""Servers and channels of the platform inside a test: the real bootstrap, mTLS with real certificates, no processes."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from prometheus_client import CollectorRegistry

from deploy.local.pki import issue
from libs import tokens
from libs.audit import AuditTrail
from libs.ratelimit import limits_of
from libs.redaction import Secret
from libs.rpc.access_policy import SESSION_SCOPES, AccessPolicy
from libs.rpc.identity import Principal, invalid_token
from libs.rpc.interceptors.authentication import TokenVerifier
from libs.rpc.live_calls import LiveCalls
from libs.rpc.server import Probe, Registration, serving
from libs.rpc.settings import RpcSettings
from libs.rpc.tls import TlsIdentity

_NAMES = ("auth", "key-vault", "provider-router", "analytics", "envoy", "operator", "vault")
_FAR_FUTURE = 4_102_444_800.0

Identities = Callable[[str], TlsIdentity]
M = TypeVar("M", bound=Message)


@pytest.fixture(scope="session")
def pki_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one certificate folder per service, all of one authority; workers are issued theirs when asked."""
    folder = tmp_path_factory.mktemp("pki")
    issue(folder, _NAMES)
    return folder


@pytest.fixture(scope="session")
def identity(pki_folder: Path) -> Identities:
    """Gives the certificate of a service by its name."""

    def issued(name: str) -> TlsIdentity:
        issue(pki_folder, [name])
        return TlsIdentity.load(pki_folder / name)

    return issued


class KnownTokens:
    """A TokenVerifier over the tokens it has issued itself."""

    def __init__(self) -> None:
        self.live_calls = LiveCalls()
        self._principals: dict[str, Principal] = {}

    def issue(
        self,
        user_id: str,
        role: str = "user",
        scopes: Collection[str] = SESSION_SCOPES,
        *,
        expire_time: float = _FAR_FUTURE,
    ) -> Secret:
        """Makes a token that speaks for a person; that of a session, or an API token of these scopes."""
        token = tokens.mint(tokens.SESSION_PREFIX)
        self._principals[token.reveal()] = Principal(
            user_id, role, f"token-of-{user_id}", expire_time, frozenset(scopes)
        )
        return token

    def revoke(self, token: Secret) -> None:
        """Makes a token invalid, and ends the calls that are made with it."""
        del self._principals[token.reveal()]
        authorization = f"Bearer {token.reveal()}"
        for call in self.live_calls:
            if call.authorization == authorization:
                call.end(invalid_token())

    def remembered(self, _token: str) -> Principal | None:
        """Returns None: every token is verified."""
        return None

    async def verify(self, token: str) -> Principal:
        """Returns the principal of a token issued here. Raises Unauthenticated for any other."""
        try:
            return self._principals[token]
        except KeyError:
            raise invalid_token() from None


def bearer(token: Secret) -> tuple[tuple[str, str], ...]:
    """Returns the metadata of a call made for the person a token speaks for."""
    return (("authorization", f"Bearer {token.reveal()}"),)


@asynccontextmanager
async def running(
    tls: TlsIdentity,
    *registrations: Registration,
    policy: AccessPolicy,
    tokens: TokenVerifier | None = None,
    probes: Mapping[str, Probe] | None = None,
    port: int = 0,
    drain_seconds: float = 0.0,
    rate_limits: Mapping[str, str] | None = None,
    redis_url: Secret | None = None,
    allowed_origins: tuple[str, ...] = (),
    audit: AuditTrail | None = None,
    metrics: CollectorRegistry | None = None,
    otlp_endpoint: str | None = None,
) -> AsyncIterator[str]:
    """Serves as the service whose certificate is given, and yields its address. A port of 0 chooses a free one.

    Without `rate_limits` nobody reaches a limit; empty ones are those of the policy.
    """
    settings = RpcSettings(
        listen=f"127.0.0.1:{port}",
        tls_dir=Path("unused"),
        leave_seconds=min(0.2, drain_seconds),
        drain_seconds=drain_seconds,
        rate_limits=_out_of_reach(policy) if rate_limits is None else dict(rate_limits),
        redis_url=redis_url,
        allowed_origins=allowed_origins,
        otlp_endpoint=otlp_endpoint,
    )
    async with serving(
        settings,
        tls=tls,
        registrations=registrations,
        policy=policy,
        tokens=tokens or KnownTokens(),
        audit=audit,
        probes=probes,
        metrics=metrics,
    ) as bound:
        yield f"127.0.0.1:{bound}"


def _out_of_reach(policy: AccessPolicy) -> dict[str, str]:
    return {method.rpartition("/")[2]: "1000000/minute" for method in limits_of(policy, {})}


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """Returns the one ErrorInfo every failure must carry."""
    (info,) = details(error, error_details_pb2.ErrorInfo)
    return info


def violations(error: grpc.aio.AioRpcError) -> Sequence[str]:
    """Returns the fields an invalid request was refused for."""
    (bad,) = details(error, error_details_pb2.BadRequest)
    return [violation.field for violation in bad.field_violations]


def details(error: grpc.aio.AioRpcError, kind: type[M]) -> list[M]:
    """Returns the details of one type in the status of a failed call."""
    status = rpc_status.from_call(error)
    assert status is not None, f"{error.code()} without details: {error.details()}"
    found = []
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            found.append(kind())
            packed.Unpack(found[-1])
    return found
