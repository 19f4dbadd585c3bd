"""Google's batchEmbedContents, as its reference and its own SDK describe it. https://ai.google.dev/api/embeddings"""

from typing import Any

from deploy.local.sandbox_provider import vectors
from deploy.local.sandbox_provider.dialects.google_ai.errors import invalid, unknown_model
from deploy.local.sandbox_provider.dialects.google_ai.models import find

_SIZE = 3_072
_MOST_REQUESTS = 100


def embed(name: str, payload: Any) -> dict[str, Any]:
    """Embeds the texts of a batch."""
    found = find(name)
    if found is None or "embedContent" not in found[1].methods:
        raise unknown_model(f"models/{name}", "embedContent")
    requests = payload.get("requests") if isinstance(payload, dict) else None
    if not isinstance(requests, list) or not requests:
        raise invalid("* BatchEmbedContentsRequest.requests: must not be empty")
    if len(requests) > _MOST_REQUESTS:
        raise invalid("* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch")
    return {"embeddings": [{"values": _values(each, name)} for each in requests]}


def _values(request: dict[str, Any], name: str) -> list[float]:
    if request.get("model") != f"models/{name}":
        raise invalid("* BatchEmbedContentsRequest.requests[0].model: model must match the model in the path")
    if request.keys() - {"model", "content", "taskType", "title", "outputDimensionality"}:
        raise invalid("Invalid JSON payload received. Unknown name at 'requests[0]': Cannot find field.")
    text = "".join(part["text"] for part in request["content"]["parts"])
    if not text:
        raise invalid("* EmbedContentRequest.content: content is empty")
    size = request.get("outputDimensionality", _SIZE)
    if type(size) is not int or not 0 < size <= _SIZE:
        raise invalid(f"* EmbedContentRequest.output_dimensionality: must be from 1 to {_SIZE}")
    return vectors.vector(text, size)
