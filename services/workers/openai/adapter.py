"""What OpenAI does its own way. https://platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

from libs.worker.openai_dialect import OpenAIDialect
from services.workers.openai.models import rules_of

ADAPTER = OpenAIDialect(
    provider="openai",
    display_name="OpenAI",
    endpoint="https://api.openai.com/v1",
    default_model="gpt-4o-mini",
    # `max_tokens` is refused by the reasoning models; this name is understood by all of them.
    answer_limit_field="max_completion_tokens",
    rules_of=rules_of,
)
