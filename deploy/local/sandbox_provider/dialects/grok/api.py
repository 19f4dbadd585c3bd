"""xAI's chat completions, as its API reference describes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.local.sandbox_provider import tokens
from deploy.local.sandbox_provider.answering import Answer, Question
from deploy.local.sandbox_provider.control_messages import Behaviour
from deploy.local.sandbox_provider.dialects.dialect import Call, Reply, Transcript
from deploy.local.sandbox_provider.dialects.grok.errors import (
    bad_day,
    error_reply,
    refuse,
    refuse_key,
    unknown_model,
)
from deploy.local.sandbox_provider.dialects.grok.models import (
    MODELS,
    language_model,
    reasoning_tokens,
    resolve,
)
from deploy.local.sandbox_provider.dialects.grok.validation import check
from deploy.local.sandbox_provider.dialects.openai.requests import (
    TOKENS_PER_IMAGE,
    bearer_key,
    images,
    model_in_body,
    read_question,
)
from deploy.local.sandbox_provider.dialects.openai.wire import (
    CREATED,
    DONE,
    event,
    model_entry,
    model_list,
    success,
    whole_tool_calls,
)

_LIMITS = {
    "x-ratelimit-limit-requests": "600",
    "x-ratelimit-remaining-requests": "599",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-tokens": "1999900",
}


class Grok:
    """Serves `chat/completions`, `models`, `language-models` and `api-key`."""

    mount = "/grok/v1"
    key_prefix = "xai-sandbox"

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Finds the bearer token."""
        return bearer_key(headers)

    def model(self, path: str, payload: Any) -> str | None:  # noqa: ARG002 - other dialects have it in the path
        """Finds `model` in the body."""
        return model_in_body(payload)

    def receive(self, call: Call, key: str | None) -> "Reply | GrokCompletion":
        """Checks the key, then the path, then the body."""
        if key is None or not key.startswith(self.key_prefix):
            raise refuse_key(key)
        match call.method, call.path.split("/"):
            case "POST", ["chat", "completions"]:
                check(call.payload)
                return GrokCompletion.from_call(call)
            case "GET", ["api-key"]:
                return success(_key_data(key), {})
            case "GET", ["models"]:
                return success(model_list(MODELS, "xai"), {})
            case "GET", ["models", name]:
                return success(model_entry(_known(name), "xai"), {})
            case "GET", ["language-models"]:
                return success({"models": [language_model(name) for name in MODELS]}, {})
            case "GET", ["language-models", name]:
                return success(language_model(_known(name)), {})
            case _, ["chat", "completions"] | ["api-key"] | ["models"] | ["language-models"]:
                raise refuse(405)
            case _:
                raise refuse(404)

    def failure(self, status: int) -> Reply:
        """Says what xAI says with this status."""
        return error_reply(status, bad_day(status))

    def stream_failure(self) -> bytes:
        """Makes the event xAI sends when it fails after the headers: the error body as it is."""
        return event(bad_day(500))


