import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UsageRecord(_message.Message):
    __slots__ = ("id", "user_id", "provider", "model_requested", "model_served", "end_state", "error_reason", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "estimated", "streamed", "start_time", "latency_ms", "time_to_first_token_ms", "attempts", "request_id", "conversation_id", "cache_write_tokens", "cache_write_1h_tokens", "tool_use_tokens", "reported_cost_picos", "service_tier", "kind", "cost_picos", "cost_source", "price", "content")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[UsageRecord.Kind]
        CHAT: _ClassVar[UsageRecord.Kind]
        EMBEDDINGS: _ClassVar[UsageRecord.Kind]
    KIND_UNSPECIFIED: UsageRecord.Kind
    CHAT: UsageRecord.Kind
    EMBEDDINGS: UsageRecord.Kind
    class CostSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        COST_SOURCE_UNSPECIFIED: _ClassVar[UsageRecord.CostSource]
        REPORTED: _ClassVar[UsageRecord.CostSource]
        PRICED: _ClassVar[UsageRecord.CostSource]
        UNPRICED: _ClassVar[UsageRecord.CostSource]
    COST_SOURCE_UNSPECIFIED: UsageRecord.CostSource
    REPORTED: UsageRecord.CostSource
    PRICED: UsageRecord.CostSource
    UNPRICED: UsageRecord.CostSource
    class EndState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        END_STATE_UNSPECIFIED: _ClassVar[UsageRecord.EndState]
        COMPLETED: _ClassVar[UsageRecord.EndState]
        PROVIDER_ERROR_BEFORE_OUTPUT: _ClassVar[UsageRecord.EndState]
        PROVIDER_ERROR_AFTER_OUTPUT: _ClassVar[UsageRecord.EndState]
        CANCELLED_BEFORE_OUTPUT: _ClassVar[UsageRecord.EndState]
        CANCELLED_AFTER_OUTPUT: _ClassVar[UsageRecord.EndState]
        TIMEOUT: _ClassVar[UsageRecord.EndState]
    END_STATE_UNSPECIFIED: UsageRecord.EndState
    COMPLETED: UsageRecord.EndState
    PROVIDER_ERROR_BEFORE_OUTPUT: UsageRecord.EndState
    PROVIDER_ERROR_AFTER_OUTPUT: UsageRecord.EndState
    CANCELLED_BEFORE_OUTPUT: UsageRecord.EndState
    CANCELLED_AFTER_OUTPUT: UsageRecord.EndState
    TIMEOUT: UsageRecord.EndState
    ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    MODEL_SERVED_FIELD_NUMBER: _ClassVar[int]
    END_STATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_REASON_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASONING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_FIELD_NUMBER: _ClassVar[int]
    STREAMED_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_FIRST_TOKEN_MS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    CACHE_WRITE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_WRITE_1H_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOOL_USE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REPORTED_COST_PICOS_FIELD_NUMBER: _ClassVar[int]
    SERVICE_TIER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    COST_PICOS_FIELD_NUMBER: _ClassVar[int]
    COST_SOURCE_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    id: str
    user_id: str
    provider: str
    model_requested: str
    model_served: str
    end_state: UsageRecord.EndState
    error_reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    estimated: bool
    streamed: bool
    start_time: _timestamp_pb2.Timestamp
    latency_ms: int
    time_to_first_token_ms: int
    attempts: int
    request_id: str
    conversation_id: str
    cache_write_tokens: int
    cache_write_1h_tokens: int
    tool_use_tokens: int
    reported_cost_picos: int
    service_tier: str
    kind: UsageRecord.Kind
    cost_picos: int
    cost_source: UsageRecord.CostSource
    price: str
    content: SealedContent
    def __init__(self, id: _Optional[str] = ..., user_id: _Optional[str] = ..., provider: _Optional[str] = ..., model_requested: _Optional[str] = ..., model_served: _Optional[str] = ..., end_state: _Optional[_Union[UsageRecord.EndState, str]] = ..., error_reason: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., cached_tokens: _Optional[int] = ..., reasoning_tokens: _Optional[int] = ..., estimated: _Optional[bool] = ..., streamed: _Optional[bool] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., latency_ms: _Optional[int] = ..., time_to_first_token_ms: _Optional[int] = ..., attempts: _Optional[int] = ..., request_id: _Optional[str] = ..., conversation_id: _Optional[str] = ..., cache_write_tokens: _Optional[int] = ..., cache_write_1h_tokens: _Optional[int] = ..., tool_use_tokens: _Optional[int] = ..., reported_cost_picos: _Optional[int] = ..., service_tier: _Optional[str] = ..., kind: _Optional[_Union[UsageRecord.Kind, str]] = ..., cost_picos: _Optional[int] = ..., cost_source: _Optional[_Union[UsageRecord.CostSource, str]] = ..., price: _Optional[str] = ..., content: _Optional[_Union[SealedContent, _Mapping]] = ...) -> None: ...

class SealedContent(_message.Message):
    __slots__ = ("sealed", "wrapped_key")
    SEALED_FIELD_NUMBER: _ClassVar[int]
    WRAPPED_KEY_FIELD_NUMBER: _ClassVar[int]
    sealed: bytes
    wrapped_key: str
    def __init__(self, sealed: _Optional[bytes] = ..., wrapped_key: _Optional[str] = ...) -> None: ...

class IngestUsageRequest(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[UsageRecord]
    def __init__(self, records: _Optional[_Iterable[_Union[UsageRecord, _Mapping]]] = ...) -> None: ...

class IngestUsageResponse(_message.Message):
    __slots__ = ("accepted", "duplicates")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    duplicates: int
    def __init__(self, accepted: _Optional[int] = ..., duplicates: _Optional[int] = ...) -> None: ...
