"""What a chat request in OpenAI's form asks; providers that speak it differ in what they refuse, not in this."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import orjson

from deploy.local.sandbox_provider import tokens
from deploy.local.sandbox_provider.answering import Question, Tool, wants_tools
from deploy.local.sandbox_provider.dialects.dialect import Call

TOKENS_PER_MESSAGE = 3
TOKENS_PER_REPLY = 3
TOKENS_PER_IMAGE = 85
_ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}}


def bearer_key(headers: Mapping[str, str]) -> str | None:
    """Finds the bearer token."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def model_in_body(payload: Any) -> str | None:
    """Finds `model` in the body."""
    model = payload.get("model") if isinstance(payload, dict) else None
    return model if isinstance(model, str) else None


def read_question(call: Call, *, model: str, reasoning_tokens: int, limit_covers_reasoning: bool = True) -> Question:
    """Reads a request that its provider's checks have let pass; `model` is the one that answers."""
    request: dict[str, Any] = call.payload
    stop = request.get("stop") or ()
    return Question(
        digest=blake2b(call.body, digest_size=16).hexdigest(),
        model=model,
        last_message=_text(request["messages"][-1]),
        prompt_tokens=_prompt_tokens(request),
        max_tokens=request.get("max_completion_tokens") or request.get("max_tokens"),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        reasoning_tokens=reasoning_tokens,
        limit_covers_reasoning=limit_covers_reasoning,
        tools=_tools_to_call(request),
        json_schema=_json_schema(request.get("response_format") or {}),
    )


def images(request: Mapping[str, Any]) -> int:
    """Counts the pictures in a request."""
    return sum(
        part["type"] == "image_url"
        for message in request["messages"]
        if isinstance(message.get("content"), list)
        for part in message["content"]
    )


def _tools_to_call(request: Mapping[str, Any]) -> tuple[Tool, ...]:
    """Calls the function named, or each one offered (the first, where parallel calls are off)."""
    offered = [
        Tool(tool["function"]["name"], tool["function"].get("parameters") or {"type": "object"})
        for tool in request.get("tools") or ()
        if tool["type"] == "function"
    ]
    choice = request.get("tool_choice") or "auto"
    if isinstance(choice, dict):
        return tuple(tool for tool in offered if tool.name == choice["function"]["name"])
    last = request["messages"][-1]
    if not wants_tools(choice, _text(last) if last["role"] == "user" else None):
        return ()
    return tuple(offered if request.get("parallel_tool_calls") is not False else offered[:1])


def _json_schema(response_format: Mapping[str, Any]) -> Mapping[str, Any] | None:
    match response_format.get("type"):
        case "json_schema":
            schema: Mapping[str, Any] = response_format["json_schema"].get("schema") or {"type": "object"}
            return schema
        case "json_object":
            return _ANY_OBJECT
        case _:
            return None


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if part["type"] == "text")


def _prompt_tokens(request: Mapping[str, Any]) -> int:
    """Counts the text of messages and tools, and flat rates for messages and images."""
    total = TOKENS_PER_REPLY
    for message in request["messages"]:
        total += TOKENS_PER_MESSAGE + tokens.count(_text(message))
        if isinstance(message.get("content"), list):
            total += TOKENS_PER_IMAGE * sum(part["type"] == "image_url" for part in message["content"])
        for call in message.get("tool_calls") or ():
            total += tokens.count(call["function"]["name"]) + tokens.count(call["function"]["arguments"])
    if request.get("tools"):
        total += tokens.count(orjson.dumps(request["tools"]).decode())
    return total
