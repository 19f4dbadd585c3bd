"""Files with facts about models: the reviewed one that comes with the platform, and that of the administrators.

Both say the same things in the same way; docs/models.md tells every field.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

from libs.model_catalog.facts import CAPABILITIES
from libs.model_catalog.prices import STANDARD_TIERS, Prices, Rate
from libs.model_catalog.published import PublishedAs, is_published
from libs.providers import is_provider_id
from libs.settings import SettingsError

_MODEL = re.compile(r"[!-~]{1,200}")
_LARGEST_COUNT = 2**31 - 1
# Dollars for a million tokens; a thousand times the dearest there is.
_HIGHEST_PRICE = 1_000_000
# `auto` is what a chat says that leaves the choice of provider and model to the platform.
_RESERVED_NAMES = ("auto",)

_RATES = ("input", "output", "cached_input", "cache_write", "cache_write_1h", "reasoning")


@dataclass(frozen=True, slots=True)
class TierPrices:
    """Prices of a row: those of the standard class of service, and those of others by the provider's names.

    They are valid from the beginning of a day of UTC, and up to that of another; None where they have always been, or
    have no end.
    """

    standard: Prices
    others: Mapping[str, Prices] = field(default_factory=dict)
    starts: date | None = None
    ends: date | None = None

    def is_valid(self, at: datetime) -> bool:
        """Tells whether these are the prices of a time."""
        day = at.astimezone(UTC).date()
        return (self.starts is None or self.starts <= day) and (self.ends is None or day < self.ends)

    def get(self, service_tier: str) -> Prices | None:
        """Returns the prices of a class of service; None when the row has none for it."""
        tier = service_tier.lower()
        return self.standard if tier in STANDARD_TIERS else self.others.get(tier)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row: what it does not say is None, or absent."""

    provider: str
    model: str
    display_name: str | None = None
    aliases: tuple[str, ...] | None = None
    context_length: int | None = None
    max_output_tokens: int | None = None
    capabilities: Mapping[str, bool] = field(default_factory=dict)
    prices: tuple[TierPrices, ...] = ()

    def prices_at(self, at: datetime) -> TierPrices | None:
        """Returns the prices that are valid at a time; None when the row has none for it."""
        return next((prices for prices in self.prices if prices.is_valid(at)), None)

    def over(self, under: Entry | None) -> Entry:
        """Returns this row, with what it does not say from another one. Aliases go as a whole, and prices of a time."""
        if under is None:
            return self
        return Entry(
            provider=self.provider,
            model=self.model,
            display_name=self.display_name or under.display_name,
            aliases=under.aliases if self.aliases is None else self.aliases,
            context_length=self.context_length or under.context_length,
            max_output_tokens=self.max_output_tokens or under.max_output_tokens,
            capabilities={**under.capabilities, **self.capabilities},
            prices=self.prices + under.prices,
        )


@dataclass(frozen=True, slots=True)
class Entries:
    """The rows of a file, by provider and model, and where published facts of providers are found."""

    rows: Mapping[tuple[str, str], Entry] = field(default_factory=dict)
    published_as: Mapping[str, PublishedAs] = field(default_factory=dict)


NO_ENTRIES = Entries()


