from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    INVALID_ARGUMENT: _ClassVar[ErrorReason]
    UNAUTHENTICATED: _ClassVar[ErrorReason]
    PERMISSION_DENIED: _ClassVar[ErrorReason]
    NOT_FOUND: _ClassVar[ErrorReason]
    RATE_LIMIT_EXCEEDED: _ClassVar[ErrorReason]
    SERVICE_UNAVAILABLE: _ClassVar[ErrorReason]
    SERVICE_OVERLOADED: _ClassVar[ErrorReason]
    DEADLINE_EXCEEDED: _ClassVar[ErrorReason]
    INTERNAL: _ClassVar[ErrorReason]
    PLATFORM_UNAVAILABLE: _ClassVar[ErrorReason]
    UNIMPLEMENTED: _ClassVar[ErrorReason]
    REQUEST_TOO_LARGE: _ClassVar[ErrorReason]
    INVALID_CREDENTIALS: _ClassVar[ErrorReason]
    EMAIL_ALREADY_EXISTS: _ClassVar[ErrorReason]
    TOO_MANY_ATTEMPTS: _ClassVar[ErrorReason]
    ACCOUNT_DISABLED: _ClassVar[ErrorReason]
    LAST_ADMIN: _ClassVar[ErrorReason]
    TOO_MANY_API_TOKENS: _ClassVar[ErrorReason]
    INSUFFICIENT_SCOPE: _ClassVar[ErrorReason]
    ORIGIN_NOT_ALLOWED: _ClassVar[ErrorReason]
    PROVIDER_NOT_FOUND: _ClassVar[ErrorReason]
    PROVIDER_NOT_CONFIGURED: _ClassVar[ErrorReason]
    PROVIDER_DISABLED: _ClassVar[ErrorReason]
    INVALID_API_KEY: _ClassVar[ErrorReason]
    PROVIDER_RATE_LIMITED: _ClassVar[ErrorReason]
    PROVIDER_QUOTA_EXHAUSTED: _ClassVar[ErrorReason]
    MODEL_NOT_FOUND: _ClassVar[ErrorReason]
    CONNECTION_TIMEOUT: _ClassVar[ErrorReason]
    PROVIDER_UNAVAILABLE: _ClassVar[ErrorReason]
    PROVIDER_REJECTED_REQUEST: _ClassVar[ErrorReason]
    CONTEXT_LENGTH_EXCEEDED: _ClassVar[ErrorReason]
    INCOMPLETE_RESPONSE: _ClassVar[ErrorReason]
    PROVIDER_PERMISSION_DENIED: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
INVALID_ARGUMENT: ErrorReason
UNAUTHENTICATED: ErrorReason
PERMISSION_DENIED: ErrorReason
NOT_FOUND: ErrorReason
RATE_LIMIT_EXCEEDED: ErrorReason
SERVICE_UNAVAILABLE: ErrorReason
SERVICE_OVERLOADED: ErrorReason
DEADLINE_EXCEEDED: ErrorReason
INTERNAL: ErrorReason
PLATFORM_UNAVAILABLE: ErrorReason
UNIMPLEMENTED: ErrorReason
REQUEST_TOO_LARGE: ErrorReason
INVALID_CREDENTIALS: ErrorReason
EMAIL_ALREADY_EXISTS: ErrorReason
TOO_MANY_ATTEMPTS: ErrorReason
ACCOUNT_DISABLED: ErrorReason
LAST_ADMIN: ErrorReason
TOO_MANY_API_TOKENS: ErrorReason
INSUFFICIENT_SCOPE: ErrorReason
ORIGIN_NOT_ALLOWED: ErrorReason
PROVIDER_NOT_FOUND: ErrorReason
PROVIDER_NOT_CONFIGURED: ErrorReason
PROVIDER_DISABLED: ErrorReason
INVALID_API_KEY: ErrorReason
PROVIDER_RATE_LIMITED: ErrorReason
PROVIDER_QUOTA_EXHAUSTED: ErrorReason
MODEL_NOT_FOUND: ErrorReason
CONNECTION_TIMEOUT: ErrorReason
PROVIDER_UNAVAILABLE: ErrorReason
PROVIDER_REJECTED_REQUEST: ErrorReason
CONTEXT_LENGTH_EXCEEDED: ErrorReason
INCOMPLETE_RESPONSE: ErrorReason
PROVIDER_PERMISSION_DENIED: ErrorReason
