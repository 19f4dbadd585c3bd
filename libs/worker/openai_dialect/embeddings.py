"""Embeddings of the dialect, which pass as they are: of an answer only what its account must say is read.

https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from libs.json_members import JsonMembers
from libs.worker.embeddings import Embedded
from libs.worker.json_facts import text
from libs.worker.openai_dialect.usage import ReadCost
from libs.worker.token_counts import count, tells, usage_of


class _Answer(msgspec.Struct):
    """The members that matter; the vectors, which may be megabytes of numbers, are passed over."""

    data: msgspec.Raw = msgspec.Raw(b"null")
    model: msgspec.Raw = msgspec.Raw(b"null")
    usage: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


_ANSWER = msgspec.json.Decoder(_Answer)


def embedding_body(body: JsonMembers, model: str) -> bytes:
    """Returns the body as it came, with this model in it."""
    return body.replaced({} if body.value("model") == model else {"model": orjson.dumps(model)})


def embedding_error(answer: bytes) -> dict[str, Any] | None:
    """Finds the error that came with status 200. Raises ValueError for what is no answer at all."""
    read = _ANSWER.decode(answer)
    error = orjson.loads(memoryview(read.error))
    if error:
        return {"error": error}
    if not bytes(read.data).lstrip().startswith(b"["):
        raise ValueError("no list of embeddings")
    return None


def read_embeddings(answer: bytes, read_cost: ReadCost) -> Embedded:
    """Reads an answer that holds no error."""
    read = _ANSWER.decode(answer)
    usage = orjson.loads(memoryview(read.usage))
    counted = None
    if tells(usage, "prompt_tokens", "total_tokens"):
        sent = count(usage, "prompt_tokens") or count(usage, "total_tokens")
        counted = usage_of(sent, 0, cached=0, reasoning=0)
    cost = read_cost(usage) if isinstance(usage, dict) else None
    return Embedded(answer, text(orjson.loads(memoryview(read.model))), counted, cost)
