"""What an error says to REST callers of the APIs that are in another's words.

Envoy would write every error in the platform's own form. For these methods it takes the body from a header instead
(deploy/envoy/error_bodies.lua), which no caller sees.
"""

from __future__ import annotations

from collections.abc import Callable

from google.rpc import error_details_pb2, status_pb2

from libs.anthropic_api import errors as anthropic_errors
from libs.openai_api import errors as openai_errors
from libs.rpc.identity import FRONT_DOOR, Call
from libs.rpc.status import unpack_details

_OPENAI = "/realmultillm.openai.v1."
_ANTHROPIC = "/realmultillm.anthropic.v1."

# Set by Envoy alone, on the calls that it has made from REST.
_FROM_REST = "x-envoy-original-path"
# Sent by the SDKs of Anthropic with everything, and by no other.
_SPEAKS_ANTHROPIC = "anthropic-version"

# A client that tries again by itself would wait in vain, or pay once more for what takes too long.
_NOT_WORTH_RETRYING = frozenset({"PROVIDER_QUOTA_EXHAUSTED", "DEADLINE_EXCEEDED"})
# How long at most the SDKs wait before they try again, in seconds; past it some try at once.
_LONGEST_WAIT = 60


def error_headers(call: Call, status: status_pb2.Status) -> tuple[tuple[str, str], ...]:
    """Returns what goes with the error of a call: nothing but to REST callers of APIs in another's words.

    `x-should-retry` tells the SDKs, which try again by themselves whatever is 429 or above 500, when not to.
    """
    if call.peer != FRONT_DOOR or not call.method.startswith((_OPENAI, _ANTHROPIC)):
        return ()
    said = {name for name, _ in call.context.invocation_metadata()}
    if _FROM_REST not in said:
        return ()
    error_body: Callable[[status_pb2.Status], bytes] = openai_errors.error_body
    if call.method.startswith(_ANTHROPIC) or _SPEAKS_ANTHROPIC in said:
        error_body = anthropic_errors.error_body
    # JSON leaves this one character as it is, and gRPC has none such in headers.
    body = ("x-error-body", error_body(status).decode("ascii").replace("\x7f", "\\u007f"))
    return (body,) if _worth_retrying(status) else (body, ("x-should-retry", "false"))


def relayed_error_headers(call: Call, details: bytes) -> tuple[tuple[str, str], ...]:
    """Returns the same for an error of another service that ends the call; `details` is its status as it came."""
    return error_headers(call, status_pb2.Status.FromString(details))


def _worth_retrying(status: status_pb2.Status) -> bool:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    unpack_details(status, info, retry)
    return info.reason not in _NOT_WORTH_RETRYING and retry.retry_delay.ToSeconds() <= _LONGEST_WAIT
