"""OpenAI's chat completions, as its API reference and its own SDK describe them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.local.sandbox_provider.answering import Answer, Question
from deploy.local.sandbox_provider.control_messages import Behaviour
from deploy.local.sandbox_provider.dialects.dialect import Call, Refusal, Reply, Transcript
from deploy.local.sandbox_provider.dialects.openai import embeddings
from deploy.local.sandbox_provider.dialects.openai.errors import (
    bad_day,
    error_body,
    error_reply,
    invalid,
    refuse_key,
    unknown_model,
)
from deploy.local.sandbox_provider.dialects.openai.models import (
    CATALOGUE,
    REASONING_TOKENS,
    reasons,
    snapshot,
)
from deploy.local.sandbox_provider.dialects.openai.requests import bearer_key, model_in_body, read_question
from deploy.local.sandbox_provider.dialects.openai.validation import check
from deploy.local.sandbox_provider.dialects.openai.wire import (
    CREATED,
    DONE,
    event,
    model_entry,
    model_list,
    success,
    tool_call_fragments,
    whole_tool_calls,
)

_OBFUSCATED_LENGTH = 16
"""Text and padding of a chunk together are a multiple of it, so that its size does not tell the text."""

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
    """Serves `chat/completions`, `embeddings` and `models`."""

    mount = "/openai/v1"
    key_prefix = "sk-sandbox"

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Finds the bearer token."""
        return bearer_key(headers)

    def model(self, path: str, payload: Any) -> str | None:  # noqa: ARG002 - other dialects have it in the path
        """Finds `model` in the body."""
        return model_in_body(payload)

    def receive(self, call: Call, key: str | None) -> "Reply | ChatCompletion":
        """Checks the key, then the path, then the body."""
        if key is None or not key.startswith(self.key_prefix):
            raise refuse_key(key)
        match call.method, call.path.split("/"):
            case "POST", ["chat", "completions"]:
                check(call.payload)
                return ChatCompletion.from_call(call)
            case "POST", ["embeddings"]:
                embeddings.check(call.payload)
                return success(
                    embeddings.embedding_list(call.payload, embeddings.MODELS[call.payload["model"]]), _LIMITS
                )
            case "GET", ["models"]:
                return success(model_list(sorted(CATALOGUE), "system"), _LIMITS)
            case "GET", ["models", name]:
                if name not in CATALOGUE:
                    raise unknown_model(name)
                return success(model_entry(name, "system"), _LIMITS)
            case method, ["chat", "completions"] | ["embeddings"] | ["models"]:
                raise Refusal(error_reply(405, error_body(f"Not allowed to {method} on /v1/{call.path}.")))
            case method, _:
                raise invalid(f"Invalid URL ({method} /v1/{call.path})", status=404)

    def failure(self, status: int) -> Reply:
        """Says what OpenAI says with this status."""
        return error_reply(status, bad_day(status))

    def stream_failure(self) -> bytes:
        """Makes the event OpenAI sends when it fails after the headers."""
        return event(bad_day(500))


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
        return cls(
            question=read_question(
                call,
                model=snapshot(model) or model,
                reasoning_tokens=REASONING_TOKENS[request.get("reasoning_effort") or "medium"] if reasons(model) else 0,
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
            message["tool_calls"] = whole_tool_calls(answer)
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
        return success(body | behaviour.extra_fields, _headers(answer))

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
            data = {**frame, "choices": [choice], **rest}
            if self.include_obfuscation:
                data["obfuscation"] = "x" * (_OBFUSCATED_LENGTH - size % _OBFUSCATED_LENGTH)
            return event(data)

        closing = chunk({}, answer.finish_reason)
        if self.include_usage and not behaviour.omit_usage:
            usage = {"usage": _usage(answer, behaviour)}
            closing += event({**frame, "choices": [], **behaviour.extra_fields, **usage})
        opening = {"role": "assistant", "content": None if answer.tool_calls else "", "refusal": None}
        return Transcript(
            opening=chunk(opening),
            chunks=(
                *(chunk({"content": text}, size=len(text)) for text in answer.chunks),
                *(chunk({"tool_calls": [fragment]}) for fragment in tool_call_fragments(answer)),
            ),
            closing=closing,
            done=DONE,
            headers={**_headers(answer), "content-type": "text/event-stream; charset=utf-8"},
        )


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


def _headers(answer: Answer) -> dict[str, str]:
    return {**_LIMITS, "x-request-id": f"req_{answer.digest}", "openai-processing-ms": "12"}
