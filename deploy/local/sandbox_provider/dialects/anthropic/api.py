"""Anthropic's messages, as its API reference and its own SDK describe them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import orjson

from deploy.local.sandbox_provider import answering, tokens
from deploy.local.sandbox_provider.answering import Answer, Question, Tool, wants_tools
from deploy.local.sandbox_provider.control_messages import Behaviour
from deploy.local.sandbox_provider.dialects.anthropic.errors import (
    LIMITS,
    ORGANIZATION,
    bad_day,
    bad_day_in_stream,
    invalid,
    refusal,
    unknown_model,
)
from deploy.local.sandbox_provider.dialects.anthropic.models import MODELS, THINKING_TOKENS, find
from deploy.local.sandbox_provider.dialects.anthropic.thinking import blocks, conversation, merged, seal
from deploy.local.sandbox_provider.dialects.anthropic.thinking_options import thinks
from deploy.local.sandbox_provider.dialects.anthropic.validation import check, check_count, check_version
from deploy.local.sandbox_provider.dialects.dialect import Call, Reply, Transcript

TOKENS_PER_REQUEST = 7
TOKENS_PER_MESSAGE = 3
TOKENS_PER_IMAGE = 85
_MOST_MODELS = 1000
_USUAL_MODELS = 20
_FIRST_OUTPUT_TOKENS = 1

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_REFUSED = {
    "type": "refusal",
    "category": "general_harms",
    "explanation": "The sandbox was told to decline this request.",
}
_REDACTED_TRIGGER = "ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING_"
"""Said by the user, in Anthropic's documentation and here, it makes the model think behind closed doors."""
_PING = b'event: ping\ndata: {"type": "ping"}\n\n'


