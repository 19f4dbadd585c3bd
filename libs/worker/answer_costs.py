"""What answers cost: by the catalogue's prices, where the provider does not say it itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.model_catalog import ModelCatalog

PICOS_OF_A_DOLLAR = 10**12


@dataclass(frozen=True, slots=True)
class Priced:
    """What an answer costs, in trillionths of a US dollar, and the price, as records tell it."""

    picos: int
    price: str


# Prices an answer: the model that served it as the provider says, the one that was asked for, the usage, the class of
# service as the provider names it, and when the chat started. None when no price is known.
Cost = Callable[[str, str, chat.Usage, str, datetime], Priced | None]


def unknown(_served: str, _asked: str, _usage: chat.Usage, _service_tier: str, _started: datetime) -> None:
    """Prices nothing."""


def costs_of(provider: str, known: ModelCatalog) -> Cost:
    """Prices the answers of a provider by the catalogue: by the model that served, else by the one asked for."""

    def cost(served: str, asked: str, usage: chat.Usage, service_tier: str, started: datetime) -> Priced | None:
        for model in (served, asked) if served != asked else (served,):
            prices = known.prices(provider, model, service_tier, at=started) if model else None
            dollars = None if prices is None else prices.cost(usage)
            if prices is not None and dollars is not None:
                # `round` rounds half to even, and this is the only time that anything is rounded.
                return Priced(round(dollars * PICOS_OF_A_DOLLAR), prices.text)
        return None

    return cost
