"""What xAI does its own way. https://docs.x.ai/docs/api-reference"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.provider.v1 import provider_service_pb2 as provider_pb2

from libs.errors import ProviderError
from libs.worker.adapter import MOST_MODELS
from libs.worker.failures import Failures
from libs.worker.json_facts import text, words
from libs.worker.openai_dialect import OpenAIDialect
from libs.worker.openai_dialect.errors import read_error
from libs.worker.openai_dialect.model_list import listed_model
from libs.worker.reported_costs import cost_usd
from libs.worker.seeds import fits_32_bits
from libs.worker.token_counts import count, member, tells, usage_of
from libs.worker.unsupported_options import UnsupportedOptions
from services.workers.grok.model_rules import rules_of

_TICKS_PER_DOLLAR = 10_000_000_000
_NO_PARAMETERS = {"type": "object", "properties": {}}

_WRONG_KEY = re.compile(r"(Incorrect|Invalid) API key")
# No money and too much at a time may come with the same status; what to do differs.
_NO_MONEY = re.compile(r"credits|spending limit")
# What stands for a status in an event of a stream, which has none.
_STATUS_OF_CODE = {
    "Client specified an invalid argument": 400,
    "The caller does not have permission to execute the specified operation": 403,
    "Some requested entity was not found": 404,
    "Some resource has been exhausted": 429,
}
_UNSAID = 502


def read_usage(usage: Any) -> chat.Usage | None:
    """Reads a usage object. Chats count reasoning beside the completion, other answers of xAI within it.

    The total tells which: it is the sum of what stands side by side.
    """
    if not tells(usage, "prompt_tokens", "completion_tokens"):
        return None
    sent, received = member(usage, "prompt_tokens_details"), member(usage, "completion_tokens_details")
    prompt, completion = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
    reasoning = count(received, "reasoning_tokens")
    if count(usage, "total_tokens") == prompt + completion + reasoning:
        completion += reasoning
    return usage_of(prompt, completion, cached=count(sent, "cached_tokens"), reasoning=reasoning)


def read_cost(usage: Any) -> float | None:
    """Reads what an answer cost, in US dollars; xAI counts in ticks."""
    ticks = member(usage, "cost_in_usd_ticks")
    return cost_usd(ticks, per_dollar=_TICKS_PER_DOLLAR) if isinstance(ticks, int) else None


def fit_body(body: dict[str, Any], unsupported: UnsupportedOptions) -> None:
    """Makes a body one that xAI can read: it refuses some that others take, without saying which member is wrong."""
    for tool in body.get("tools", ()):
        tool["function"].setdefault("parameters", _NO_PARAMETERS)
    if "seed" in body and not fits_32_bits(body["seed"], "Grok", unsupported):
        del body["seed"]
    if body.get("top_p") == 0:
        del body["top_p"]
        unsupported.drop("options.topP", "Grok takes no topP of 0.")


def read_own_error(failures: Failures, status: int, error: dict[str, Any], wait: float | None) -> ProviderError | None:
    """Reads an error by xAI's words, which are all it has: its codes say no more than the status."""
    said = _STATUS_OF_CODE.get(text(error.get("code")))
    if status == _UNSAID and said is not None:
        return read_own_error(failures, said, error, wait) or read_error(failures, said, error, wait)
    message = words(error.get("message"))
    if status == 400 and _WRONG_KEY.search(message):
        return failures.key_rejected()
    if status in (403, 429) and _NO_MONEY.search(message):
        return failures.quota_exhausted()
    return None


def check_key(failures: Failures, answer: dict[str, Any], model: str) -> ProviderError | None:  # noqa: ARG001 - its path has named it
    """Finds what is wrong with a key that xAI knows."""
    if answer.get("api_key_blocked") or answer.get("api_key_disabled"):
        return failures.key_rejected()
    if answer.get("team_blocked"):
        return failures.permission_denied()
    return None


def language_models(answer: dict[str, Any]) -> Iterable[provider_pb2.Model]:
    """Reads the list of models that chat; it has a form of its own."""
    return map(listed_model, answer["models"][:MOST_MODELS])


ADAPTER = OpenAIDialect(
    provider="grok",
    display_name="Grok",
    endpoint="https://api.x.ai/v1",
    default_model="grok-4.3",
    # `max_tokens` is the deprecated name.
    answer_limit_field="max_completion_tokens",
    stream_options={"include_usage": True},
    rules_of=rules_of,
    fit_body=fit_body,
    read_usage=read_usage,
    read_cost=read_cost,
    read_own_error=read_own_error,
    key_test_path="/api-key",
    check_key=check_key,
    # `/models` has those for pictures too.
    models_path="/language-models",
    embeds=False,
    listed_models=language_models,
)
