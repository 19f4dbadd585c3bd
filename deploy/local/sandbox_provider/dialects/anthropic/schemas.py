"""The JSON schemas that Anthropic can hold an answer or a strict tool to."""

from typing import Any

from deploy.local.sandbox_provider.dialects.anthropic.errors import invalid

_UNSUPPORTED = {
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength"),
    "array": ("maxItems", "uniqueItems"),
    "object": ("minProperties", "maxProperties", "patternProperties"),
}


def check_schema(schema: Any, at: str) -> None:
    """Raises `Refusal` for a schema that is beyond what Anthropic can hold an answer to."""
    if isinstance(schema, list):
        for member in schema:
            check_schema(member, at)
    elif isinstance(schema, dict):
        _check_object(schema, at)
        for name, member in schema.items():
            if name in ("properties", "$defs", "definitions") and isinstance(member, dict):
                check_schema(list(member.values()), at)
            elif name in ("items", "anyOf", "allOf"):
                check_schema(member, at)


def _check_object(schema: dict[str, Any], at: str) -> None:
    kinds = schema.get("type", ())
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        used = sorted(name for name in _UNSUPPORTED.get(kind, ()) if name in schema)
        if used:
            raise invalid(f"{at}: For '{kind}' type, properties {', '.join(used)} are not supported")
        if kind == "object" and schema.get("additionalProperties") is not False:
            raise invalid(f"{at}: For 'object' type, 'additionalProperties' must be explicitly set to false")
