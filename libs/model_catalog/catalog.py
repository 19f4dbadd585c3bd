"""The catalogue of models: published facts, completed by a reviewed file and overridden by administrators."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from libs.model_catalog.entries import NO_ENTRIES, Entries, Entry, read_entries
from libs.model_catalog.facts import ModelFacts
from libs.model_catalog.prices import Prices
from libs.model_catalog.published import PublishedModel, PublishedModels
from libs.provider_catalog import Catalog
from libs.recent import Recent

_REVIEWED = Path(__file__).with_name("models.toml")
# Names come from chats, and classes of service from providers: what is remembered of them is bounded, and what is
# longer than all of them together may be is not known.
_MOST_REMEMBERED = 10_000
_LONGEST_REMEMBERED = 500
# Prices change with the date, and some with the hour: at full hours, or at the quarters between.
_PRICES_HOLD_SECONDS = 15 * 60
# A name with one of these is the same model, on a day.
_EDITION = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|latest)")

V = TypeVar("V")


class ModelCatalog:
    """Knows the facts of models, what answers cost, and which providers have a model of a name.

    `providers` are those of the platform, with the models that are well known of each; their order is that of answers.
    """

    def __init__(self, providers: Catalog, *, reviewed: Entries, overrides: Entries = NO_ENTRIES) -> None:
        self._providers = providers
        self._reviewed = reviewed
        self.override(overrides)

    @classmethod
    def load(cls, providers: Catalog, overrides: Path | None = None) -> ModelCatalog:
        """Reads the published facts, the reviewed file and that of the administrators, if there is one. Blocking.

        Raises SettingsError, which names every row and field of the administrators' file that is wrong.
        """
        reviewed = read_entries(_REVIEWED)
        return cls(
            providers,
            reviewed=reviewed,
            overrides=NO_ENTRIES if overrides is None else read_entries(overrides, providers=providers),
        )

    def override(self, overrides: Entries) -> None:
        """Puts these in the place of all overrides before."""
        rows = {key: replace(row) for key, row in self._reviewed.rows.items()}
        for key, row in overrides.rows.items():
            rows[key] = row.over(rows.get(key))
        self._published = PublishedModels({**self._reviewed.published_as, **overrides.published_as})
        self._rows: Mapping[tuple[str, str], Entry] = rows
        self._names = _names(self._providers, rows)
        self._model_of_alias = {
            (provider, alias): model for (provider, model), row in rows.items() for alias in row.aliases or ()
        }
        self._forget()

    def facts(self, provider: str, model: str) -> ModelFacts | None:
        """Returns what is known of a provider's model, asked for by its name or an alias of it.

        None for a model that is neither well known nor in one of the files nor published.
        """
        return self._remembered(("facts", provider, model), lambda: self._facts(provider, model), None)

    def cost(self, provider: str, model: str, usage: Any, service_tier: str = "") -> Decimal | None:
        """Returns what an answer of a model cost in US dollars, by the prices of now; None when they are not known.

        `usage` is a `chat.v1.Usage`, `service_tier` what the provider calls the class of service it used; empty for
        the one that is its standard.
        """
        prices = self.prices(provider, model, service_tier)
        return None if prices is None else prices.cost(usage)

    def prices(self, provider: str, model: str, service_tier: str = "", *, at: datetime | None = None) -> Prices | None:
        """Returns the prices of a model for a class of service, those valid at a time, by default now.

        None when they are not known.
        """
        seconds = time.time() if at is None else at.timestamp()
        return self._remembered(
            ("prices", provider, model, service_tier, str(int(seconds) // _PRICES_HOLD_SECONDS)),
            lambda: self._prices(provider, model, service_tier, datetime.fromtimestamp(seconds, UTC)),
            None,
        )

    def model_of(self, provider: str, name: str) -> str:
        """Returns the name a provider knows a model by, of which this may be an alias; else the name itself."""
        return self._model_of_alias.get((provider, name), name)

    def known_as(self, provider: str, name: str) -> str | None:
        """Returns the one name of a model that may be asked for by several, as by its editions; None when not known."""
        return self._remembered(("known as", provider, name), lambda: self._known_as(provider, name), None)

    def providers_of(self, name: str) -> tuple[tuple[str, str], ...]:
        """Returns whose model a name without a provider may mean, and what they call it, in the order of providers.

        Well-known names, names of the files and aliases come before the many names that are merely published.
        """
        known = self._names.get(name)
        if known is not None:
            return known
        return self._remembered(
            ("name", name),
            lambda: tuple(
                (provider, name)
                for provider in self._providers
                if provider in self._published.providers and self._published.find(provider, name) is not None
            ),
            (),
        )

    def _known_as(self, provider: str, name: str) -> str | None:
        model = self.model_of(provider, name)
        if (provider, model) in self._rows:
            return model
        published = self._published.find(provider, model)
        return None if published is None else published.name

    def _facts(self, provider: str, name: str) -> ModelFacts | None:
        model = self.model_of(provider, name)
        published = self._published.find(provider, model)
        row = self._row(provider, model, published)
        offered = self._providers.get(provider)
        well_known = offered is not None and model in offered.models
        if published is None and row is None and not well_known:
            return None
        row = row or Entry(provider=provider, model=model)
        capabilities = dict(row.capabilities)
        if well_known and offered is not None:
            capabilities.setdefault("streaming", offered.supports_streaming)
            capabilities.setdefault("system_prompt", offered.supports_system_prompt)
        return ModelFacts(
            provider=provider,
            model=model,
            display_name=row.display_name or (published and published.display_name) or None,
            aliases=row.aliases or (),
            context_length=row.context_length or (published.context_length if published else None),
            max_output_tokens=row.max_output_tokens,
            capabilities=capabilities,
            prices=self._prices(provider, model, "", datetime.now(UTC)),
        )

    def _prices(self, provider: str, name: str, service_tier: str, at: datetime) -> Prices | None:
        model = self.model_of(provider, name)
        published = self._published.find(provider, model)
        row = self._row(provider, model, published)
        own = None if row is None else row.prices_at(at)
        if own is not None:
            return own.get(service_tier)
        return None if published is None else published.prices(at, service_tier)

    def _row(self, provider: str, model: str, published: PublishedModel | None) -> Entry | None:
        """Returns the row of a model: its own, else the one of the model that it is an edition of."""
        row = self._rows.get((provider, model))
        if row is not None or published is None or not _EDITION.fullmatch(model.removeprefix(published.name)):
            return row
        row = self._rows.get((provider, published.name))
        return None if row is None else replace(row, model=model, aliases=())

    def _remembered(self, key: tuple[str, ...], find: Callable[[], V], unknown: V) -> V:
        now = int(time.time()) // _PRICES_HOLD_SECONDS
        if now != self._remembered_in:
            self._forget()
        if sum(map(len, key)) > _LONGEST_REMEMBERED:
            return unknown
        found = self._memory.get(key, self)
        if found is self:
            found = find()
            self._memory.tell(key, found)
        value: V = found
        return value

    def _forget(self) -> None:
        self._memory: Recent[tuple[str, ...], Any] = Recent(_MOST_REMEMBERED)
        self._remembered_in = int(time.time()) // _PRICES_HOLD_SECONDS


def _names(providers: Catalog, rows: Mapping[tuple[str, str], Entry]) -> Mapping[str, tuple[tuple[str, str], ...]]:
    """Returns whose model each name is that the catalogue of providers or a file gives, in the order of providers."""
    names: dict[str, dict[tuple[str, str], None]] = {}
    for provider, offered in providers.items():
        for model in offered.models:
            names.setdefault(model, {})[provider, model] = None
        for (its, model), row in rows.items():
            if its == provider:
                for name in (model, *(row.aliases or ())):
                    names.setdefault(name, {})[provider, model] = None
    return {name: tuple(models) for name, models in names.items()}
