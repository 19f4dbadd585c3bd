"""Errors in the form of OpenAI's API: `{"error": {"message", "type", "param", "code"}}`.

Types and codes are OpenAI's where it has one for the case, for its SDKs and what is built on them branch on some of
them; else the code is the reason in lower case. `reason` is this platform's own, unchanged.
https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import json
import re

from google.rpc import code_pb2, error_details_pb2, status_pb2

from libs.header_texts import shortened
from libs.rpc.status import unpack_details

_INVALID, _SERVER, _RATE = "invalid_request_error", "server_error", "rate_limit_error"
_TYPES: dict[int, str] = {
    code_pb2.UNAUTHENTICATED: "authentication_error",
    code_pb2.PERMISSION_DENIED: "permission_error",
    code_pb2.RESOURCE_EXHAUSTED: _RATE,
    code_pb2.INTERNAL: _SERVER,
    code_pb2.UNAVAILABLE: _SERVER,
    code_pb2.DEADLINE_EXCEEDED: _SERVER,
    code_pb2.UNKNOWN: _SERVER,
}
# Of failures in the middle of an answer, which come without a status.
_TYPES_OF_REASONS = {
    "PROVIDER_QUOTA_EXHAUSTED": "insufficient_quota",
    "RATE_LIMIT_EXCEEDED": _RATE,
    "PROVIDER_RATE_LIMITED": _RATE,
    "PROVIDER_REJECTED_REQUEST": _INVALID,
    "CONTEXT_LENGTH_EXCEEDED": _INVALID,
    "INVALID_ARGUMENT": _INVALID,
}
_CODES = {
    "UNAUTHENTICATED": "invalid_api_key",
    "PROVIDER_RATE_LIMITED": "rate_limit_exceeded",
    "PROVIDER_QUOTA_EXHAUSTED": "insufficient_quota",
    "INVALID_ARGUMENT": "invalid_value",
}
# What is about one field of the request though nobody has looked at it.
_PARAMS = {"MODEL_NOT_FOUND": "model", "MODEL_NOT_ALLOWED": "model", "PROVIDER_NOT_FOUND": "model"}

# The body travels in a header beside the status, which takes most of the 8 KiB that gRPC allows for all of them. In
# characters as they are written, where one that is not ASCII takes six.
_LONGEST_MESSAGE = 1_000

_CAMEL = re.compile(r"(?<=[a-z0-9])[A-Z]")
_WITHIN_FUNCTION = re.compile(
    r"((?:^|\.)(?:tools|tool_calls)\[\d+\])\.(?=(?:name|description|parameters|strict|arguments)\b)"
)
_OWN_NAMES = {
    "max_tokens": "max_completion_tokens",
    "response_format.json_schema": "response_format.json_schema.schema",
    "response_format.name": "response_format.json_schema.name",
    "response_format.strict": "response_format.json_schema.strict",
}


def error_body(status: status_pb2.Status) -> bytes:
    """Returns the body that says what a status does, in ASCII and short enough for a header."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    unpack_details(status, info, bad)
    violations = [(field_name(each.field), each.description.replace("options.", "")) for each in bad.field_violations]
    text = " ".join(f"{field}: {description}" for field, description in violations) or status.message
    param = next((field for field, _ in violations if field != "body"), None)
    return _body(text, _type(info.reason, status.code), param, info.reason)


def in_band_error(reason: str, message: str) -> bytes:
    """Returns the body that says why an answer broke off; `reason` is the name of an ErrorReason."""
    return _body(message, _type(reason, code_pb2.INTERNAL), None, reason)


def field_name(path: str) -> str:
    """Returns what OpenAI calls the field that has this path in a request of `ChatService`; its own names as they are.

    `options.tools[0].name` is `tools[0].function.name`, and `messages[1].parts[0].imageUrl.url` is
    `messages[1].content[0].image_url.url`.
    """
    name = _CAMEL.sub(lambda capital: f"_{capital[0].lower()}", path.removeprefix("options."))
    name = _WITHIN_FUNCTION.sub(r"\1.function.", name)
    if path.startswith("messages["):
        return name.replace(".parts", ".content", 1)
    return _OWN_NAMES.get(name, name) if path != name else name


def _type(reason: str, code: int) -> str:
    return _TYPES_OF_REASONS.get(reason) or _TYPES.get(code, _INVALID)


def _body(message: str, kind: str, param: str | None, reason: str) -> bytes:
    error = {
        "message": shortened(message, _LONGEST_MESSAGE),
        "type": kind,
        "param": param or _PARAMS.get(reason),
        "code": _CODES.get(reason, reason.lower()) or None,
        "reason": reason,
    }
    return json.dumps({"error": error}, separators=(",", ":")).encode()
