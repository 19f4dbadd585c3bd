"""The wire formats the sandbox speaks, one module each."""

from deploy.local.sandbox_provider.dialects.dialect import Dialect
from deploy.local.sandbox_provider.dialects.openai import OpenAI

DIALECTS: tuple[Dialect, ...] = (OpenAI(),)
