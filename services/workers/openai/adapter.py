"""What OpenAI does its own way. https://platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from realmultillm.provider.v1 import provider_service_pb2 as provider_pb2

from libs.worker.openai_dialect import OpenAIDialect
from libs.worker.openai_dialect.model_list import models_in_data
from services.workers.openai.model_rules import chats, rules_of


def models_for_chats(answer: dict[str, Any]) -> Iterable[provider_pb2.Model]:
    """Reads the list of models, which has every kind there is and does not say which is which."""
    return (model for model in models_in_data(answer) if chats(model.id))


ADAPTER = OpenAIDialect(
    provider="openai",
    display_name="OpenAI",
    endpoint="https://api.openai.com/v1",
    default_model="gpt-4o-mini",
    # `max_tokens` is refused by the reasoning models; this name is understood by all of them.
    answer_limit_field="max_completion_tokens",
    rules_of=rules_of,
    listed_models=models_for_chats,
)
