"""The wire formats the sandbox speaks, one module each."""

from deploy.local.sandbox_provider.dialects.anthropic.api import Anthropic
from deploy.local.sandbox_provider.dialects.dialect import Dialect
from deploy.local.sandbox_provider.dialects.google_ai.api import GoogleAI
from deploy.local.sandbox_provider.dialects.grok.api import Grok
from deploy.local.sandbox_provider.dialects.openai.api import OpenAI
from deploy.local.sandbox_provider.dialects.openrouter.api import OpenRouter

DIALECTS: tuple[Dialect, ...] = (OpenAI(), Anthropic(), GoogleAI(), OpenRouter(), Grok())
