"""JSON in protobuf with the order of its members kept, which a `google.protobuf.Struct` loses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from realmultillm.chat.v1 import json_object_pb2 as json

# From here on not every whole number is a double of its own.
_EXACT = 2**53
# Parsers of protobuf take 100 messages within each other, and every level of JSON is three.
_DEEPEST = 30


def json_object(members: Mapping[str, Any]) -> json.JsonObject:
    """Makes an object of plain values, as a JSON parser returns them.

    Raises ValueError for one so deep that nobody could read it.
    """
    wire = json.JsonObject()
    _fill_object(wire, members, _DEEPEST)
    return wire


def plain(wire: json.JsonObject) -> dict[str, Any]:
    """Turns an object into plain values; whole numbers come back as integers, as they were written.

    Of a name that stands twice the last value counts, as for JSON parsers.
    """
    return {member.name: _plain_value(member.value) for member in wire.members}


def count_values(wire: json.JsonObject, most: int) -> int:
    """Counts the members and list values of an object at all its levels, and stops soon after `most`."""
    counted = 0
    objects, lists = [wire], list[json.JsonArray]()
    while objects or lists:
        held = objects.pop().members if objects else lists.pop().values
        counted += len(held)
        if counted > most:
            break
        for each in held:
            value = each.value if isinstance(each, json.JsonMember) else each
            match value.WhichOneof("kind"):
                case "struct_value":
                    objects.append(value.struct_value)
                case "list_value":
                    lists.append(value.list_value)
    return counted


def _plain_value(value: json.JsonValue) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return plain(value.struct_value)
        case "list_value":
            return [_plain_value(member) for member in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < _EXACT else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None


def _fill_object(wire: json.JsonObject, members: Mapping[str, Any], levels: int) -> None:
    for name, value in members.items():
        _fill_value(wire.members.add(name=name).value, value, levels - 1)


def _fill_value(wire: json.JsonValue, value: Any, levels: int) -> None:
    if levels < 0:
        raise ValueError("the JSON is too deep")
    if value is None:
        wire.null_value = 0  # type: ignore[assignment]  # the only value of its enum
    elif isinstance(value, bool):
        wire.bool_value = value
    elif isinstance(value, str):
        wire.string_value = value
    elif isinstance(value, int | float):
        wire.number_value = value
    elif isinstance(value, Mapping):
        wire.struct_value.SetInParent()
        _fill_object(wire.struct_value, value, levels)
    else:
        wire.list_value.SetInParent()
        for member in value:
            _fill_value(wire.list_value.values.add(), member, levels - 1)
