import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from realmultillm.keyvault.v1 import provider_config_service_pb2 as _provider_config_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PlatformConfig(_message.Message):
    __slots__ = ("provider", "enabled", "endpoint", "default_model", "allowed_models", "request_timeout_ms", "configured", "key_hint", "last_test", "create_time", "update_time")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_MODEL_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_MODELS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    CONFIGURED_FIELD_NUMBER: _ClassVar[int]
    KEY_HINT_FIELD_NUMBER: _ClassVar[int]
    LAST_TEST_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    provider: str
    enabled: bool
    endpoint: str
    default_model: str
    allowed_models: _containers.RepeatedScalarFieldContainer[str]
    request_timeout_ms: int
    configured: bool
    key_hint: str
    last_test: _provider_config_service_pb2.TestResult
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, provider: _Optional[str] = ..., enabled: _Optional[bool] = ..., endpoint: _Optional[str] = ..., default_model: _Optional[str] = ..., allowed_models: _Optional[_Iterable[str]] = ..., request_timeout_ms: _Optional[int] = ..., configured: _Optional[bool] = ..., key_hint: _Optional[str] = ..., last_test: _Optional[_Union[_provider_config_service_pb2.TestResult, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListPlatformConfigsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPlatformConfigsResponse(_message.Message):
    __slots__ = ("configs", "next_page_token")
    CONFIGS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    configs: _containers.RepeatedCompositeFieldContainer[PlatformConfig]
    next_page_token: str
    def __init__(self, configs: _Optional[_Iterable[_Union[PlatformConfig, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class SetPlatformConfigRequest(_message.Message):
    __slots__ = ("provider", "enabled", "endpoint", "default_model", "allowed_models", "request_timeout_ms", "api_key", "clear")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_MODEL_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_MODELS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    API_KEY_FIELD_NUMBER: _ClassVar[int]
    CLEAR_FIELD_NUMBER: _ClassVar[int]
    provider: str
    enabled: bool
    endpoint: str
    default_model: str
    allowed_models: _containers.RepeatedScalarFieldContainer[str]
    request_timeout_ms: int
    api_key: str
    clear: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, provider: _Optional[str] = ..., enabled: _Optional[bool] = ..., endpoint: _Optional[str] = ..., default_model: _Optional[str] = ..., allowed_models: _Optional[_Iterable[str]] = ..., request_timeout_ms: _Optional[int] = ..., api_key: _Optional[str] = ..., clear: _Optional[_Iterable[str]] = ...) -> None: ...

class SetPlatformConfigResponse(_message.Message):
    __slots__ = ("success", "config", "test_result")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    TEST_RESULT_FIELD_NUMBER: _ClassVar[int]
    success: bool
    config: PlatformConfig
    test_result: _provider_config_service_pb2.TestResult
    def __init__(self, success: _Optional[bool] = ..., config: _Optional[_Union[PlatformConfig, _Mapping]] = ..., test_result: _Optional[_Union[_provider_config_service_pb2.TestResult, _Mapping]] = ...) -> None: ...
