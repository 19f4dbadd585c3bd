import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProviderConfig(_message.Message):
    __slots__ = ("provider", "configured", "model", "temperature", "max_tokens", "key_hint", "create_time", "update_time", "last_test", "priority")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    CONFIGURED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    KEY_HINT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_TEST_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    provider: str
    configured: bool
    model: str
    temperature: float
    max_tokens: int
    key_hint: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    last_test: TestResult
    priority: int
    def __init__(self, provider: _Optional[str] = ..., configured: _Optional[bool] = ..., model: _Optional[str] = ..., temperature: _Optional[float] = ..., max_tokens: _Optional[int] = ..., key_hint: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_test: _Optional[_Union[TestResult, _Mapping]] = ..., priority: _Optional[int] = ...) -> None: ...

class TestResult(_message.Message):
    __slots__ = ("success", "latency", "message", "error", "test_time")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TEST_TIME_FIELD_NUMBER: _ClassVar[int]
    success: bool
    latency: int
    message: str
    error: str
    test_time: _timestamp_pb2.Timestamp
    def __init__(self, success: _Optional[bool] = ..., latency: _Optional[int] = ..., message: _Optional[str] = ..., error: _Optional[str] = ..., test_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetProviderConfigRequest(_message.Message):
    __slots__ = ("provider",)
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    provider: str
    def __init__(self, provider: _Optional[str] = ...) -> None: ...

class ListProviderConfigsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListProviderConfigsResponse(_message.Message):
    __slots__ = ("provider_configs", "next_page_token")
    PROVIDER_CONFIGS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    provider_configs: _containers.RepeatedCompositeFieldContainer[ProviderConfig]
    next_page_token: str
    def __init__(self, provider_configs: _Optional[_Iterable[_Union[ProviderConfig, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class SetProviderConfigRequest(_message.Message):
    __slots__ = ("provider", "api_key", "model", "temperature", "max_tokens", "priority")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    API_KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    provider: str
    api_key: str
    model: str
    temperature: float
    max_tokens: int
    priority: int
    def __init__(self, provider: _Optional[str] = ..., api_key: _Optional[str] = ..., model: _Optional[str] = ..., temperature: _Optional[float] = ..., max_tokens: _Optional[int] = ..., priority: _Optional[int] = ...) -> None: ...

class SetProviderConfigResponse(_message.Message):
    __slots__ = ("success", "provider", "configured", "test_result")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    CONFIGURED_FIELD_NUMBER: _ClassVar[int]
    TEST_RESULT_FIELD_NUMBER: _ClassVar[int]
    success: bool
    provider: str
    configured: bool
    test_result: TestResult
    def __init__(self, success: _Optional[bool] = ..., provider: _Optional[str] = ..., configured: _Optional[bool] = ..., test_result: _Optional[_Union[TestResult, _Mapping]] = ...) -> None: ...

class UpdateProviderConfigRequest(_message.Message):
    __slots__ = ("provider", "api_key", "model", "temperature", "max_tokens", "clear", "priority")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    API_KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CLEAR_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    provider: str
    api_key: str
    model: str
    temperature: float
    max_tokens: int
    clear: _containers.RepeatedScalarFieldContainer[str]
    priority: int
    def __init__(self, provider: _Optional[str] = ..., api_key: _Optional[str] = ..., model: _Optional[str] = ..., temperature: _Optional[float] = ..., max_tokens: _Optional[int] = ..., clear: _Optional[_Iterable[str]] = ..., priority: _Optional[int] = ...) -> None: ...

class UpdateProviderConfigResponse(_message.Message):
    __slots__ = ("success", "provider", "configured", "test_result")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    CONFIGURED_FIELD_NUMBER: _ClassVar[int]
    TEST_RESULT_FIELD_NUMBER: _ClassVar[int]
    success: bool
    provider: str
    configured: bool
    test_result: TestResult
    def __init__(self, success: _Optional[bool] = ..., provider: _Optional[str] = ..., configured: _Optional[bool] = ..., test_result: _Optional[_Union[TestResult, _Mapping]] = ...) -> None: ...

class DeleteProviderConfigRequest(_message.Message):
    __slots__ = ("provider",)
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    provider: str
    def __init__(self, provider: _Optional[str] = ...) -> None: ...

class DeleteProviderConfigResponse(_message.Message):
    __slots__ = ("success",)
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    success: bool
    def __init__(self, success: _Optional[bool] = ...) -> None: ...

class TestProviderConfigRequest(_message.Message):
    __slots__ = ("provider", "api_key", "model")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    API_KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    provider: str
    api_key: str
    model: str
    def __init__(self, provider: _Optional[str] = ..., api_key: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class TestProviderConfigResponse(_message.Message):
    __slots__ = ("success", "message", "latency", "error")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    success: bool
    message: str
    latency: int
    error: str
    def __init__(self, success: _Optional[bool] = ..., message: _Optional[str] = ..., latency: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...
