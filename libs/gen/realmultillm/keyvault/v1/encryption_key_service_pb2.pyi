import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EncryptionKey(_message.Message):
    __slots__ = ("purpose", "latest_version", "min_decryption_version", "sealed_count", "outdated_count", "rotation")
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    LATEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    MIN_DECRYPTION_VERSION_FIELD_NUMBER: _ClassVar[int]
    SEALED_COUNT_FIELD_NUMBER: _ClassVar[int]
    OUTDATED_COUNT_FIELD_NUMBER: _ClassVar[int]
    ROTATION_FIELD_NUMBER: _ClassVar[int]
    purpose: str
    latest_version: int
    min_decryption_version: int
    sealed_count: int
    outdated_count: int
    rotation: KeyRotation
    def __init__(self, purpose: _Optional[str] = ..., latest_version: _Optional[int] = ..., min_decryption_version: _Optional[int] = ..., sealed_count: _Optional[int] = ..., outdated_count: _Optional[int] = ..., rotation: _Optional[_Union[KeyRotation, _Mapping]] = ...) -> None: ...

class KeyRotation(_message.Message):
    __slots__ = ("id", "state", "target_version", "total_count", "rewrapped_count", "failed_count", "message", "start_time", "update_time", "end_time")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[KeyRotation.State]
        RUNNING: _ClassVar[KeyRotation.State]
        COMPLETED: _ClassVar[KeyRotation.State]
        INCOMPLETE: _ClassVar[KeyRotation.State]
    STATE_UNSPECIFIED: KeyRotation.State
    RUNNING: KeyRotation.State
    COMPLETED: KeyRotation.State
    INCOMPLETE: KeyRotation.State
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TARGET_VERSION_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    REWRAPPED_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: KeyRotation.State
    target_version: int
    total_count: int
    rewrapped_count: int
    failed_count: int
    message: str
    start_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[KeyRotation.State, str]] = ..., target_version: _Optional[int] = ..., total_count: _Optional[int] = ..., rewrapped_count: _Optional[int] = ..., failed_count: _Optional[int] = ..., message: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListEncryptionKeysRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListEncryptionKeysResponse(_message.Message):
    __slots__ = ("keys", "next_page_token")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[EncryptionKey]
    next_page_token: str
    def __init__(self, keys: _Optional[_Iterable[_Union[EncryptionKey, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RotateEncryptionKeyRequest(_message.Message):
    __slots__ = ("purpose", "rewrap_only")
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    REWRAP_ONLY_FIELD_NUMBER: _ClassVar[int]
    purpose: str
    rewrap_only: bool
    def __init__(self, purpose: _Optional[str] = ..., rewrap_only: _Optional[bool] = ...) -> None: ...

class RotateEncryptionKeyResponse(_message.Message):
    __slots__ = ("rotation",)
    ROTATION_FIELD_NUMBER: _ClassVar[int]
    rotation: KeyRotation
    def __init__(self, rotation: _Optional[_Union[KeyRotation, _Mapping]] = ...) -> None: ...
