"""Chat requests as REST callers write them."""

from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.chat.v1 import json_object_pb2

from libs.worker.json_object import json_object


def chat_request(request: dict[str, Any]) -> chat.CreateChatCompletionRequest:
    """Parses a request; Envoy does the same, and knows that a JsonObject is written as the object it is."""
    spelt_out = _spell_out(request, chat.CreateChatCompletionRequest.DESCRIPTOR)
    return ParseDict(spelt_out, chat.CreateChatCompletionRequest())


def _spell_out(value: Any, kind: Any) -> Any:
    if kind is json_object_pb2.JsonObject.DESCRIPTOR:
        return MessageToDict(json_object(value))
    fields = {field.json_name: field for field in kind.fields} | {field.name: field for field in kind.fields}
    return {
        name: _of_field(member, fields[name]) if name in fields and fields[name].message_type else member
        for name, member in value.items()
    }


def _of_field(value: Any, field: Any) -> Any:
    if field.message_type.GetOptions().map_entry:
        return value
    if field.is_repeated:
        return [_spell_out(each, field.message_type) for each in value]
    return _spell_out(value, field.message_type)
