"""Opens channels to other services of the platform; the only place that does."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc

from libs.rpc.identity import current_call
from libs.rpc.renewed_channel import RenewedChannel
from libs.rpc.tls import TlsIdentity
from libs.rpc.traced_channel import TracedChannel

# Images travel inside messages: 32 MiB of request body and room for its envelope.
MAX_MESSAGE_BYTES = 40 * 1024 * 1024

# Methods that may be called twice without harm; only these are retried, and only on UNAVAILABLE.
_RETRIED = (
    {"service": "realmultillm.auth.v1.TokenService", "method": "VerifyToken"},
    {"service": "realmultillm.keyvault.v1.CredentialService", "method": "GetCredential"},
    {"service": "realmultillm.keyvault.v1.CredentialService", "method": "ListProviderStates"},
)

_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        # A backend that drains says NOT_SERVING and gets no further calls.
        "healthCheckConfig": {"serviceName": ""},
        "methodConfig": [
            {
                "name": list(_RETRIED),
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)

_OPTIONS = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A dead peer is noticed in half a minute, also while no call is open. The server permits this pace.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # After an outage: back within seconds, without a storm.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Replicas that were replaced have new addresses; by default their name is asked for twice a minute at most.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
)


def open_channel(address: str, service: str, tls: TlsIdentity) -> grpc.aio.Channel:
    """Opens a channel to `service` at host:port; the name is resolved to all replicas, which take turns.

    Where no name stands for all of them, the replicas themselves may be given, IPv4 addresses with spaces between. The
    peer must show a certificate for `service`, wherever it runs; ours is shown as it is when a connection begins.
    """
    replicas = address.split()
    if len(replicas) > 1:
        target = f"ipv4:///{','.join(replicas)}"
    else:
        target = address if "://" in address else f"dns:///{address}"
    options = (*_OPTIONS, ("grpc.ssl_target_name_override", service))

    def open_with(credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(target, credentials, options=options)

    return TracedChannel(RenewedChannel(tls, open_with))


def within(seconds: float) -> dict[str, Any]:
    """Returns the keyword arguments of an outgoing call: a deadline and, inside a served call, its request id.

    The deadline is `seconds`, or what the served call has left, less the time its own answer needs to get out.
    """
    try:
        call = current_call()
    except LookupError:
        return {"timeout": seconds}
    remaining = call.deadline - asyncio.get_running_loop().time() - 0.05
    return {"timeout": max(0.0, min(seconds, remaining)), "metadata": (("x-request-id", call.request_id),)}
