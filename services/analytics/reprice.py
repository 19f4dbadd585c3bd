"""Prices chats anew: `python -m services.analytics.reprice --from 2026-11-01 [--to …] [--provider …] [--model …]`.

By the prices that were valid when the chats started, as the catalogue knows them now; for prices that were wrong or
missing. Says what would change, and changes nothing without `--apply`. Needs ANALYTICS_DATABASE_URL alone; `--models`
is the file with facts about models that the workers are given, `--catalog` that with the providers.

To interrupt it loses nothing: it goes on where it is told, and what is priced anew already does not change again. Ends
with status 0 when it has gone through all, with 75 when the database was away.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from libs.database import connect
from libs.errors import PlatformError
from libs.migration_command import read_database_url
from libs.model_catalog import ModelCatalog
from libs.provider_catalog import load_catalog
from libs.settings import SettingsError
from libs.worker.answer_costs import PICOS_OF_A_DOLLAR, costs_of
from libs.worker.reported_costs import HIGHEST_COST_USD
from services.analytics.repricing import Price, Progress, Repriced, Repricing
from services.analytics.settings import PREFIX, Settings
from services.analytics.usage import Span

_INTERRUPTED = 130
_MOST_PICOS = int(HIGHEST_COST_USD) * PICOS_OF_A_DOLLAR
_ERASE = "\r\x1b[K"
_HEADINGS = ("provider", "model", "chats", "changed", "no price", "before, USD", "after, USD")


def price_by(catalog: ModelCatalog, providers: Iterable[str]) -> Price:
    """Prices facts as the workers of these providers do."""
    costs = {provider: costs_of(provider, catalog) for provider in providers}

    def price(fact: Row[Any], tokens: Any) -> tuple[int, str] | None:
        cost = costs.get(fact.provider)
        if cost is None:
            return None
        priced = cost(fact.model_served, fact.model_requested, tokens, fact.service_tier, fact.start_time)
        return None if priced is None or priced.picos > _MOST_PICOS else (priced.picos, priced.price)

    return price


def table(progress: Progress) -> str:
    """Writes what came of it, a line for each model whose chats change or have no price."""
    lines: list[tuple[str, ...]] = [_HEADINGS]
    for (provider, model), repriced in sorted(progress.models.items()):
        if repriced.changed or repriced.unpriced:
            lines.append((provider, model, *_figures(repriced)))
    lines.append(("all", "", *_figures(progress.all)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _figures(repriced: Repriced) -> tuple[str, ...]:
    counts = (repriced.chats, repriced.changed, repriced.unpriced)
    return *(f"{count:,}" for count in counts), _dollars(repriced.before), _dollars(repriced.after)


def _dollars(picos: int) -> str:
    return f"{Decimal(picos).scaleb(-12):,.6f}"


class _Line:
    """A line that says how far it is: one that changes on a terminal, one for each day elsewhere."""

    def __init__(self) -> None:
        self._updating = sys.stderr.isatty()
        self._said = ""

    def show(self, progress: Progress) -> None:
        done = progress.all
        if self._updating or f"{progress.reached:%Y-%m-%d}" != self._said:
            self._said = f"{progress.reached:%Y-%m-%d}"
            text = f"up to {progress.reached:%Y-%m-%d %H:%M}: {done.chats:,} chats, {done.changed:,} changed"
            print(f"{_ERASE}{text}" if self._updating else text, end="" if self._updating else "\n", file=sys.stderr)
            sys.stderr.flush()

    def end(self) -> None:
        if self._updating:
            print(file=sys.stderr)


async def _reprice(arguments: argparse.Namespace, span: Span) -> int:
    providers = load_catalog(arguments.catalog)
    price = price_by(ModelCatalog.load(providers, arguments.models), providers)
    progress, line = Progress(span.start), _Line()
    async with connect(read_database_url(PREFIX, Settings), pool_size=1) as transactions:
        repricing = Repricing(transactions, price, provider=arguments.provider, model=arguments.model)
        try:
            async for progress in repricing.run(span, apply=arguments.apply):
                line.show(progress)
        except (PlatformError, asyncio.CancelledError) as error:
            line.end()
            why = error.message if isinstance(error, PlatformError) else "Interrupted."
            print(f"{why} Go on with --from {progress.reached:%Y-%m-%dT%H:%M:%SZ}", file=sys.stderr)
            return os.EX_TEMPFAIL if isinstance(error, PlatformError) else _INTERRUPTED
    line.end()
    print(table(progress))
    if not arguments.apply and progress.all.changed:
        print("Nothing is changed: say --apply to change it.")
    return 0


async def _until_interrupted(arguments: argparse.Namespace, span: Span) -> int:
    task = asyncio.create_task(_reprice(arguments, span))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m services.analytics.reprice", description="Price chats anew, by the prices of their time."
    )
    parser.add_argument("--from", dest="start", type=_time, required=True, help="first day, or time, of UTC")
    parser.add_argument("--to", dest="end", type=_time, default=None, help="day, or time, before which to end; now")
    parser.add_argument("--provider", help="chats with this provider only")
    parser.add_argument("--model", help="chats that asked for this model only")
    parser.add_argument("--models", type=Path, help="TOML file with facts about models, as the workers are given it")
    parser.add_argument("--catalog", type=Path, help="TOML file with the providers; the one of the platform by default")
    parser.add_argument("--apply", action="store_true", help="change it; without, only say what would change")
    arguments = parser.parse_args()
    span = Span(arguments.start, arguments.end or datetime.now(UTC))
    if span.start >= span.end:
        parser.error("--from must lie before --to")
    try:
        sys.exit(asyncio.run(_until_interrupted(arguments, span)))
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(os.EX_CONFIG)


if __name__ == "__main__":
    main()
