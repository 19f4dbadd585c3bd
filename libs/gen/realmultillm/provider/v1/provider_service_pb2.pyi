from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProviderHealth(_message.Message):
    __slots__ = ("state", "chats", "failures", "latency_p50_ms", "latency_p95_ms", "window_seconds")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[ProviderHealth.State]
        HEALTHY: _ClassVar[ProviderHealth.State]
        UNHEALTHY: _ClassVar[ProviderHealth.State]
        RECOVERING: _ClassVar[ProviderHealth.State]
    STATE_UNSPECIFIED: ProviderHealth.State
    HEALTHY: ProviderHealth.State
    UNHEALTHY: ProviderHealth.State
    RECOVERING: ProviderHealth.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    CHATS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P50_MS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P95_MS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    state: ProviderHealth.State
    chats: int
    failures: int
    latency_p50_ms: int
    latency_p95_ms: int
    window_seconds: int
    def __init__(self, state: _Optional[_Union[ProviderHealth.State, str]] = ..., chats: _Optional[int] = ..., failures: _Optional[int] = ..., latency_p50_ms: _Optional[int] = ..., latency_p95_ms: _Optional[int] = ..., window_seconds: _Optional[int] = ...) -> None: ...

class WatchProviderHealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Model(_message.Message):
    __slots__ = ("id", "display_name", "context_length", "max_output_tokens")
    ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    id: str
    display_name: str
    context_length: int
    max_output_tokens: int
    def __init__(self, id: _Optional[str] = ..., display_name: _Optional[str] = ..., context_length: _Optional[int] = ..., max_output_tokens: _Optional[int] = ...) -> None: ...

class TestKeyRequest(_message.Message):
    __slots__ = ("api_key", "model", "endpoint")
    API_KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    api_key: str
    model: str
    endpoint: str
    def __init__(self, api_key: _Optional[str] = ..., model: _Optional[str] = ..., endpoint: _Optional[str] = ...) -> None: ...

class TestKeyResponse(_message.Message):
    __slots__ = ("success", "latency_ms", "message", "reason")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    success: bool
    latency_ms: int
    message: str
    reason: str
    def __init__(self, success: _Optional[bool] = ..., latency_ms: _Optional[int] = ..., message: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
