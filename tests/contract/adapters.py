"""The adapters under contract, and what the suite must know of each provider to steer and check it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from libs.provider_catalog import GENERIC_WORKER, Provider
from libs.worker.adapter import Adapter
from services.workers.anthropic.adapter import ADAPTER as ANTHROPIC
from services.workers.google_ai.adapter import ADAPTER as GOOGLE_AI
from services.workers.grok.adapter import ADAPTER as GROK
from services.workers.openai.adapter import ADAPTER as OPENAI
from services.workers.openai_compatible.adapter import adapter_of
from services.workers.openrouter.adapter import ADAPTER as OPENROUTER

SECRET_WORDS = "quoting your key sk-1234567890abcdef"
"""What each provider below says beside the reason, and nobody may see."""

# Status and body.
Failure = tuple[int, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What an answer used, as the provider tells it and as it must come out.

    `told` is laid over the usage, in the provider's own names; `counts` are ours, by the names of the usage record.
    """

    told: Mapping[str, Any]
    counts: Mapping[str, int]
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderContract:
    """One adapter.

    `mount` is its place in the sandbox and `key_prefix` the form of the keys there; `key_header` holds the key after
    `key_scheme`. `other_model` is one more that does not think unless told to, `thinking_model` one that can.
    `tells_reasoning` says whether the provider shows what a model thinks. `needs_terminal_event` says whether an
    answer is cut short when the event after its last fact is missing. No stream without one of
    `terminal_signs` is whole. `long_limit` is the lowest limit on an answer with which even a whole one is asked for
    as a stream; None where none is. `spent` has every kind of token the provider tells apart. `failures` are what the
    provider answers, by the reason it must come to.
    """

    adapter: Adapter
    mount: str
    key_prefix: str
    key_header: str = "authorization"
    key_scheme: str = "Bearer "
    other_model: str
    thinking_model: str
    terminal_signs: tuple[bytes, ...] = (b'"finish_reason":"', b"[DONE]")
    tells_reasoning: bool = True
    needs_terminal_event: bool = False
    long_limit: int | None = None
    spent: Spent
    failures: Mapping[str, tuple[Failure, ...]]


def _openai(status: int, words: str = "", **error: Any) -> Failure:
    return status, {"error": {"message": words + SECRET_WORDS, **error}}


def _anthropic(status: int, kind: str, words: str = "", **error: Any) -> Failure:
    return status, {"type": "error", "error": {"type": kind, "message": words + SECRET_WORDS, **error}}


def _google(status: int, name: str, *details: dict[str, Any], words: str = "") -> Failure:
    error = {"code": status, "message": words + SECRET_WORDS, "status": name, "details": list(details)}
    return status, {"error": error}


