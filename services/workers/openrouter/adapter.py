"""What OpenRouter does its own way. https://openrouter.ai/docs

It routes to other providers, reports what each answer cost, leaves out by itself what a model does not take, and
hands out notes about reasoning that it wants back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from realmultillm.provider.v1 import provider_service_pb2 as provider_pb2

from libs.errors import ProviderError
from libs.worker.adapter import MOST_MODELS
from libs.worker.failures import Failures
from libs.worker.openai_dialect import ModelRules, OpenAIDialect
from libs.worker.openai_dialect.model_list import listed_model
from libs.worker.reasoning_notes import came_routed
from libs.worker.reported_costs import cost_usd
from libs.worker.token_counts import member, size
from libs.worker.unsupported_options import UnsupportedOptions
from services.workers.openrouter.errors import read_own_error
from services.workers.openrouter.settings import AppSettings

_MODELS_OF_THE_KEY = "/models/user"
_RULES = ModelRules(most_stops=4)


def rules_of(model: str, effort: str) -> ModelRules:  # noqa: ARG001 - the signature of RulesOf
    """Returns what OpenRouter takes for every model; what a model does not take it leaves out by itself."""
    return _RULES


def ask_for_effort(body: dict[str, Any], effort: str) -> None:
    """Asks for reasoning in OpenRouter's own form, which it translates for every model."""
    body["reasoning"] = {"effort": effort}


def fit_body(body: dict[str, Any], unsupported: UnsupportedOptions) -> None:  # noqa: ARG001 - the signature of FitBody
    """Has refused what would change the meaning of the answer; the rest OpenRouter leaves out where a model lacks it.

    Tools are never passed over. https://openrouter.ai/docs/guides/routing/provider-selection
    """
    if "stop" in body or body.get("response_format", {"type": "text"})["type"] != "text":
        body["provider"] = {"require_parameters": True}


def read_cost(usage: Any) -> float | None:
    """Reads what an answer cost, in US dollars.

    Where OpenRouter used the person's own key with the provider behind it, `cost` is its fee alone, and what that
    provider charges comes on top. https://openrouter.ai/docs/cookbook/administration/usage-accounting
    """
    cost = cost_usd(member(usage, "cost"))
    if cost is not None and usage.get("is_byok") is True:
        upstream = cost_usd(member(usage.get("cost_details"), "upstream_inference_cost"))
        return cost_usd(cost + (upstream or 0.0))
    return cost


def check_key(failures: Failures, answer: dict[str, Any], model: str) -> ProviderError | None:
    """Finds what is wrong with a key that OpenRouter knows. https://openrouter.ai/docs/api_reference/limits

    With a model the answer is the list of models the key may use. A variant (`…:nitro`) is the model before the colon;
    the names that stand for a choice (`~author/family-latest`, `@preset/name`) are in no list.
    """
    if model:
        listed = {each["id"] for each in answer["data"]}
        known = not listed.isdisjoint((model, model.partition(":")[0])) or model.startswith(("~", "@"))
        return None if known else failures.model_not_found()
    key = answer["data"]
    if key.get("is_management_key") or key.get("is_provisioning_key"):
        return failures.permission_denied()  # such keys make other keys, and may not chat
    budgets = (key.get("limit_remaining"), (key.get("effective_budget") or {}).get("remaining_usd"))
    if any(left is not None and left <= 0 for left in budgets):
        return failures.quota_exhausted()
    return None


def models_for_chats(answer: dict[str, Any]) -> Iterable[provider_pb2.Model]:
    """Reads the list of models; those that answer with something else than text are left out."""
    for listed in answer["data"][:MOST_MODELS]:
        if "text" not in (listed.get("architecture") or {}).get("output_modalities", ("text",)):
            continue
        model = listed_model(listed)
        if longest := size((listed.get("top_provider") or {}).get("max_completion_tokens")):
            model.max_output_tokens = longest
        yield model


_ADAPTER = OpenAIDialect(
    provider="openrouter",
    display_name="OpenRouter",
    endpoint="https://openrouter.ai/api/v1",
    # Cheap, and of a provider that stops, and stops charging, when the caller leaves; several behind OpenRouter do not.
    default_model="deepseek/deepseek-v4.1-flash",
    # `max_tokens` is the deprecated name.
    answer_limit_field="max_completion_tokens",
    # Usage comes on every stream; asking for it is deprecated and has no effect.
    stream_options={},
    ask_for_effort=ask_for_effort,
    fit_body=fit_body,
    gave_detail=came_routed,
    rules_of=rules_of,
    read_cost=read_cost,
    read_own_error=read_own_error,
    key_test_path="/key",
    check_key=check_key,
    # Those the key may use. What is at `/models` is public, and says nothing about a key.
    model_test_path=_MODELS_OF_THE_KEY,
    models_path=_MODELS_OF_THE_KEY,
    listed_models=models_for_chats,
)


def adapter_of(app: AppSettings) -> OpenAIDialect:
    """Makes the adapter of a deployment. https://openrouter.ai/docs/app-attribution"""
    headers = {"x-openrouter-title": app.app_title, "x-title": app.app_title}  # the name of today and that of before
    if app.app_url:
        headers["http-referer"] = app.app_url
    return replace(_ADAPTER, extra_headers=headers)


ADAPTER = adapter_of(AppSettings())
