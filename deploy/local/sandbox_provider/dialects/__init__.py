"""The wire formats the sandbox speaks, one module each."""

from deploy.local.sandbox_provider.dialects.anthropic import Anthropic
from deploy.local.sandbox_provider.dialects.dialect import Dialect
from deploy.local.sandbox_provider.dialects.google_ai import GoogleAI
from deploy.local.sandbox_provider.dialects.grok import Grok
from deploy.local.sandbox_provider.dialects.openai import OpenAI
from deploy.local.sandbox_provider.dialects.openrouter import OpenRouter

DIALECTS: tuple[Dialect, ...] = (OpenAI(), Anthropic(), GoogleAI(), OpenRouter(), Grok())