@dataclass(frozen=True, slots=True, kw_only=True)
class GrokCompletion:
    """A valid request for a chat completion."""

    question: Question
    streamed: bool
    include_usage: bool
    image_tokens: int

    @classmethod
    def from_call(cls, call: Call) -> "GrokCompletion":
        """Reads a request that `check` has let pass."""
        request: dict[str, Any] = call.payload
        name = request["model"]
        return cls(
            question=read_question(
                call,
                model=resolve(name) or name,
                reasoning_tokens=reasoning_tokens(name, request.get("reasoning_effort")),
                limit_covers_reasoning=False,
            ),
            streamed=bool(request.get("stream")),
            include_usage=bool((request.get("stream_options") or {}).get("include_usage")),
            image_tokens=images(request) * TOKENS_PER_IMAGE,
        )

    def whole(self, answer: Answer, behaviour: Behaviour) -> Reply:
        """Puts the answer into a `chat.completion`."""
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
        if thoughts := _thoughts(answer, behaviour):
            message["reasoning_content"] = thoughts
        if answer.tool_calls:
            message["tool_calls"] = whole_tool_calls(answer)
        choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
        body = {**_frame(answer, "chat.completion"), "choices": [choice]}
        if not behaviour.omit_usage:
            body["usage"] = self._usage(answer, behaviour)
        return success(body | behaviour.extra_fields, _headers(answer))

    def stream(self, answer: Answer, behaviour: Behaviour) -> Transcript:
        """Puts the answer into `chat.completion.chunk`s; each tool call comes whole, in one of them."""
        frame = _frame(answer, "chat.completion.chunk")

        def chunk(delta: dict[str, Any], **ending: Any) -> bytes:
            return event({**frame, "choices": [{"index": 0, "delta": delta, **ending}], **behaviour.extra_fields})

        closing = chunk({}, finish_reason=answer.finish_reason)
        if self.include_usage and not behaviour.omit_usage:
            facts = {"usage": self._usage(answer, behaviour)}
            closing += event({**frame, "choices": [], **behaviour.extra_fields, **facts})
        thoughts = tokens.split(_thoughts(answer, behaviour))
        calls = enumerate(whole_tool_calls(answer))
        return Transcript(
            opening=chunk({"role": "assistant", "content": ""})
            + b"".join(chunk({"role": "assistant", "reasoning_content": thought}) for thought in thoughts),
            chunks=(
                *(chunk({"role": "assistant", "content": text}) for text in answer.chunks),
                *(chunk({"role": "assistant", "tool_calls": [{"index": index, **call}]}) for index, call in calls),
            ),
            closing=closing,
            done=DONE,
            headers={**_headers(answer), "content-type": "text/event-stream; charset=utf-8"},
        )

    def _usage(self, answer: Answer, behaviour: Behaviour) -> dict[str, Any]:
        """Counts; reasoning is beside the completion and not in it, and the total counts all three."""
        usage, model = answer.usage, MODELS[answer.model]
        return {
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion - usage.reasoning,
            "total_tokens": usage.prompt + usage.completion,
            "prompt_tokens_details": {
                "text_tokens": usage.prompt - self.image_tokens,
                "audio_tokens": 0,
                "image_tokens": self.image_tokens,
                "cached_tokens": 0,
            },
            "completion_tokens_details": {
                "reasoning_tokens": usage.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
            "num_sources_used": 0,
            "cost_in_usd_ticks": usage.prompt * model.prompt_price + usage.completion * model.completion_price,
            **behaviour.usage,
        }


def _thoughts(answer: Answer, behaviour: Behaviour) -> str:
    told = behaviour.reasoning is not None or MODELS[answer.model].tells_thoughts
    return answer.reasoning if told else ""


def _known(name: str) -> str:
    model = resolve(name)
    if model is None:
        raise unknown_model(name)
    return model


def _frame(answer: Answer, kind: str) -> dict[str, Any]:
    digest = answer.digest
    return {
        "id": f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}",
        "object": kind,
        "created": CREATED,
        "model": answer.model,
        "system_fingerprint": "fp_sandbox",
    }


def _headers(answer: Answer) -> dict[str, str]:
    return {**_LIMITS, "x-request-id": answer.digest}


def _key_data(key: str) -> dict[str, Any]:
    return {
        "redacted_api_key": f"xai-...{key[-4:]}",
        "user_id": "user-sandbox",
        "name": "Sandbox key",
        "create_time": "2026-01-01T00:00:00.000000Z",
        "modify_time": "2026-01-01T00:00:00.000000Z",
        "modified_by": "user-sandbox",
        "team_id": "team-sandbox",
        "acls": ["api-key:model:*", "api-key:endpoint:*"],
        "api_key_id": "key-sandbox",
        "team_blocked": False,
        "api_key_blocked": False,
        "api_key_disabled": False,
    }
