from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DataKey(_message.Message):
    __slots__ = ("key", "wrapped_key")
    KEY_FIELD_NUMBER: _ClassVar[int]
    WRAPPED_KEY_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    wrapped_key: str
    def __init__(self, key: _Optional[bytes] = ..., wrapped_key: _Optional[str] = ...) -> None: ...

class GenerateDataKeyRequest(_message.Message):
    __slots__ = ("user_id",)
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    def __init__(self, user_id: _Optional[str] = ...) -> None: ...

class UnwrapDataKeysRequest(_message.Message):
    __slots__ = ("wrapped_keys",)
    WRAPPED_KEYS_FIELD_NUMBER: _ClassVar[int]
    wrapped_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, wrapped_keys: _Optional[_Iterable[str]] = ...) -> None: ...

class UnwrapDataKeysResponse(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, keys: _Optional[_Iterable[bytes]] = ...) -> None: ...

class WrappedKey(_message.Message):
    __slots__ = ("user_id", "wrapped_key")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    WRAPPED_KEY_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    wrapped_key: str
    def __init__(self, user_id: _Optional[str] = ..., wrapped_key: _Optional[str] = ...) -> None: ...

class RewrapDataKeysRequest(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[WrappedKey]
    def __init__(self, keys: _Optional[_Iterable[_Union[WrappedKey, _Mapping]]] = ...) -> None: ...

class RewrapDataKeysResponse(_message.Message):
    __slots__ = ("wrapped_keys",)
    WRAPPED_KEYS_FIELD_NUMBER: _ClassVar[int]
    wrapped_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, wrapped_keys: _Optional[_Iterable[str]] = ...) -> None: ...
