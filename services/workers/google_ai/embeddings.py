"""Embeddings of the Gemini API in the words of OpenAI's. https://ai.google.dev/api/embeddings"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any

import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import Violation, refuse_any
from libs.json_members import JsonMembers
from libs.worker.embeddings import Embedded
from libs.worker.token_counts import LARGEST_COUNT, count, tells, usage_of

# More are refused: "at most 100 requests can be in one batch".
_MOST_TEXTS = 100
_FORMATS = (None, "float", "base64")
# A rough average, for counts that are marked as estimated: of most models Google tells none.
_CHARACTERS_PER_TOKEN = 4


def embedding_body(body: JsonMembers, name: str) -> dict[str, Any]:
    """Returns the body of `batchEmbedContents`; `name` is the model's, with its kind.

    Raises InvalidRequest, by OpenAI's names.
    """
    violations = []
    texts = _texts(body)
    if not 0 < len(texts) <= _MOST_TEXTS or not all(isinstance(text, str) and text for text in texts):
        rule = f"must be a text, or 1 to {_MOST_TEXTS} texts, none empty, for Google AI; lists of tokens are not taken."
        violations.append(Violation("input", rule))
    dimensions = body.value("dimensions")
    if dimensions is not None and not (type(dimensions) is int and 0 < dimensions <= LARGEST_COUNT):
        violations.append(Violation("dimensions", "must be a whole number from 1."))
    if body.value("encoding_format") not in _FORMATS:
        violations.append(Violation("encoding_format", "must be float or base64."))
    refuse_any(violations)
    sized = {} if dimensions is None else {"outputDimensionality": dimensions}
    return {"requests": [{"model": name, "content": {"parts": [{"text": text}]}, **sized} for text in texts]}


def read_embeddings(answer: dict[str, Any], body: JsonMembers, model: str) -> Embedded:
    """Reads the answer: one vector for each text, in their order."""
    texts = _texts(body)
    vectors = [each["values"] for each in answer["embeddings"]]
    if len(vectors) != len(texts):
        raise ValueError("not one embedding for each text")
    packed = body.value("encoding_format") == "base64"
    usage = _usage(answer.get("usageMetadata"), texts)
    written = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
            for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.total_tokens},
    }
    return Embedded(orjson.dumps(written), model, usage)


def _texts(body: JsonMembers) -> list[Any]:
    given = body.value("input")
    return given if isinstance(given, list) else [given]


def _packed(vector: Sequence[float]) -> str:
    """Writes a vector as OpenAI does: single floats, their lowest byte first. Raises ValueError for what is none."""
    try:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except (OverflowError, struct.error):
        raise ValueError("no vector") from None


def _usage(told: Any, texts: Sequence[str]) -> chat.Usage:
    if tells(told, "promptTokenCount", "totalTokenCount"):
        sent = count(told, "promptTokenCount") or count(told, "totalTokenCount")
        return usage_of(sent, 0, cached=0, reasoning=0)
    sent = -(-sum(map(len, texts)) // _CHARACTERS_PER_TOKEN)
    return chat.Usage(prompt_tokens=sent, total_tokens=sent, estimated=True)
