"""What Envoy answers by itself, in the words and the form the services use for their own errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.any_pb2 import Any as Detail
from google.rpc import code_pb2, error_details_pb2, status_pb2

from libs.anthropic_api import errors as anthropic_errors
from libs.openai_api import errors as openai_errors
from libs.rpc.status import DOMAIN

MAX_BODY_MIB = 32
MAX_HEADERS_KIB = 32

# Bodies of these paths hold passwords and keys.
_CONFIDENTIAL = r"/api/(auth|provider-config)/.*"


@dataclass(frozen=True, slots=True)
class LocalReply:
    """One error, and which replies of Envoy become it: those with a status in the range, both ends included.

    Where given, the reply must also have one of the `flags`, the request an `original_path` (before transcoding) that
    matches, and a `request_id`. `%LOCAL_REPLY_BODY%` in the message is what Envoy itself would have said. `retry_after`
    is in seconds. `grpc_code` is for gRPC clients, where it is not `code`.
    """

    statuses: tuple[int, int]
    code: int
    reason: str
    message: str
    flags: tuple[str, ...] = ()
    original_path: str = ""
    request_id: bool = False
    retry_after: int | None = None
    grpc_code: int | None = None

    def forms(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Lists the bodies of the reply, each with the pattern of the paths it is for; the last is for the rest."""
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN)
        detail = Detail()
        detail.Pack(info)
        status = status_pb2.Status(code=self.code, message=self.message, details=[detail])
        own = {
            "code": self.code,
            "message": self.message,
            "details": [{"@type": detail.type_url, "reason": self.reason, "domain": DOMAIN}],
        }
        return [*((path, json.loads(error_body(status))) for path, error_body in _DIALECTS), ("", own)]


# Where people call in the words of another API.
_DIALECTS: tuple[tuple[str, Callable[[status_pb2.Status], bytes]], ...] = (
    (r"(/[^/?]+)?/v1/messages([/?].*)?", anthropic_errors.error_body),
    (r"(/[^/?]+)?/v1/.*", openai_errors.error_body),
)

# The first that fits counts.
LOCAL_REPLIES = (
    # The transcoder quotes what it cannot read, so it must not speak where that may be a secret.
    LocalReply(
        (400, 400),
        code_pb2.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "The request is not valid JSON, or one of its fields has the wrong type; correct it and send it again.",
        original_path=_CONFIDENTIAL,
    ),
    LocalReply(
        (400, 400),
        code_pb2.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "The request is not valid JSON, or one of its fields has the wrong type; correct it: %LOCAL_REPLY_BODY%",
        original_path=".*",
    ),
    # Without a request id the request was refused before anything read its path.
    LocalReply(
        (400, 400),
        code_pb2.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "The path or its query parameters are not those of a method; correct them: %LOCAL_REPLY_BODY%",
        request_id=True,
    ),
    LocalReply(
        (400, 400),
        code_pb2.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "The request is not valid HTTP, or its path holds escaped slashes; correct it and send it again.",
    ),
    LocalReply(
        (404, 404),
        code_pb2.NOT_FOUND,
        "NOT_FOUND",
        "There is nothing at this path for this HTTP method; see the API reference for what there is.",
        grpc_code=code_pb2.UNIMPLEMENTED,
    ),
    LocalReply(
        (408, 408),
        code_pb2.DEADLINE_EXCEEDED,
        "DEADLINE_EXCEEDED",
        "The request took too long to arrive; make it smaller, or send it over a faster connection.",
    ),
    LocalReply(
        (413, 413),
        code_pb2.INVALID_ARGUMENT,
        "REQUEST_TOO_LARGE",
        f"The request body is larger than {MAX_BODY_MIB} MiB; send less, for example smaller images.",
    ),
    # The next two are given by our own routes for them.
    LocalReply(
        (415, 415),
        code_pb2.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "gRPC messages are taken as they are, not compressed; send them again without compression.",
        grpc_code=code_pb2.UNIMPLEMENTED,
    ),
    LocalReply(
        (422, 422),
        code_pb2.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "The grpc-timeout header holds no time, like 5S; correct it and send the request again.",
    ),
    LocalReply(
        (429, 429),
        code_pb2.RESOURCE_EXHAUSTED,
        "RATE_LIMIT_EXCEEDED",
        "More requests come from your address than are taken from one; send fewer, and go on in a second.",
        retry_after=1,
    ),
    LocalReply(
        (431, 431),
        code_pb2.INVALID_ARGUMENT,
        "REQUEST_TOO_LARGE",
        f"The request headers are larger than {MAX_HEADERS_KIB} KiB or too many; send less of them.",
    ),
    LocalReply(
        (400, 499),
        code_pb2.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "The request cannot be served as it is; correct it and send it again.",
    ),
    LocalReply(
        (503, 503),
        code_pb2.UNAVAILABLE,
        "SERVICE_OVERLOADED",
        "As many requests are under way as can be served; try again in a moment.",
        flags=("UO", "OM"),
        retry_after=1,
    ),
    LocalReply(
        (502, 503),
        code_pb2.UNAVAILABLE,
        "SERVICE_UNAVAILABLE",
        "The service that answers this is not available; try again in a moment.",
        retry_after=2,
    ),
    LocalReply(
        (504, 504),
        code_pb2.DEADLINE_EXCEEDED,
        "DEADLINE_EXCEEDED",
        "The service did not answer in time; try again.",
    ),
    LocalReply(
        (500, 599),
        code_pb2.INTERNAL,
        "INTERNAL",
        "Something went wrong on our side; report it with the request id in the x-request-id header.",
    ),
)