class Anthropic:
    """Serves `messages`, `messages/count_tokens` and `models`."""

    mount = "/anthropic/v1"
    key_prefix = "sk-ant-sandbox"

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Finds the key in `x-api-key`, which counts first, or as a bearer token, where the newer SDKs put it."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        return headers.get("x-api-key") or (bearer.strip() if scheme.lower() == "bearer" else "") or None

    def model(self, path: str, payload: Any) -> str | None:  # noqa: ARG002 - other dialects have it in the path
        """Finds `model` in the body."""
        model = payload.get("model") if isinstance(payload, dict) else None
        return model if isinstance(model, str) else None

    def receive(self, call: Call, key: str | None) -> "Reply | Message":
        """Checks the key, then the version, then the path, then the body."""
        if key is None:
            raise refusal(401, "authentication_error", "x-api-key header is required")
        if not key.startswith(self.key_prefix):
            raise refusal(401, "authentication_error", "invalid x-api-key")
        version = check_version(call.headers.get("anthropic-version"))
        match call.method, call.path.split("/"):
            case "POST", ["messages"]:
                return Message.from_call(call, version)
            case "POST", ["messages", "count_tokens"]:
                check_count(call.payload, version)
                return _success({"input_tokens": _prompt_tokens(call.payload)}, _headers("count"))
            case "GET", ["models"]:
                return _success(_page(call.query), _headers("models"))
            case "GET", ["models", name]:
                model = find(name)
                if model is None:
                    raise unknown_model(name)
                return _success(model.described(), _headers("models"))
            case _, ["messages"] | ["messages", "count_tokens"] | ["models", *_]:
                raise refusal(405, "invalid_request_error", "Method Not Allowed")
            case _:
                raise refusal(404, "not_found_error", "Not Found")

    def failure(self, status: int) -> Reply:
        """Says what Anthropic says with this status."""
        return bad_day(status)

    def stream_failure(self) -> bytes:
        """Makes the event Anthropic sends when it is overloaded after the headers."""
        return bad_day_in_stream()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A valid request for a message. `place` identifies the conversation up to the answer."""

    question: Question
    streamed: bool
    place: str
    shows_thinking: bool
    redacts_thinking: bool

    @classmethod
    def from_call(cls, call: Call, version: str) -> "Message":
        """Checks and reads a request."""
        request: Any = call.payload
        model = check(request, version)
        turns = merged(request["messages"])
        thinking = request.get("thinking") or {}
        output = request.get("output_config") or {}
        last_text = _text(turns[-1][1])
        spent = THINKING_TOKENS[output.get("effort") or "medium"] if thinks(request) else 0
        return cls(
            question=Question(
                digest=blake2b(call.body, digest_size=16).hexdigest(),
                model=model.id,
                last_message=last_text,
                prompt_tokens=_prompt_tokens(request),
                max_tokens=request["max_tokens"],
                stop=tuple(request.get("stop_sequences") or ()),
                reasoning_tokens=min(spent, thinking.get("budget_tokens", spent)),
                tools=_tools_to_call(request, turns),
                json_schema=(output.get("format") or {}).get("schema"),
            ),
            streamed=bool(request.get("stream")),
            place=conversation(request, [*turns, ("assistant", [])]),
            shows_thinking=(thinking.get("display") or ("summarized" if model.shows_thinking else "omitted"))
            == "summarized",
            redacts_thinking=_REDACTED_TRIGGER in last_text,
        )

    def whole(self, answer: Answer, behaviour: Behaviour) -> Reply:
        """Puts the answer into a `message`."""
        content = [
            *self._thinking(answer, behaviour),
            *([{"type": "text", "text": answer.text}] if answer.text else ()),
            *(_tool_use(call, orjson.loads(call.arguments or "{}")) for call in _whole_calls(answer)),
        ]
        body = self._envelope(answer, content) | self._ending(answer, behaviour)
        if not behaviour.omit_usage:
            body["usage"] = _usage(answer) | behaviour.usage
        return _success(body | behaviour.extra_fields, _headers(answer.digest))

    def stream(self, answer: Answer, behaviour: Behaviour) -> Transcript:
        """Puts the answer into events: start, blocks with their deltas, final delta, stop."""

        def event(kind: str, data: dict[str, Any]) -> bytes:
            encoded = orjson.dumps({"type": kind, **data, **behaviour.extra_fields})
            return b"event: " + kind.encode() + b"\ndata: " + encoded + b"\n\n"

        opened = self._envelope(answer, []) | {"stop_reason": None, "stop_sequence": None, "stop_details": None}
        final: dict[str, Any] = {"delta": self._ending(answer, behaviour)}
        if not behaviour.omit_usage:
            usage = _usage(answer) | behaviour.usage
            opened["usage"] = usage | {"output_tokens": _FIRST_OUTPUT_TOKENS}
            final["usage"] = {name: usage[name] for name in _CUMULATIVE if name in usage}
        chunks: list[bytes] = []
        for index, (start, deltas) in enumerate(self._blocks(answer, behaviour)):
            opened_block = event("content_block_start", {"index": index, "content_block": start})
            told = [event("content_block_delta", {"index": index, "delta": delta}) for delta in deltas] or [b""]
            told[0] = (_PING if index else b"") + opened_block + told[0]
            told[-1] += event("content_block_stop", {"index": index})
            chunks += told
        return Transcript(
            opening=event("message_start", {"message": opened}) + _PING,
            chunks=tuple(chunks),
            closing=event("message_delta", final),
            done=event("message_stop", {}),
            headers={
                **_headers(answer.digest),
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-cache",
            },
        )

    def _envelope(self, answer: Answer, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"msg_{answer.digest[:24]}",
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": content,
        }

    def _ending(self, answer: Answer, behaviour: Behaviour) -> dict[str, Any]:
        refused = answer.finish_reason == "content_filter"
        sequence = self._stop_sequence(answer, behaviour)
        return {
            "stop_reason": _STOP_REASONS[answer.finish_reason] if sequence is None else "stop_sequence",
            "stop_sequence": sequence,
            "stop_details": _REFUSED if refused else None,
        }

    def _stop_sequence(self, answer: Answer, behaviour: Behaviour) -> str | None:
        """Finds the text that ended the answer, by answering once more without it."""
        if answer.finish_reason != "stop" or not self.question.stop:
            return None
        whole = answering.answer(replace(self.question, stop=(), max_tokens=None), behaviour).text
        places = {whole.find(sequence): sequence for sequence in self.question.stop if sequence in whole}
        return places[min(places)] if places else None

    def _thinking(self, answer: Answer, behaviour: Behaviour) -> Iterator[dict[str, Any]]:
        if not answer.reasoning:
            return
        sealed = seal(answer.reasoning, self.place, answer.model)
        if self.redacts_thinking:
            yield {"type": "redacted_thinking", "data": sealed}
        else:
            shown = answer.reasoning if self.shows_thinking or behaviour.reasoning is not None else ""
            yield {"type": "thinking", "thinking": shown, "signature": sealed}

    def _blocks(self, answer: Answer, behaviour: Behaviour) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Yields each block as it starts, and its deltas; a block that starts whole has none."""
        for block in self._thinking(answer, behaviour):
            if block["type"] == "thinking":
                thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in tokens.split(block["thinking"])]
                signature = {"type": "signature_delta", "signature": block["signature"]}
                yield block | {"thinking": "", "signature": ""}, [*thoughts, signature]
            else:
                yield block, []
        if answer.chunks:
            yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": text} for text in answer.chunks]
        for call in answer.tool_calls:
            # The input always begins with an empty fragment.
            fragments = ("", *call.fragments)
            yield (
                _tool_use(call, {}),
                [{"type": "input_json_delta", "partial_json": fragment} for fragment in fragments],
            )


