"""The chat completions dialect of OpenAI, which OpenAI, OpenRouter, xAI and most self-hosted servers speak.

An adapter of such a provider says only what differs: the fields of `OpenAIDialect`.
Wire facts: the request and response types of the official `openai` SDK.
"""

from libs.worker.openai_dialect.dialect import OpenAIDialect
from libs.worker.openai_dialect.model_rules import ModelRules

__all__ = ["ModelRules", "OpenAIDialect"]
