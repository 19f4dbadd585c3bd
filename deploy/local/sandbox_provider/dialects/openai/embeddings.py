"""OpenAI's embeddings, as its API reference and its own SDK describe them. OpenRouter has them in the same form."""

from collections.abc import Mapping
from typing import Any

from deploy.local.sandbox_provider import tokens, vectors
from deploy.local.sandbox_provider.dialects.openai.errors import invalid, unknown_model

MODELS = {"text-embedding-3-small": 1_536, "text-embedding-3-large": 3_072, "text-embedding-ada-002": 1_536}
"""The size of each model's vectors."""

_MOST_INPUTS = 2_048
_FIELDS = {"input", "model", "encoding_format", "dimensions", "user"}


def check(payload: Any) -> None:
    """Refuses what OpenAI refuses."""
    if not isinstance(payload, dict):
        raise invalid("We could not parse the JSON body of your request.")
    if unknown := sorted(payload.keys() - _FIELDS):
        raise invalid(f"Unknown parameter: '{unknown[0]}'.", unknown[0], "unknown_parameter")
    if not isinstance(payload.get("model"), str):
        raise invalid("you must provide a model parameter")
    if payload["model"] not in MODELS:
        raise unknown_model(payload["model"])
    if not 0 < len(_inputs(payload)) <= _MOST_INPUTS or "" in _inputs(payload):
        raise invalid(
            "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
        )
    if payload.get("encoding_format", "float") not in ("float", "base64"):
        raise invalid("Invalid value for 'encoding_format'.", "encoding_format")
    dimensions = payload.get("dimensions")
    if dimensions is not None and (type(dimensions) is not int or not 0 < dimensions <= MODELS[payload["model"]]):
        raise invalid("Invalid value for 'dimensions'.", "dimensions")


def embedding_list(payload: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Embeds the texts, or lists of tokens, of a request that is valid."""
    wanted = payload.get("dimensions") or size
    packed = payload.get("encoding_format") == "base64"
    inputs = [each if isinstance(each, str) else repr(each) for each in _inputs(payload)]
    found = [vectors.vector(each, wanted) for each in inputs]
    used = sum(map(tokens.count, inputs))
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": vectors.packed(each) if packed else each}
            for index, each in enumerate(found)
        ],
        "model": payload["model"],
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }


def _inputs(payload: Mapping[str, Any]) -> list[Any]:
    given = payload.get("input")
    if isinstance(given, str) or (isinstance(given, list) and given and isinstance(given[0], int)):
        return [given]
    return given if isinstance(given, list) else []
