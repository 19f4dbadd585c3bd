"""A value that a JSON schema accepts."""

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

_DEPTH_LIMIT = 6
"""Past it only required properties are filled in, so that recursive schemas come to an end."""

_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "email": "sandbox@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def example(schema: Mapping[str, Any]) -> JsonValue:
    """Builds the same value for the same schema.

    Understands types, properties, items, enum, const, default, anyOf, oneOf, allOf, local `$ref`s, formats
    and bounds; `pattern` is not understood.
    """
    return _example(schema, schema, "value", 0)


def _example(schema: Mapping[str, Any], root: Mapping[str, Any], name: str, depth: int) -> JsonValue:
    if reference := schema.get("$ref"):
        target: Any = root
        for step in reference.removeprefix("#").strip("/").split("/"):
            target = target[step] if step else target
        return _example(target, root, name, depth + 1)
    for certain in ("const", "default"):
        if certain in schema:
            value: JsonValue = schema[certain]
            return value
    if choices := schema.get("enum"):
        first: JsonValue = choices[0]
        return first
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return _example(_option(options, depth), root, name, depth + 1)
    if parts := schema.get("allOf"):
        merged: dict[str, Any] = {}
        for part in parts:
            merged |= part
        return _example(merged, root, name, depth + 1)
    return _typed_example(schema, root, name, depth)


def _option(options: list[Mapping[str, Any]], depth: int) -> Mapping[str, Any]:
    if depth > _DEPTH_LIMIT:
        return next((option for option in options if option.get("type") == "null"), options[-1])
    return options[0]


def _typed_example(schema: Mapping[str, Any], root: Mapping[str, Any], name: str, depth: int) -> JsonValue:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            required = schema.get("required", [])
            return {
                property_name: _example(property_schema, root, property_name, depth + 1)
                for property_name, property_schema in schema.get("properties", {}).items()
                if depth <= _DEPTH_LIMIT or property_name in required
            }
        case "array":
            least = schema.get("minItems", 0)
            size = least if depth > _DEPTH_LIMIT else min(max(least, 1), schema.get("maxItems", least + 1))
            return [_example(schema.get("items", {}), root, name, depth + 1)] * size
        case "integer" | "number":
            if "exclusiveMinimum" in schema:
                lowest: int | float = schema["exclusiveMinimum"] + 1
            else:
                lowest = schema.get("minimum", 1)
            highest: int | float = schema.get("maximum", lowest)
            return min(lowest, highest)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            text = _FORMATS.get(schema.get("format", ""), f"sandbox {name}")
            return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]