def _quota(identity: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": identity}]}


def _xai(status: int, words: str = "") -> Failure:
    return status, {"code": "Some requested entity", "error": words + SECRET_WORDS}


_BUSY: Failure = (503, "<html>busy</html>" + SECRET_WORDS)

_OPENAI_FAILURES: Mapping[str, tuple[Failure, ...]] = {
    "INVALID_API_KEY": (_openai(401, code="invalid_api_key"),),
    "PROVIDER_PERMISSION_DENIED": (_openai(403),),
    "MODEL_NOT_FOUND": (_openai(404, code="model_not_found"),),
    "CONTEXT_LENGTH_EXCEEDED": (_openai(400, code="context_length_exceeded"),),
    "PROVIDER_REJECTED_REQUEST": (_openai(400, param="temperature"),),
    "PROVIDER_QUOTA_EXHAUSTED": (_openai(429, code="insufficient_quota"), _openai(402)),
    "PROVIDER_RATE_LIMITED": (_openai(429), _openai(429, code="slow_down")),
    "PROVIDER_UNAVAILABLE": (_openai(500), _BUSY),
}
# 1,000 sent, of which 600 were in the cache and 250 were put there; 300 received, of which 200 were thoughts.
_OPENAI_USAGE: Mapping[str, Any] = {
    "prompt_tokens": 1_000,
    "completion_tokens": 300,
    "total_tokens": 1_300,
    "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 250},
    "completion_tokens_details": {"reasoning_tokens": 200},
}
_OPENAI_COUNTS: Mapping[str, int] = {
    "prompt_tokens": 1_000,
    "completion_tokens": 300,
    "cached_tokens": 600,
    "cache_write_tokens": 250,
    "reasoning_tokens": 200,
}

# A provider that is a row of the catalogue and nothing else; the sandbox's OpenAI plays it.
_ROW = Provider(
    id="openai-compatible",
    name="Our own server",
    endpoint="http://127.0.0.1:8000/v1",
    models=("gpt-4o-mini", "gpt-4o", "gpt-5"),
    max_tokens=16_384,
    max_context_length=128_000,
    worker=GENERIC_WORKER,
    default_model="gpt-4o-mini",
    answer_limit_field="max_completion_tokens",
)

UNDER_CONTRACT: dict[str, UnderContract] = {
    "openai": UnderContract(
        adapter=OPENAI,
        mount="/openai/v1",
        key_prefix="sk-sandbox-",
        other_model="gpt-4o",
        thinking_model="gpt-5",
        tells_reasoning=False,
        spent=Spent(told=_OPENAI_USAGE, counts=_OPENAI_COUNTS),
        failures=_OPENAI_FAILURES,
    ),
    "openai-compatible": UnderContract(
        adapter=adapter_of(_ROW.id, {_ROW.id: _ROW}),
        mount="/openai/v1",
        key_prefix="sk-sandbox-",
        other_model="gpt-4o",
        thinking_model="gpt-5",
        tells_reasoning=False,
        spent=Spent(told=_OPENAI_USAGE, counts=_OPENAI_COUNTS),
        failures=_OPENAI_FAILURES,
    ),
    "anthropic": UnderContract(
        adapter=ANTHROPIC,
        mount="/anthropic/v1",
        key_prefix="sk-ant-sandbox-",
        key_header="x-api-key",
        key_scheme="",
        other_model="claude-sonnet-4-6",
        thinking_model="claude-sonnet-4-6",
        terminal_signs=(b'"type":"message_stop"',),
        needs_terminal_event=True,
        long_limit=21_334,
        spent=Spent(
            # 150 + 600 + 250 make 1,000 sent: what was read from the cache and put there stands beside the rest.
            told={
                "input_tokens": 150,
                "cache_read_input_tokens": 600,
                "cache_creation_input_tokens": 250,
                "cache_creation": {"ephemeral_5m_input_tokens": 170, "ephemeral_1h_input_tokens": 80},
                "output_tokens": 300,
                "output_tokens_details": {"thinking_tokens": 200},
            },
            counts={
                "prompt_tokens": 1_000,
                "completion_tokens": 300,
                "cached_tokens": 600,
                "cache_write_tokens": 250,
                "cache_write_1h_tokens": 80,
                "reasoning_tokens": 200,
            },
        ),
        failures={
            "INVALID_API_KEY": (_anthropic(401, "authentication_error"),),
            "PROVIDER_PERMISSION_DENIED": (_anthropic(403, "permission_error"),),
            "MODEL_NOT_FOUND": (_anthropic(404, "not_found_error", "model: x "),),
            "CONTEXT_LENGTH_EXCEEDED": (
                _anthropic(400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum "),
            ),
            "PROVIDER_REJECTED_REQUEST": (_anthropic(400, "invalid_request_error"),),
            "PROVIDER_QUOTA_EXHAUSTED": (
                _anthropic(402, "billing_error"),
                _anthropic(400, "invalid_request_error", "Your credit balance is too low to access the API. "),
            ),
            "PROVIDER_RATE_LIMITED": (_anthropic(429, "rate_limit_error"),),
            "PROVIDER_UNAVAILABLE": (_anthropic(500, "api_error"), _anthropic(529, "overloaded_error"), _BUSY),
        },
    ),
    "google-ai": UnderContract(
        adapter=GOOGLE_AI,
        mount="/google-ai/v1beta",
        key_prefix="AIza-sandbox-",
        key_header="x-goog-api-key",
        key_scheme="",
        terminal_signs=(b'"finishReason"', b'"blockReason"'),
        other_model="gemini-2.5-flash-lite",
        thinking_model="gemini-3.5-flash",
        long_limit=32_769,
        spent=Spent(
            # 900 + 100 make 1,000 sent, and 100 + 200 the 300 received; what is cached is part of the 900.
            told={
                "promptTokenCount": 900,
                "toolUsePromptTokenCount": 100,
                "cachedContentTokenCount": 600,
                "candidatesTokenCount": 100,
                "thoughtsTokenCount": 200,
            },
            counts={
                "prompt_tokens": 1_000,
                "completion_tokens": 300,
                "cached_tokens": 600,
                "tool_use_tokens": 100,
                "reasoning_tokens": 200,
            },
        ),
        failures={
            "INVALID_API_KEY": (
                _google(
                    400,
                    "INVALID_ARGUMENT",
                    {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"},
                ),
                _google(401, "UNAUTHENTICATED"),
            ),
            "PROVIDER_PERMISSION_DENIED": (_google(403, "PERMISSION_DENIED"),),
            "MODEL_NOT_FOUND": (_google(404, "NOT_FOUND"),),
            "CONTEXT_LENGTH_EXCEEDED": (
                _google(
                    400,
                    "INVALID_ARGUMENT",
                    words="The input token count (2000000) exceeds the maximum number of tokens allowed (1048576). ",
                ),
            ),
            "PROVIDER_REJECTED_REQUEST": (_google(400, "INVALID_ARGUMENT"),),
            "PROVIDER_QUOTA_EXHAUSTED": (
                _google(429, "RESOURCE_EXHAUSTED", _quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier")),
                _google(402, "RESOURCE_EXHAUSTED"),
            ),
            "PROVIDER_RATE_LIMITED": (
                _google(429, "RESOURCE_EXHAUSTED", _quota("GenerateRequestsPerMinutePerProjectPerModel")),
                _google(429, "RESOURCE_EXHAUSTED"),
            ),
            "PROVIDER_UNAVAILABLE": (_google(500, "INTERNAL"), _google(503, "UNAVAILABLE"), _BUSY),
        },
    ),
    "openrouter": UnderContract(
        adapter=OPENROUTER,
        mount="/openrouter/v1",
        key_prefix="sk-or-sandbox-",
        other_model="moonshotai/kimi-k3",
        thinking_model="anthropic/claude-sonnet-5.5",
        spent=Spent(told={**_OPENAI_USAGE, "cost": 0.0125}, counts=_OPENAI_COUNTS, cost_usd=0.0125),
        failures={
            "INVALID_API_KEY": (_openai(401, code=401),),
            "PROVIDER_PERMISSION_DENIED": (_openai(403, code=403),),
            "MODEL_NOT_FOUND": (_openai(404, code=404),),
            "CONTEXT_LENGTH_EXCEEDED": (
                _openai(400, "This endpoint's maximum context length is 8192 tokens. ", code=400),
            ),
            "PROVIDER_REJECTED_REQUEST": (
                _openai(400, code=400),
                _openai(404, "No endpoints found that can handle the requested parameters. ", code=404),
            ),
            "PROVIDER_QUOTA_EXHAUSTED": (_openai(402, code=402),),
            "PROVIDER_RATE_LIMITED": (_openai(429, code=429),),
            "PROVIDER_UNAVAILABLE": (_openai(502, code=502), _openai(503, code=503), _BUSY),
        },
    ),
    "grok": UnderContract(
        adapter=GROK,
        mount="/grok/v1",
        key_prefix="xai-sandbox-",
        other_model="grok-4-1-fast-non-reasoning",
        thinking_model="grok-3-mini",
        spent=Spent(
            # 100 + 200 make 300 received: the total counts the thoughts beside the completion. 1e10 ticks are a dollar.
            told={
                "prompt_tokens": 1_000,
                "completion_tokens": 100,
                "total_tokens": 1_300,
                "prompt_tokens_details": {"cached_tokens": 600},
                "completion_tokens_details": {"reasoning_tokens": 200},
                "cost_in_usd_ticks": 125_000_000,
            },
            counts={"prompt_tokens": 1_000, "completion_tokens": 300, "cached_tokens": 600, "reasoning_tokens": 200},
            cost_usd=0.0125,
        ),
        failures={
            "INVALID_API_KEY": (_xai(401), _xai(400, "Incorrect API key provided: xa***ey. ")),
            "PROVIDER_PERMISSION_DENIED": (_xai(403),),
            "MODEL_NOT_FOUND": (_xai(404),),
            "CONTEXT_LENGTH_EXCEEDED": (
                _xai(400, "This model's maximum prompt length is 131072 but the request contains 200000 tokens. "),
            ),
            "PROVIDER_REJECTED_REQUEST": (_xai(400), _xai(422)),
            "PROVIDER_QUOTA_EXHAUSTED": (_xai(402),),
            "PROVIDER_RATE_LIMITED": (_xai(429),),
            "PROVIDER_UNAVAILABLE": (_xai(500), _BUSY),
        },
    ),
}
