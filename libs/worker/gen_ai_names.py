"""OpenTelemetry's names for what models are asked, for metrics and traces that any dashboard understands.

Source: the semantic conventions for generative AI, https://opentelemetry.io/docs/specs/semconv/gen-ai/.
"""

from __future__ import annotations

from realmultillm.analytics.v1 import usage_ingest_service_pb2 as analytics

# The providers that the conventions call otherwise than we do.
_PROVIDERS = {"google-ai": "gcp.gemini", "grok": "x_ai"}


def provider_name(provider: str) -> str:
    """Returns `gen_ai.provider.name` of a provider, by its id in the catalogue."""
    return _PROVIDERS.get(provider, provider)


def operation_name(kind: analytics.UsageRecord.Kind) -> str:
    """Returns `gen_ai.operation.name` of what was asked for."""
    return "embeddings" if kind == analytics.UsageRecord.Kind.EMBEDDINGS else "chat"
