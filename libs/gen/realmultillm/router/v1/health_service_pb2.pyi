from google.api import annotations_pb2 as _annotations_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PlatformHealth(_message.Message):
    __slots__ = ("status", "services", "version", "providers")
    class ProvidersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    status: str
    services: ServiceStates
    version: str
    providers: _containers.ScalarMap[str, str]
    def __init__(self, status: _Optional[str] = ..., services: _Optional[_Union[ServiceStates, _Mapping]] = ..., version: _Optional[str] = ..., providers: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ServiceStates(_message.Message):
    __slots__ = ("auth", "key_vault", "vault", "analytics", "database", "workers")
    class WorkersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    AUTH_FIELD_NUMBER: _ClassVar[int]
    KEY_VAULT_FIELD_NUMBER: _ClassVar[int]
    VAULT_FIELD_NUMBER: _ClassVar[int]
    ANALYTICS_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    auth: str
    key_vault: str
    vault: str
    analytics: str
    database: str
    workers: _containers.ScalarMap[str, str]
    def __init__(self, auth: _Optional[str] = ..., key_vault: _Optional[str] = ..., vault: _Optional[str] = ..., analytics: _Optional[str] = ..., database: _Optional[str] = ..., workers: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GetPlatformHealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
