"""What answers cost, where the provider does not say it itself."""

from __future__ import annotations

from collections.abc import Callable

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.model_catalog import ModelCatalog

# Prices an answer: the model that served it as the provider says, the one that was asked for, the usage, and the
# class of service as the provider names it. None when the price is not known.
Cost = Callable[[str, str, chat.Usage, str], float | None]


def unknown(_served: str, _asked: str, _usage: chat.Usage, _service_tier: str) -> None:
    """Prices nothing."""


def costs_of(provider: str, known: ModelCatalog) -> Cost:
    """Prices the answers of a provider by the catalogue: by the model that served, else by the one asked for."""

    def cost(served: str, asked: str, usage: chat.Usage, service_tier: str) -> float | None:
        dollars = known.cost(provider, served, usage, service_tier) if served else None
        if dollars is None and asked != served:
            dollars = known.cost(provider, asked, usage, service_tier)
        return None if dollars is None else float(dollars)

    return cost
