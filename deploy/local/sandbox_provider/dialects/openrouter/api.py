"""OpenRouter's chat completions, as its documentation and its own SDK describe them.

Every stream begins with a comment, ends with a chunk that has the usage and repeats the finish reason in a choice
without content (OpenRouter departs from OpenAI's empty `choices` on purpose), and tells errors inside chunks.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.local.sandbox_provider import tokens
from deploy.local.sandbox_provider.answering import Answer, Question
from deploy.local.sandbox_provider.control_messages import Behaviour
from deploy.local.sandbox_provider.dialects.dialect import Call, Reply, Transcript
from deploy.local.sandbox_provider.dialects.openai.embeddings import MODELS as EMBEDDING_SIZES
from deploy.local.sandbox_provider.dialects.openai.embeddings import embedding_list
from deploy.local.sandbox_provider.dialects.openai.requests import bearer_key, model_in_body, read_question
from deploy.local.sandbox_provider.dialects.openai.wire import (
    CREATED,
    DONE,
    event,
    success,
    tool_call_fragments,
    whole_tool_calls,
)
from deploy.local.sandbox_provider.dialects.openrouter.errors import (
    bad_day,
    error_reply,
    moderated,
    refuse,
    refuse_key,
)
from deploy.local.sandbox_provider.dialects.openrouter.models import (
    COMPLETION_PRICE,
    EFFORT_TOKENS,
    PROMPT_PRICE,
    author,
    listing,
    reasons,
)
from deploy.local.sandbox_provider.dialects.openrouter.validation import check, sign

_WAITING = b": OPENROUTER PROCESSING\n\n"
_SEALED = "c2VhbGVkIGluIHRoZSBzYW5kYm94"


class OpenRouter:
    """Serves `chat/completions`, `embeddings`, `key`, `models/user`, and to anybody `models`."""

    mount = "/openrouter/v1"
    key_prefix = "sk-or-sandbox"

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Finds the bearer token."""
        return bearer_key(headers)

    def model(self, path: str, payload: Any) -> str | None:  # noqa: ARG002 - other dialects have it in the path
        """Finds `model` in the body."""
        return model_in_body(payload)

    def receive(self, call: Call, key: str | None) -> "Reply | RoutedCompletion":
        """Lists models to anybody; else checks the key, then the path, then the body."""
        place = call.method, call.path.split("/")
        if place == ("GET", ["models"]):
            return success(listing(), {})
        if key is None or not key.startswith(self.key_prefix):
            raise refuse_key(key)
        match place:
            case "POST", ["chat", "completions"]:
                check(call.payload)
                return RoutedCompletion.from_call(call)
            case "POST", ["embeddings"]:
                return _embeddings(call.payload)
            case "GET", ["models", "user"]:
                return success(listing(), {})
            case "GET", ["key"]:
                return success({"data": _key_data(key)}, {})
            case _, ["chat", "completions"] | ["embeddings"] | ["key"] | ["models"]:
                raise refuse(405, "Method Not Allowed")
            case _:
                raise refuse(404, "Not Found")

    def failure(self, status: int) -> Reply:
        """Says what OpenRouter says with this status."""
        return error_reply(status, bad_day(status))

    def stream_failure(self) -> bytes:
        """Makes the chunk OpenRouter sends when a provider fails after the headers."""
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error", "native_finish_reason": None}
        error = {
            "code": 502,
            "message": "Provider disconnected unexpectedly",
            "metadata": {
                "error_type": "provider_unavailable",
                "provider_name": "OpenAI",
                "provider_code": "server_error",
            },
        }
        frame = {"id": "gen-sandbox", "object": "chat.completion.chunk", "created": CREATED}
        return event(
            {**frame, "model": "openai/gpt-6.1-terra", "provider": "OpenAI", "error": error, "choices": [choice]}
        )


