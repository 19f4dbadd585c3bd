from google.api import field_behavior_pb2 as _field_behavior_pb2
from realmultillm.chat.v1 import chat_service_pb2 as _chat_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChatContent(_message.Message):
    __slots__ = ("dialect", "messages", "request", "completion", "pictures_left_out", "left_out")
    DIALECT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    PICTURES_LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    dialect: str
    messages: _containers.RepeatedCompositeFieldContainer[_chat_service_pb2.ChatMessage]
    request: bytes
    completion: _chat_service_pb2.ChatCompletion
    pictures_left_out: bool
    left_out: bool
    def __init__(self, dialect: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_chat_service_pb2.ChatMessage, _Mapping]]] = ..., request: _Optional[bytes] = ..., completion: _Optional[_Union[_chat_service_pb2.ChatCompletion, _Mapping]] = ..., pictures_left_out: _Optional[bool] = ..., left_out: _Optional[bool] = ...) -> None: ...
