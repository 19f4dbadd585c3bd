"""Carries a PlatformError over the wire as `google.rpc.Status` with exactly one ErrorInfo, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from libs import errors

DOMAIN = "realmultillm"

# A status travels in headers, of which gRPC takes 8 KiB. The message is in there twice, once with three characters for
# each byte that is not ASCII, and again in the violations. In bytes; about fifteen violations.
_LONGEST_TEXT = 1_200

CODES: dict[type[errors.PlatformError], int] = {
    errors.InvalidRequest: code_pb2.INVALID_ARGUMENT,
    errors.Unauthenticated: code_pb2.UNAUTHENTICATED,
    errors.PermissionDenied: code_pb2.PERMISSION_DENIED,
    errors.NotFound: code_pb2.NOT_FOUND,
    errors.AlreadyExists: code_pb2.ALREADY_EXISTS,
    errors.FailedPrecondition: code_pb2.FAILED_PRECONDITION,
    errors.LimitExceeded: code_pb2.RESOURCE_EXHAUSTED,
    errors.Unavailable: code_pb2.UNAVAILABLE,
    errors.DeadlineExceeded: code_pb2.DEADLINE_EXCEEDED,
    errors.ProviderKeyRejected: code_pb2.FAILED_PRECONDITION,
    errors.ProviderPermissionDenied: code_pb2.FAILED_PRECONDITION,
    errors.ProviderRateLimited: code_pb2.RESOURCE_EXHAUSTED,
    errors.ProviderQuotaExhausted: code_pb2.RESOURCE_EXHAUSTED,
    errors.ModelNotFound: code_pb2.NOT_FOUND,
    errors.ProviderRejectedRequest: code_pb2.INVALID_ARGUMENT,
    errors.ContextLengthExceeded: code_pb2.INVALID_ARGUMENT,
    errors.ProviderTimeout: code_pb2.DEADLINE_EXCEEDED,
    errors.ProviderUnavailable: code_pb2.UNAVAILABLE,
    errors.IncompleteResponse: code_pb2.UNAVAILABLE,
}

# What a foreign status without our ErrorInfo means to us. Anything else of another service is a bug.
_FROM_CODE: dict[grpc.StatusCode, type[errors.PlatformError]] = {
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.LimitExceeded,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
}
_PROVIDER_REASONS: dict[str, type[errors.ProviderError]] = {
    error.default_reason: error for error in CODES if issubclass(error, errors.ProviderError)
}


def to_status(error: errors.PlatformError) -> status_pb2.Status:
    """Builds the status a PlatformError travels as."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    details = [info]
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_after * 1000))
        details.append(retry)
    if isinstance(error, errors.InvalidRequest):
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
                    for v in _fitting(error.violations)
                ]
            )
        )
    status = status_pb2.Status(code=CODES[type(error)], message=_shortened(error.message))
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _shortened(message: str) -> str:
    text = message.encode()
    return message if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT].decode(errors="ignore") + "…"


def _fitting(violations: Iterable[errors.Violation]) -> Iterator[errors.Violation]:
    size = 0
    for violation in violations:
        size += len(violation.field.encode()) + len(violation.description.encode())
        if size > _LONGEST_TEXT:
            return
        yield violation


def internal_status(request_id: str) -> status_pb2.Status:
    """Builds the status of a bug: it says nothing but which log lines to look at."""
    status = status_pb2.Status(
        code=code_pb2.INTERNAL,
        message=f"Something went wrong on our side; report it with the request id {request_id}.",
    )
    packed = Any()
    packed.Pack(error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"requestId": request_id}))
    status.details.append(packed)
    return status


def retry_after_seconds(error: errors.PlatformError) -> str:
    """Returns the value of the `retry-after` header: whole seconds, rounded up, at least one."""
    return str(max(1, math.ceil(error.retry_after or 0)))


def unpack_details(status: status_pb2.Status, *messages: Message) -> None:
    """Fills each of the messages with the detail of its type, if the status has one."""
    for detail in status.details:
        for message in messages:
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)


def from_rpc_error(error: grpc.aio.AioRpcError, *, service: str) -> errors.PlatformError:
    """Turns the failure of a call to another service of ours back into the error it was raised as.

    A status that no service of ours gives becomes Unavailable (`service` names who failed): the caller can do
    nothing else about it.
    """
    try:
        rich = rpc_status.from_call(error)
    except (DecodeError, ValueError):  # details that are none, or contradict the status: nobody of ours sent them
        rich = None
    info, retry, bad = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    if rich is not None:
        unpack_details(rich, info, retry, bad)
    retry_after = retry.retry_delay.ToMilliseconds() / 1000 if retry.HasField("retry_delay") else None
    if info.domain == DOMAIN and info.reason in _PROVIDER_REASONS:
        return _PROVIDER_REASONS[info.reason](
            error.details() or "", provider=info.metadata.get("provider", ""), retry_after=retry_after
        )
    if bad.field_violations:
        return errors.InvalidRequest(
            [errors.Violation(v.field, v.description) for v in bad.field_violations], reason=info.reason
        )
    kind = _FROM_CODE.get(error.code())
    if info.domain == DOMAIN and kind is not None:
        known = kind(error.details() or "", reason=info.reason, retry_after=retry_after)
        known.metadata.update(info.metadata)
        return known
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded(f"The {service} service did not answer in time; try again.", service=service)
    return errors.Unavailable(
        f"The {service} service is not available; try again in a moment.", retry_after=2, service=service
    )
