from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Credential(_message.Message):
    __slots__ = ("api_key", "model", "temperature", "max_tokens", "endpoint", "request_timeout_ms", "allowed_models", "platform_key", "platform_model")
    API_KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_MODELS_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_KEY_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_MODEL_FIELD_NUMBER: _ClassVar[int]
    api_key: str
    model: str
    temperature: float
    max_tokens: int
    endpoint: str
    request_timeout_ms: int
    allowed_models: _containers.RepeatedScalarFieldContainer[str]
    platform_key: bool
    platform_model: str
    def __init__(self, api_key: _Optional[str] = ..., model: _Optional[str] = ..., temperature: _Optional[float] = ..., max_tokens: _Optional[int] = ..., endpoint: _Optional[str] = ..., request_timeout_ms: _Optional[int] = ..., allowed_models: _Optional[_Iterable[str]] = ..., platform_key: _Optional[bool] = ..., platform_model: _Optional[str] = ...) -> None: ...

class GetCredentialRequest(_message.Message):
    __slots__ = ("user_id", "provider")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    provider: str
    def __init__(self, user_id: _Optional[str] = ..., provider: _Optional[str] = ...) -> None: ...

class WatchCredentialsRequest(_message.Message):
    __slots__ = ("provider",)
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    provider: str
    def __init__(self, provider: _Optional[str] = ...) -> None: ...

class CredentialEvent(_message.Message):
    __slots__ = ("synchronized", "user_id", "everyone", "alive")
    SYNCHRONIZED_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    EVERYONE_FIELD_NUMBER: _ClassVar[int]
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    synchronized: bool
    user_id: str
    everyone: bool
    alive: bool
    def __init__(self, synchronized: _Optional[bool] = ..., user_id: _Optional[str] = ..., everyone: _Optional[bool] = ..., alive: _Optional[bool] = ...) -> None: ...

class ProviderState(_message.Message):
    __slots__ = ("provider", "configured", "enabled", "allowed_models", "priority")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    CONFIGURED_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_MODELS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    provider: str
    configured: bool
    enabled: bool
    allowed_models: _containers.RepeatedScalarFieldContainer[str]
    priority: int
    def __init__(self, provider: _Optional[str] = ..., configured: _Optional[bool] = ..., enabled: _Optional[bool] = ..., allowed_models: _Optional[_Iterable[str]] = ..., priority: _Optional[int] = ...) -> None: ...

class ListProviderStatesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListProviderStatesResponse(_message.Message):
    __slots__ = ("states", "next_page_token")
    STATES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedCompositeFieldContainer[ProviderState]
    next_page_token: str
    def __init__(self, states: _Optional[_Iterable[_Union[ProviderState, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
