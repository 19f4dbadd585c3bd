"""The sealed thinking blocks: who may read one is nobody's business, who made it and where is checked."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson

from deploy.local.sandbox_provider.dialects.anthropic.errors import invalid
from deploy.local.sandbox_provider.dialects.anthropic.models import Model

_SEAL_KEY = b"sandbox"
_DIGEST_SIZE = 12

Blocks = list[dict[str, Any]]


def blocks(content: Any) -> Blocks:
    """Returns content as blocks; a text is short for one block."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def merged(messages: Sequence[Mapping[str, Any]]) -> list[tuple[str, Blocks]]:
    """Combines consecutive turns of one role, as the API does."""
    turns: list[tuple[str, Blocks]] = []
    for message in messages:
        if turns and turns[-1][0] == message["role"]:
            turns[-1][1].extend(blocks(message["content"]))
        else:
            turns.append((message["role"], blocks(message["content"])))
    return turns


def conversation(request: Mapping[str, Any], turns: Sequence[tuple[str, Blocks]]) -> str:
    """Identifies a conversation up to a point: what the model was told and what was said."""
    told = [blocks(request.get("system") or ""), request.get("tools") or [], turns]
    return blake2b(orjson.dumps(told), digest_size=_DIGEST_SIZE).hexdigest()


def seal(thought: str, place: str, model: str) -> str:
    """Seals a thought that a model had at a point of a conversation."""
    payload = orjson.dumps([_digest(thought), place, model])
    return urlsafe_b64encode(_mac(payload) + payload).decode()


def check_seals(request: Mapping[str, Any], model: Model) -> None:
    """Raises `Refusal` for a block that was altered, or, where the model binds them, belongs elsewhere."""
    turns: list[tuple[str, Blocks]] = []
    for place, (role, content) in enumerate(merged(request["messages"])):
        turns.append((role, []))
        for index, block in enumerate(content):
            if block["type"] in ("thinking", "redacted_thinking"):
                _check(block, f"messages.{place}.content.{index}", conversation(request, turns), model)
            turns[-1][1].append(block)


def _check(block: Mapping[str, Any], at: str, place: str, model: Model) -> None:
    kind = block["type"]
    field = "signature" if kind == "thinking" else "data"
    opened = _opened(block[field])
    # A thought that was told is in the block; one that was kept back is in its seal alone.
    if opened is None or (block.get("thinking") and _digest(block["thinking"]) != opened[0]):
        raise invalid(f"{at}: Invalid `{field}` in `{kind}` block")
    # What another model thought is left out silently; it was checked for being altered all the same.
    if model.bound and opened[2] == model.id and opened[1] != place:
        raise invalid(
            f"{at}: Invalid `{field}` in `{kind}` block. The block is bound to a different conversation. Remove the "
            'block or set `thinking.block_binding.prefix_mismatch_behavior` to "drop_block". This setting requires '
            "the value `thinking-binding-controls-2026-08-01` in the `anthropic-beta` header."
        )


def _opened(sealed: str) -> tuple[str, str, str] | None:
    try:
        raw = urlsafe_b64decode(sealed.encode())
    except ValueError:
        return None
    mac, payload = raw[:_DIGEST_SIZE], raw[_DIGEST_SIZE:]
    if _mac(payload) != mac:
        return None
    thought, place, model = orjson.loads(payload)
    return thought, place, model


def _digest(thought: str) -> str:
    return blake2b(thought.encode(), digest_size=_DIGEST_SIZE).hexdigest()


def _mac(payload: bytes) -> bytes:
    return blake2b(payload, key=_SEAL_KEY, digest_size=_DIGEST_SIZE).digest()