def _embeddings(payload: Any) -> Reply:
    """Embeds with a model of OpenAI, and tells what it cost."""
    size = EMBEDDING_SIZES.get(payload["model"].removeprefix("openai/"))
    if size is None:
        raise refuse(404, f"No endpoints found for {payload['model']}.")
    found = embedding_list(payload, size)
    found["usage"]["cost"] = found["usage"]["prompt_tokens"] * PROMPT_PRICE
    return success(found, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedCompletion:
    """A valid request for a chat completion."""

    question: Question
    streamed: bool
    tells_reasoning: bool

    @classmethod
    def from_call(cls, call: Call) -> "RoutedCompletion":
        """Reads a request that `check` has let pass."""
        request: dict[str, Any] = call.payload
        reasoning: dict[str, Any] = request.get("reasoning") or {}
        effort = reasoning.get("effort") or request.get("reasoning_effort")
        if effort is None:
            effort = "medium" if reasoning.get("enabled") or reasoning.get("max_tokens") else "none"
        model = request["model"]
        return cls(
            question=read_question(call, model=model, reasoning_tokens=EFFORT_TOKENS[effort] if reasons(model) else 0),
            streamed=bool(request.get("stream")),
            tells_reasoning=not reasoning.get("exclude"),
        )

    def whole(self, answer: Answer, behaviour: Behaviour) -> Reply:
        """Puts the answer into a `chat.completion`."""
        _moderate(answer, behaviour)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if answer.tool_calls else answer.text,
            "refusal": None,
            "reasoning": None,
        }
        if answer.reasoning and self.tells_reasoning:
            message |= {"reasoning": answer.reasoning, "reasoning_details": _details(answer)}
        if answer.tool_calls:
            message["tool_calls"] = whole_tool_calls(answer)
        choice = {"index": 0, "logprobs": None, **_ending(answer), "message": message}
        body = {**_frame(answer, "chat.completion"), "system_fingerprint": None, "choices": [choice]}
        if not behaviour.omit_usage:
            body["usage"] = _usage(answer, behaviour)
        return success(body | behaviour.extra_fields, _headers(answer))

    def stream(self, answer: Answer, behaviour: Behaviour) -> Transcript:
        """Puts the answer into `chat.completion.chunk`s; thoughts come before what counts as output."""
        _moderate(answer, behaviour)
        frame = _frame(answer, "chat.completion.chunk")

        def chunk(delta: dict[str, Any], ending: Mapping[str, Any] | None = None, **facts: Any) -> bytes:
            choice = {
                "index": 0,
                "delta": {"role": "assistant", **delta},
                **(ending or {"finish_reason": None, "native_finish_reason": None}),
                "logprobs": None,
            }
            return event({**frame, "choices": [choice], **behaviour.extra_fields, **facts})

        thoughts = _thoughts(answer) if answer.reasoning and self.tells_reasoning else ()
        closing = chunk({"content": ""}, _ending(answer))
        if not behaviour.omit_usage:
            closing += chunk({"content": ""}, _ending(answer), usage=_usage(answer, behaviour))
        return Transcript(
            opening=chunk({"content": ""}) + b"".join(chunk({"content": "", **thought}) for thought in thoughts),
            chunks=(
                *(chunk({"content": text}) for text in answer.chunks),
                *(chunk({"content": None, "tool_calls": [fragment]}) for fragment in tool_call_fragments(answer)),
            ),
            closing=closing,
            done=DONE,
            headers={**_headers(answer), "content-type": "text/event-stream"},
            waiting=_WAITING,
        )


def _moderate(answer: Answer, behaviour: Behaviour) -> None:
    if behaviour.block_prompt:
        raise moderated(answer.model, author(answer.model).name)


def _details(answer: Answer) -> list[dict[str, Any]]:
    """Notes about the reasoning, in the form of the model's author."""
    form = author(answer.model).reasoning_format
    if form == "anthropic-claude-v1":
        text = {"type": "reasoning.text", "text": answer.reasoning, "signature": sign(answer.reasoning)}
        return [{**text, "format": form, "index": 0}]
    if form == "unknown":
        return [{"type": "reasoning.text", "text": answer.reasoning, "format": form, "index": 0}]
    sealed = {"type": "reasoning.encrypted", "data": _SEALED, "id": "rs_sandbox"}
    return [
        {"type": "reasoning.summary", "summary": answer.reasoning, "format": form, "index": 0},
        {**sealed, "format": form, "index": 1},
    ]


def _thoughts(answer: Answer) -> Iterator[dict[str, Any]]:
    """Divides the notes into fragments: texts by token, their signature at the end; what is sealed comes whole."""
    for detail in _details(answer):
        member = "summary" if "summary" in detail else "text"
        if member not in detail:
            yield {"reasoning_details": [detail]}
            continue
        seal = {"signature": None} if "signature" in detail else {}
        for fragment in tokens.split(answer.reasoning):
            yield {"reasoning": fragment, "reasoning_details": [{**detail, **seal, member: fragment}]}
        if seal:
            yield {"reasoning_details": [{name: value for name, value in detail.items() if name != member}]}


def _frame(answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": f"gen-{answer.digest}",
        "provider": author(answer.model).name,
        "model": answer.model,
        "object": kind,
        "created": CREATED,
    }


def _ending(answer: Answer) -> dict[str, Any]:
    native = author(answer.model).finish_reasons[answer.finish_reason]
    return {"finish_reason": answer.finish_reason, "native_finish_reason": native}


def _usage(answer: Answer, behaviour: Behaviour) -> dict[str, Any]:
    usage = answer.usage
    prompt_cost, completion_cost = usage.prompt * PROMPT_PRICE, usage.completion * COMPLETION_PRICE
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "cost": prompt_cost + completion_cost,
        "is_byok": False,
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 0, "video_tokens": 0},
        "cost_details": {
            "upstream_inference_cost": None,
            "upstream_inference_prompt_cost": prompt_cost,
            "upstream_inference_completions_cost": completion_cost,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "image_tokens": 0, "audio_tokens": 0},
        **behaviour.usage,
    }


def _headers(answer: Answer) -> dict[str, str]:
    """OpenRouter's; a success tells nothing of rate limits."""
    return {"x-generation-id": f"gen-{answer.digest}"}


def _key_data(key: str) -> dict[str, Any]:
    usage = {
        f"{kind}{period}": 0.0 for kind in ("usage", "byok_usage") for period in ("", "_daily", "_weekly", "_monthly")
    }
    return {
        "label": f"{key[:12]}...{key[-3:]}",
        "limit": 100.0,
        "limit_remaining": 99.5,
        "limit_reset": None,
        "include_byok_in_limit": False,
        **usage,
        "usage": 0.5,
        "is_free_tier": False,
        "is_management_key": False,
        "is_provisioning_key": False,
        "creator_user_id": "user_sandbox",
        "organization_id": None,
        "workspace_id": None,
        "allowed_data_regions": ["global"],
        "budgets": [],
        "effective_budget": None,
        "expires_at": None,
        "free_model_daily_requests": {"limit": 1000, "remaining": 1000, "used": 0},
        "rate_limit": {"interval": "10s", "note": "This field is deprecated and safe to ignore.", "requests": -1},
    }