def read_entries(file: Path, *, providers: Collection[str] = ()) -> Entries:
    """Reads a file. Blocking. Where `providers` are given, rows may be of these only.

    Raises SettingsError, which names every row and field that is wrong.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise SettingsError(f"The file of models {file} cannot be read: {error.strerror}") from None
    except ValueError as error:  # not UTF-8, or not TOML
        raise SettingsError(f"The file of models {file} is not a TOML file: {error}") from None
    if problems := list(_problems(content, providers)):
        raise SettingsError(f"The file of models {file} is not usable:\n  " + "\n  ".join(problems))
    rows = [_entry(row) for row in content.get("models", [])]
    return Entries(
        rows={(row.provider, row.model): row for row in rows},
        published_as={
            provider: PublishedAs(told["provider"], tuple(told.get("prefixes", [""])))
            for provider, told in content.get("published", {}).items()
        },
    )


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(
        provider=row["provider"],
        model=row["model"],
        display_name=row.get("display_name"),
        aliases=tuple(row["aliases"]) if "aliases" in row else None,
        context_length=row.get("context_length"),
        max_output_tokens=row.get("max_output_tokens"),
        capabilities=row.get("capabilities", {}),
        prices=tuple(map(_tier_prices, _periods(row.get("prices", [])))),
    )


def _periods(prices: Any) -> list[Any]:
    """Returns the tables of prices of a row, which may be one or a list of them."""
    return prices if isinstance(prices, list) else [prices]


def _tier_prices(told: dict[str, Any]) -> TierPrices:
    others = told.get("service_tiers", {})
    return TierPrices(
        _prices(told),
        {tier.lower(): _prices(prices) for tier, prices in others.items()},
        starts=told.get("from"),
        ends=told.get("until"),
    )


def _prices(told: dict[str, Any]) -> Prices:
    steps = sorted(told.get("above", []), key=lambda step: int(step["prompt_tokens"]))
    rates: dict[str, Any] = {name: _rate(name, told[name], steps) for name in _RATES if name in told}
    return Prices(**rates)


def _rate(name: str, base: Decimal | int, steps: list[dict[str, Any]]) -> Rate:
    return Rate(Decimal(base), tuple((step["prompt_tokens"], Decimal(step[name])) for step in steps if name in step))


def _problems(content: dict[str, Any], providers: Collection[str]) -> Iterator[str]:
    """Yields what is wrong with a file; nothing when its rows make entries."""
    for name in sorted(content.keys() - {"models", "published"}):
        yield f"{name} is not known beside [[models]] and [published]"
    if not _are_published(content.get("published", {})):
        yield "published must be tables by provider ids, each with a provider of genai-prices and maybe prefixes"
    rows = content.get("models", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        yield "its rows must stand under [[models]] each"
        return
    names: set[tuple[str, str]] = set()
    for number, row in enumerate(rows, start=1):
        provider, model = row.get("provider"), row.get("model")
        label = f"row {number} ({provider}/{model})" if provider and model else f"row {number}"
        yield from (f"{label}: {problem}" for problem in _problems_of_row(row, providers))
        aliases = row.get("aliases", [])
        for name in (model, *(aliases if isinstance(aliases, list) else ())):
            if isinstance(provider, str) and isinstance(name, str):
                if (provider, name) in names:
                    yield f"{label}: {name} is the name of two models of {provider}"
                names.add((provider, name))


def _problems_of_row(row: dict[str, Any], providers: Collection[str]) -> Iterator[str]:
    for name in sorted(row.keys() - _RULES.keys()):
        yield f"{name} is not a field; there are {', '.join(_RULES)}"
    for name, (keeps, rule) in _RULES.items():
        if name not in row:
            if name in _REQUIRED:
                yield f"{name} is missing; it {rule}"
        elif not keeps(row[name]):
            yield f"{name} {rule}"
    provider = row.get("provider")
    if providers and _is_id(provider) and provider not in providers:
        yield f"provider {provider} is not in the catalogue of providers; there are {', '.join(providers)}"


def _are_published(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_id(provider)
        and isinstance(told, dict)
        and told.keys() <= {"provider", "prefixes"}
        and isinstance(told.get("provider"), str)
        and is_published(told["provider"])
        and isinstance(told.get("prefixes", []), list)
        and all(map(_is_text, told.get("prefixes", [])))
        for provider, told in value.items()
    )


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and is_provider_id(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable() and value == value.strip()


def _is_date(value: Any) -> bool:
    return type(value) is date


def _is_model(value: Any) -> bool:
    return isinstance(value, str) and _MODEL.fullmatch(value) is not None


def _are_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= 20
        and all(_is_model(name) and name not in _RESERVED_NAMES for name in value)
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST_COUNT


def _are_capabilities(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= set(CAPABILITIES)
        and all(isinstance(v, bool) for v in value.values())
    )


def _are_prices(value: Any) -> bool:
    periods = _periods(value)
    return bool(periods) and all(map(_are_prices_of_a_period, periods)) and _are_apart(periods)


def _are_prices_of_a_period(value: Any) -> bool:
    beside = {"above", "service_tiers", "from", "until"}
    if not _are_rates(value, beside=beside) or not {"input", "output"} <= value.keys():
        return False
    if not all(_is_date(value[name]) for name in ("from", "until") if name in value):
        return False
    tiers = value.get("service_tiers", {})
    return _are_steps(value) and isinstance(tiers, dict) and all(map(_are_tier_prices, tiers.values()))


def _are_apart(periods: list[dict[str, Any]]) -> bool:
    """Tells whether each period has a day at least, and no day is one of two of them."""
    spans = sorted((told.get("from", date.min), told.get("until", date.max)) for told in periods)
    return all(start < end for start, end in spans) and all(before[1] <= after[0] for before, after in pairwise(spans))


def _are_tier_prices(value: Any) -> bool:
    return _are_rates(value, beside={"above"}) and {"input", "output"} <= value.keys() and _are_steps(value)


def _are_steps(value: dict[str, Any]) -> bool:
    steps = value.get("above", [])
    return isinstance(steps, list) and all(
        _are_rates(step, beside={"prompt_tokens"})
        and _is_count(step.get("prompt_tokens"))
        and step.keys() - {"prompt_tokens"} <= value.keys()
        for step in steps
    )


def _are_rates(value: Any, *, beside: Collection[str]) -> bool:
    return isinstance(value, dict) and all(
        name in beside or (name in _RATES and _is_price(rate)) for name, rate in value.items()
    )


def _is_price(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return False
    return Decimal(value).is_finite() and 0 <= value <= _HIGHEST_PRICE


# The fields of a row: whether a value keeps the rule, and the rule, as it follows the name of the field.
_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "provider": (_is_id, "must be the id of a provider"),
    "model": (_is_model, "must be a model id"),
    "display_name": (_is_text, "must be a text of 1 to 200 characters in one line"),
    "aliases": (_are_names, f"must be a list of at most 20 names, none of them {', '.join(_RESERVED_NAMES)}"),
    "context_length": (_is_count, "must be a whole number from 1"),
    "max_output_tokens": (_is_count, "must be a whole number from 1"),
    "capabilities": (_are_capabilities, f"must be a table of true and false by {', '.join(CAPABILITIES)}"),
    "prices": (
        _are_prices,
        (
            f"must be a table of US dollars for a million tokens by {', '.join(_RATES)}, with input and output; above"
            " may list tables with prompt_tokens and the same names, service_tiers such tables by classes of service;"
            " or a list of such tables, each with the days from and until, of which none overlap"
        ),
    ),
    "source": (_is_text, "must be a text of 1 to 200 characters in one line"),
    "reviewed": (_is_date, "must be a date, such as 2026-11-23"),
}
_REQUIRED = ("provider", "model")
