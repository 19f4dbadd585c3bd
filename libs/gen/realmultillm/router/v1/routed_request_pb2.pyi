from google.api import field_behavior_pb2 as _field_behavior_pb2
from realmultillm.chat.v1 import chat_service_pb2 as _chat_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RoutedRequest(_message.Message):
    __slots__ = ("provider", "model", "fallbacks")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    provider: str
    model: str
    fallbacks: _containers.RepeatedCompositeFieldContainer[_chat_service_pb2.FallbackTarget]
    def __init__(self, provider: _Optional[str] = ..., model: _Optional[str] = ..., fallbacks: _Optional[_Iterable[_Union[_chat_service_pb2.FallbackTarget, _Mapping]]] = ...) -> None: ...
