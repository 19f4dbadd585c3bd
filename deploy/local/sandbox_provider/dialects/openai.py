"""OpenAI's chat completions, as its API reference and its own SDK describe them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from deploy.local.sandbox_provider import tokens
from deploy.local.sandbox_provider.answering import Answer, Question, Tool, wants_tools
from deploy.local.sandbox_provider.control_messages import Behaviour
from deploy.local.sandbox_provider.dialects.dialect import Call, Refusal, Reply, Transcript
from deploy.local.sandbox_provider.dialects.openai_errors import (
    bad_day,
    error_body,
    error_reply,
    invalid,
    refuse_key,
    unknown_model,
)
from deploy.local.sandbox_provider.dialects.openai_models import (
    CATALOGUE,
    REASONING_TOKENS,
    reasons,
    snapshot,
)
from deploy.local.sandbox_provider.dialects.openai_validation import check

CREATED = 1_767_225_600
"""Every answer bears this time (2026-01-01), so that the same request gets the same bytes."""

TOKENS_PER_MESSAGE = 3
TOKENS_PER_REPLY = 3
TOKENS_PER_IMAGE = 85
_ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}}

_OBFUSCATED_LENGTH = 16
"""Text and padding of a chunk together are a multiple of it, so that its size does not tell the text."""

_DONE = b"data: [DONE]\n\n"
_LIMITS = {
    "openai-organization": "org-sandbox",
    "openai-version": "2020-10-01",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-tokens": "1999900",
    "x-ratelimit-reset-tokens": "3ms",
}


class OpenAI:
    """Serves `chat/completions` and `models`."""

    mount = "/openai/v1"
    key_prefix = "sk-sandbox"

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Finds the bearer token."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return key.strip() or None if scheme.lower() == "bearer" else None

    def model(self, path: str, payload: Any) -> str | None:  # noqa: ARG002 - other dialects have it in the path
        """Finds `model` in the body."""
        model = payload.get("model") if isinstance(payload, dict) else None
        return model if isinstance(model, str) else None

    def receive(self, call: Call, key: str | None) -> "Reply | ChatCompletion":
        """Checks the key, then the path, then the body."""
        if key is None or not key.startswith(self.key_prefix):
            raise refuse_key(key)
        match call.method, call.path.split("/"):
            case "POST", ["chat", "completions"]:
                check(call.payload)
                return ChatCompletion.from_call(call)
            case "GET", ["models"]:
                models = [_model(name) for name in sorted(CATALOGUE)]
                return _success({"object": "list", "data": models}, _LIMITS)
            case "GET", ["models", name]:
                if name not in CATALOGUE:
                    raise unknown_model(name)
                return _success(_model(name), _LIMITS)
            case method, ["chat", "completions"] | ["models"]:
                raise Refusal(error_reply(405, error_body(f"Not allowed to {method} on /v1/{call.path}.")))
            case method, _:
                raise invalid(f"Invalid URL ({method} /v1/{call.path})", status=404)

    def failure(self, status: int) -> Reply:
        """Says what OpenAI says with this status."""
        return error_reply(status, bad_day(status))

    def stream_failure(self) -> bytes:
        """Makes the event OpenAI sends when it fails after the headers."""
        return _event(bad_day(500))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCompletion:
    """A valid request for a chat completion."""

    question: Question
    streamed: bool
    include_usage: bool
    include_obfuscation: bool

    @classmethod
    def from_call(cls, call: Call) -> "ChatCompletion":
        """Reads a request that `check` has let pass."""
        request: dict[str, Any] = call.payload
        stream_options = request.get("stream_options") or {}
        model = request["model"]
        stop = request.get("stop") or ()
        return cls(
            question=Question(
                digest=blake2b(call.body, digest_size=16).hexdigest(),
                model=snapshot(model) or model,
                last_message=_text(request["messages"][-1]),
                prompt_tokens=_prompt_tokens(request),
                max_tokens=request.get("max_completion_tokens") or request.get("max_tokens"),
                stop=(stop,) if isinstance(stop, str) else tuple(stop),
                reasoning_tokens=(
                    REASONING_TOKENS[request.get("reasoning_effort") or "medium"] if reasons(model) else 0
                ),
                tools=_tools_to_call(request),
                json_schema=_json_schema(request.get("response_format") or {}),
            ),
            streamed=bool(request.get("stream")),
            include_usage=bool(stream_options.get("include_usage")),
            include_obfuscation=stream_options.get("include_obfuscation", True),
        )

    def whole(self, answer: Answer, behaviour: Behaviour) -> Reply:
        """Puts the answer into a `chat.completion`."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if answer.tool_calls else answer.text,
            "refusal": None,
            "annotations": [],
        }
        if answer.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in answer.tool_calls
            ]
        body: dict[str, Any] = {
            "id": f"chatcmpl-{answer.digest}",
            "object": "chat.completion",
            "created": CREATED,
            "model": answer.model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}],
            "service_tier": "default",
            "system_fingerprint": "fp_sandbox",
        }
        if not behaviour.omit_usage:
            body["usage"] = _usage(answer, behaviour)
        return _success(body | behaviour.extra_fields, _headers(answer))

    def stream(self, answer: Answer, behaviour: Behaviour) -> Transcript:
        """Puts the answer into `chat.completion.chunk`s."""
        frame: dict[str, Any] = {
            "id": f"chatcmpl-{answer.digest}",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": answer.model,
            "service_tier": "default",
            "system_fingerprint": "fp_sandbox",
        }
        rest: dict[str, Any] = {"usage": None} if self.include_usage else {}
        rest |= behaviour.extra_fields

        def chunk(delta: dict[str, Any], finish_reason: str | None = None, size: int = 0) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
            event = {**frame, "choices": [choice], **rest}
            if self.include_obfuscation:
                event["obfuscation"] = "x" * (_OBFUSCATED_LENGTH - size % _OBFUSCATED_LENGTH)
            return _event(event)

        closing = chunk({}, answer.finish_reason)
        if self.include_usage and not behaviour.omit_usage:
            usage = {"usage": _usage(answer, behaviour)}
            closing += _event({**frame, "choices": [], **behaviour.extra_fields, **usage})
        opening = {"role": "assistant", "content": None if answer.tool_calls else "", "refusal": None}
        return Transcript(
            opening=chunk(opening),
            chunks=(
                *(chunk({"content": text}, size=len(text)) for text in answer.chunks),
                *(chunk({"tool_calls": [fragment]}) for fragment in _tool_call_fragments(answer)),
            ),
            closing=closing,
            done=_DONE,
            headers={**_headers(answer), "content-type": "text/event-stream; charset=utf-8"},
        )


def _tool_call_fragments(answer: Answer) -> Iterator[dict[str, Any]]:
    for index, call in enumerate(answer.tool_calls):
        function = {"name": call.name, "arguments": ""}
        yield {"index": index, "id": call.id, "type": "function", "function": function}
        for fragment in call.fragments:
            yield {"index": index, "function": {"arguments": fragment}}


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


def _usage(answer: Answer, behaviour: Behaviour) -> dict[str, Any]:
    usage = answer.usage
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        **behaviour.usage,
    }


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "system"}


def _headers(answer: Answer) -> dict[str, str]:
    return {**_LIMITS, "x-request-id": f"req_{answer.digest}", "openai-processing-ms": "12"}


def _success(body: dict[str, Any], headers: Mapping[str, str]) -> Reply:
    return Reply(200, orjson.dumps(body), {**headers, "content-type": "application/json"})


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"
