"""The request types of OpenAI's own SDK, as a judge of what is sent to those who speak its dialect."""

from collections.abc import Mapping
from typing import Any

from openai.types.chat.completion_create_params import CompletionCreateParams
from pydantic import ConfigDict, TypeAdapter

_WIRE = TypeAdapter(CompletionCreateParams, config=ConfigDict(extra="forbid", strict=True))


def accepted(body: dict[str, Any]) -> None:
    """Checks a body. Raises ValidationError for what the SDK does not take, a member it does not know among it."""
    _exhaust(_WIRE.validate_python(body))


def _exhaust(validated: Any) -> None:
    """The SDK's `Iterable` fields are validated as they are read."""
    if isinstance(validated, Mapping):
        validated = validated.values()
    if not isinstance(validated, str | bytes | int | float | None):
        for member in validated:
            _exhaust(member)
