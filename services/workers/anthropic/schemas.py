"""JSON schemas as Anthropic wants them. https://platform.claude.com/docs/en/build-with-claude/structured-outputs"""

from __future__ import annotations

from typing import Any

# Members of a schema that hold schemas by name, and those that are one schema or a list of them.
_BY_NAME = ("properties", "$defs", "definitions")
_NESTED = ("items", "anyOf", "allOf", "oneOf")


def closed(schema: Any) -> Any:
    """Forbids properties that no object of a schema names, where the schema leaves it open.

    Anthropic insists on that, and whatever fits the narrower schema fits the wider one. An object that names no
    properties at all is left as it is: closed, it could only be empty.
    """
    if isinstance(schema, list):
        return [closed(member) for member in schema]
    if not isinstance(schema, dict):
        return schema
    narrowed = {name: _closed_member(name, member) for name, member in schema.items()}
    if "properties" in narrowed:
        narrowed.setdefault("additionalProperties", False)
    return narrowed


def _closed_member(name: str, member: Any) -> Any:
    if name in _BY_NAME and isinstance(member, dict):
        return {inner: closed(schema) for inner, schema in member.items()}
    return closed(member) if name in _NESTED else member


def input_schema(parameters: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of a tool's input, which says that it is an object."""
    return parameters if "type" in parameters else {"type": "object", **parameters}
