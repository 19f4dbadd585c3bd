"""What is published of models and their prices, as the package genai-prices carries it. Nothing is asked online."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices
from genai_prices.types import Provider as _Provider

from libs.model_catalog.prices import STANDARD_TIERS, Prices, Rate

# What providers call the one of work that is done later.
_BATCH_TIER = "batch"
_PER_THOUSAND = Decimal("0.001")


@dataclass(frozen=True, slots=True)
class PublishedAs:
    """Where a provider's models are published: under which provider, and how the names begin that are this one's."""

    provider: str
    prefixes: tuple[str, ...] = ("",)


def is_published(provider: str) -> bool:
    """Tells whether there are models published under such a provider."""
    return any(each.id == provider for each in get_snapshot().providers)


class PublishedModel:
    """One published model, which may stand for several names of it."""

    def __init__(self, info: ModelInfo) -> None:
        self._info = info
        self.name = info.id
        self.display_name = info.name
        self.context_length = info.context_window

    def prices(self, when: datetime, service_tier: str) -> Prices | None:
        """Returns the prices valid at a time, in a class of service as the provider names it in its answers.

        None where the model has no price for tokens, or none is published for that class.
        """
        tier = service_tier.lower()
        context = {"processing": tier} if tier == _BATCH_TIER else {"service_tier": tier}
        if tier not in STANDARD_TIERS and not self._has_variant(context, when):
            return None
        return _prices(self._info.get_prices(when, context))

    def _has_variant(self, context: Mapping[str, str], when: datetime) -> bool:
        return any(
            variant.when == context and (variant.constraint is None or variant.constraint.active(when))
            for variant in self._info.price_variants or ()
        )


class PublishedModels:
    """Finds published models, by the names providers know them by. The first one made reads them, which takes 0.2 s."""

    def __init__(self, published_as: Mapping[str, PublishedAs]) -> None:
        known = {provider.id: provider for provider in get_snapshot().providers}
        self._providers: dict[str, tuple[_Provider, tuple[str, ...]]] = {
            ours: (known[theirs.provider], theirs.prefixes)
            for ours, theirs in published_as.items()
            if theirs.provider in known
        }
        # Most models are asked for by the very name they are published by.
        self._by_name = {
            ours: {info.id: info for info in published.models} for ours, (published, _) in self._providers.items()
        }

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers of which anything is published, by our ids."""
        return tuple(self._providers)

    def find(self, provider: str, model: str) -> PublishedModel | None:
        """Returns the model of that name; None when nothing is published of it. Slow: the name is matched with all."""
        published, prefixes = self._providers.get(provider, (None, ()))
        if published is None or not model.lower().startswith(prefixes):
            return None
        info = self._by_name[provider].get(model) or published.find_model(model)
        return None if info is None else PublishedModel(info)


def _prices(published: ModelPrice) -> Prices | None:
    sent = _rate(published.input_mtok)
    if sent is None:
        return None
    request = published.requests_kcount
    return Prices(
        input=sent,
        output=_rate(published.output_mtok),
        cached_input=_rate(published.cache_read_mtok),
        cache_write=_rate(published.cache_write_mtok),
        cache_write_1h=_rate(published.cache_write_1h_mtok),
        reasoning=_rate(published.output_reasoning_mtok),
        request=request * _PER_THOUSAND if isinstance(request, Decimal) else Decimal(0),
    )


def _rate(price: Decimal | TieredPrices | None) -> Rate | None:
    if price is None:
        return None
    if isinstance(price, TieredPrices):
        return Rate(price.base, tuple((tier.start, tier.price) for tier in price.tiers))
    return Rate(price)
