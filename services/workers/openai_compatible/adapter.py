"""A provider of which nothing is known but its row in the catalogue."""

from __future__ import annotations

from libs.provider_catalog import GENERIC_WORKER, Catalog
from libs.settings import SettingsError
from libs.worker.openai_dialect import OpenAIDialect


def adapter_of(provider: str, catalog: Catalog) -> OpenAIDialect:
    """Makes the adapter of a provider. Raises SettingsError unless its row names the generic worker."""
    row = catalog.get(provider)
    if row is None:
        raise SettingsError(f"WORKER_PROVIDER names {provider}, which is not in the catalogue: {', '.join(catalog)}.")
    if row.worker != GENERIC_WORKER:
        raise SettingsError(
            f"WORKER_PROVIDER names {provider}, whose row names the worker {row.worker}; run that one, or a provider "
            f'with worker = "{GENERIC_WORKER}".'
        )
    return OpenAIDialect(
        provider=row.id,
        display_name=row.name,
        endpoint=row.endpoint,
        default_model=row.default_model,
        answer_limit_field=row.answer_limit_field,
        extra_headers=row.extra_headers,
        # No more than what such servers have in common; some refuse fields they do not know.
        stream_options={"include_usage": True},
    )
