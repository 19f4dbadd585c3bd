"""The ids of the providers, and the names of the services that talk to them."""

from __future__ import annotations

PROVIDERS = ("openai", "anthropic", "google-ai", "openrouter", "grok")


def worker_service(provider: str) -> str:
    """Returns the name of a provider's worker: in its certificate, as a process and as a cluster."""
    return f"worker-{provider}"


WORKERS = frozenset(worker_service(provider) for provider in PROVIDERS)