_CUMULATIVE = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "output_tokens_details",
    "server_tool_use",
)
"""What of the usage comes again at the end of a stream."""


def _whole_calls(answer: Answer) -> Iterator[answering.ToolCall]:
    """Yields the calls whose input is complete; one that the token limit cut off has no input that could be told."""
    for index, call in enumerate(answer.tool_calls):
        if answer.finish_reason != "length" or index < len(answer.tool_calls) - 1:
            yield call


def _tool_use(call: answering.ToolCall, arguments: Any) -> dict[str, Any]:
    name = call.id.removeprefix("call_")
    return {"type": "tool_use", "id": f"toolu_{name}", "name": call.name, "input": arguments}


def _tools_to_call(request: Mapping[str, Any], turns: list[tuple[str, list[dict[str, Any]]]]) -> tuple[Tool, ...]:
    """Calls the tool named, or each one offered (the first, where parallel calls are off)."""
    offered = [Tool(tool["name"], tool["input_schema"]) for tool in request.get("tools") or ()]
    choice = request.get("tool_choice") or {"type": "auto"}
    if choice["type"] == "tool":
        return tuple(tool for tool in offered if tool.name == choice["name"])
    role, content = turns[-1]
    asked = role == "user" and not any(block["type"] == "tool_result" for block in content)
    if not wants_tools({"any": "required"}.get(choice["type"], choice["type"]), _text(content) if asked else None):
        return ()
    return tuple(offered[:1] if choice.get("disable_parallel_tool_use") else offered)


def _text(content: list[dict[str, Any]]) -> str:
    """Joins the texts of a turn, those in tool results too."""
    texts = []
    for block in content:
        if block["type"] == "text":
            texts.append(block["text"])
        elif block["type"] == "tool_result":
            texts.append(_text(blocks(block.get("content") or [])))
    return " ".join(texts)


def _prompt_tokens(request: Mapping[str, Any]) -> int:
    """Counts texts, tools and tool calls, and flat rates for messages and images."""
    total = TOKENS_PER_REQUEST
    for message in ({"content": request.get("system") or ""}, *request["messages"]):
        content = blocks(message["content"])
        total += TOKENS_PER_MESSAGE + tokens.count(_text(content))
        total += TOKENS_PER_IMAGE * sum(block["type"] == "image" for block in content)
        for block in content:
            if block["type"] == "tool_use":
                total += tokens.count(block["name"]) + tokens.count(orjson.dumps(block["input"]).decode())
    if request.get("tools"):
        total += tokens.count(orjson.dumps(request["tools"]).decode())
    return total


def _usage(answer: Answer) -> dict[str, Any]:
    """Reports the usage: input without what the cache served or kept, output with what was thought."""
    usage: dict[str, Any] = {
        "input_tokens": answer.usage.prompt,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": answer.usage.completion,
        "service_tier": "standard",
        "inference_geo": "not_available",
    }
    if answer.usage.reasoning:
        usage["output_tokens_details"] = {"thinking_tokens": answer.usage.reasoning}
    return usage


def _page(query: Mapping[str, str]) -> dict[str, Any]:
    limit = query.get("limit", str(_USUAL_MODELS))
    if not limit.isdecimal() or not 1 <= int(limit) <= _MOST_MODELS:
        raise invalid(f"limit: Input should be between 1 and {_MOST_MODELS}")
    if "after_id" in query and "before_id" in query:
        raise invalid("Only one of `before_id` and `after_id` may be given.")
    names = [model.id for model in MODELS]
    for cursor in ("after_id", "before_id"):
        if cursor in query and query[cursor] not in names:
            raise invalid(f"{cursor}: Invalid cursor")
    start, end = 0, len(names)
    if "after_id" in query:
        start = names.index(query["after_id"]) + 1
    elif "before_id" in query:
        end = names.index(query["before_id"])
        start = max(0, end - int(limit))
    page = [model.described() for model in MODELS[start:end][: int(limit)]]
    more = start > 0 if "before_id" in query else start + len(page) < len(names)
    return {
        "data": page,
        "has_more": more,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def _headers(digest: str) -> dict[str, str]:
    return {**LIMITS, "request-id": f"req_{digest[:24]}", "anthropic-organization-id": ORGANIZATION}


def _success(body: dict[str, Any], headers: Mapping[str, str]) -> Reply:
    return Reply(200, orjson.dumps(body), {**headers, "content-type": "application/json"})
