"""Errors in the form of Anthropic's API: `{"type": "error", "error": {"type", "message", "details"}}`.

`type` is Anthropic's own word, on which its SDKs and what is built on them branch. `details.error_code` is the reason
of this platform in lower case, which the SDKs show as `error_code`. https://platform.claude.com/docs/en/api/errors
"""

from __future__ import annotations

import json
import re

from google.rpc import code_pb2, error_details_pb2, status_pb2

from libs.header_texts import shortened
from libs.rpc.status import unpack_details

_INVALID, _RATE, _API, _OVERLOADED = "invalid_request_error", "rate_limit_error", "api_error", "overloaded_error"
# What is not here is the fault of the platform or of a provider.
_TYPES: dict[int, str] = {
    code_pb2.INVALID_ARGUMENT: _INVALID,
    code_pb2.FAILED_PRECONDITION: _INVALID,
    code_pb2.UNIMPLEMENTED: _INVALID,
    code_pb2.UNAUTHENTICATED: "authentication_error",
    code_pb2.PERMISSION_DENIED: "permission_error",
    code_pb2.NOT_FOUND: "not_found_error",
    code_pb2.RESOURCE_EXHAUSTED: _RATE,
    code_pb2.UNAVAILABLE: _OVERLOADED,
    code_pb2.DEADLINE_EXCEEDED: "timeout_error",
}
# Failures in the middle of an answer come without a status.
_TYPES_OF_REASONS = {
    "REQUEST_TOO_LARGE": "request_too_large",
    "PROVIDER_QUOTA_EXHAUSTED": "billing_error",
    "INCOMPLETE_RESPONSE": _API,
    "PROVIDER_RATE_LIMITED": _RATE,
    "RATE_LIMIT_EXCEEDED": _RATE,
    "PROVIDER_REJECTED_REQUEST": _INVALID,
    "CONTEXT_LENGTH_EXCEEDED": _INVALID,
    "INVALID_ARGUMENT": _INVALID,
    "CONNECTION_TIMEOUT": "timeout_error",
    "DEADLINE_EXCEEDED": "timeout_error",
    "PROVIDER_UNAVAILABLE": _OVERLOADED,
    "SERVICE_UNAVAILABLE": _OVERLOADED,
    "SERVICE_OVERLOADED": _OVERLOADED,
    "PLATFORM_UNAVAILABLE": _OVERLOADED,
}

# The body travels in a header beside the status, which takes most of the 8 KiB that gRPC allows for all of them. In
# characters as they are written, where one that is not ASCII takes six.
_LONGEST_MESSAGE = 1_000

_CAMEL = re.compile(r"(?<=[a-z0-9])[A-Z]")
# Turns and their pieces are divided otherwise in the hub, so its places are not the caller's.
_PLACE_IN_TURNS = re.compile(r"messages\[\d+\].*")
_OWN_NAMES = (
    ("response_format.json_schema", "output_config.format.schema"),
    ("response_format", "output_config.format"),
    ("reasoning_effort", "output_config.effort"),
    ("parallel_tool_calls", "tool_choice.disable_parallel_tool_use"),
    ("stop", "stop_sequences"),
)
_SCHEMA = re.compile(r"(tools\[\d+\])\.parameters")


def error_body(status: status_pb2.Status) -> bytes:
    """Returns the body that says what a status does, in ASCII and short enough for a header."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    unpack_details(status, info, bad)
    text = " ".join(
        f"{field_name(each.field)}: {each.description.replace('options.', '')}" for each in bad.field_violations
    )
    return _body(info.reason, text or status.message, status.code)


def in_band_error(reason: str, message: str) -> bytes:
    """Returns the body that says why an answer broke off; `reason` is the name of an ErrorReason."""
    return _body(reason, message, code_pb2.INTERNAL)


def field_name(path: str) -> str:
    """Returns what Anthropic calls the field of a request of `ChatService` with this path; its own names as they are.

    `options.tools[0].parameters` is `tools[0].input_schema`; of what is within the turns it is `messages` alone.
    """
    if _PLACE_IN_TURNS.fullmatch(path):
        return "messages"
    if not path.startswith("options."):
        return path
    name = _CAMEL.sub(lambda capital: f"_{capital[0].lower()}", path.removeprefix("options."))
    for theirs, own in _OWN_NAMES:
        if name == theirs or name.startswith(f"{theirs}."):
            return own + name.removeprefix(theirs)
    return _SCHEMA.sub(r"\1.input_schema", name)


def _body(reason: str, message: str, code: int) -> bytes:
    error: dict[str, object] = {
        "type": _TYPES_OF_REASONS.get(reason) or _TYPES.get(code, _API),
        "message": shortened(message, _LONGEST_MESSAGE),
    }
    if reason:
        error["details"] = {"error_code": reason.lower()}
    return json.dumps({"type": "error", "error": error}, separators=(",", ":")).encode()
