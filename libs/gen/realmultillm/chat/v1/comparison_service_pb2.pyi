from google.api import annotations_pb2 as _annotations_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from realmultillm.chat.v1 import chat_service_pb2 as _chat_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ComparisonTarget(_message.Message):
    __slots__ = ("provider", "model")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    provider: str
    model: str
    def __init__(self, provider: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class ComparisonResult(_message.Message):
    __slots__ = ("provider", "model", "completion", "error", "latency_ms", "cost_usd")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    provider: str
    model: str
    completion: _chat_service_pb2.ChatCompletion
    error: _chat_service_pb2.ChatError
    latency_ms: int
    cost_usd: float
    def __init__(self, provider: _Optional[str] = ..., model: _Optional[str] = ..., completion: _Optional[_Union[_chat_service_pb2.ChatCompletion, _Mapping]] = ..., error: _Optional[_Union[_chat_service_pb2.ChatError, _Mapping]] = ..., latency_ms: _Optional[int] = ..., cost_usd: _Optional[float] = ...) -> None: ...

class ComparisonEvent(_message.Message):
    __slots__ = ("chunk", "target", "latency_ms")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    chunk: _chat_service_pb2.ChatCompletionChunk
    target: int
    latency_ms: int
    def __init__(self, chunk: _Optional[_Union[_chat_service_pb2.ChatCompletionChunk, _Mapping]] = ..., target: _Optional[int] = ..., latency_ms: _Optional[int] = ...) -> None: ...

class CompareChatCompletionsRequest(_message.Message):
    __slots__ = ("messages", "options", "targets", "timeout_ms", "conversation_id", "store", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[_chat_service_pb2.ChatMessage]
    options: _chat_service_pb2.ChatOptions
    targets: _containers.RepeatedCompositeFieldContainer[ComparisonTarget]
    timeout_ms: int
    conversation_id: str
    store: bool
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, messages: _Optional[_Iterable[_Union[_chat_service_pb2.ChatMessage, _Mapping]]] = ..., options: _Optional[_Union[_chat_service_pb2.ChatOptions, _Mapping]] = ..., targets: _Optional[_Iterable[_Union[ComparisonTarget, _Mapping]]] = ..., timeout_ms: _Optional[int] = ..., conversation_id: _Optional[str] = ..., store: _Optional[bool] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CompareChatCompletionsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ComparisonResult]
    def __init__(self, results: _Optional[_Iterable[_Union[ComparisonResult, _Mapping]]] = ...) -> None: ...
