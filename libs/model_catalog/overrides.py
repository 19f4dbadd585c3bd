"""The administrators' file of facts about models, read again whenever it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from libs.background import beside, repeat
from libs.model_catalog.catalog import ModelCatalog
from libs.model_catalog.entries import read_entries
from libs.settings import SettingsError

log = structlog.get_logger()

_POLL_SECONDS = 2.0
_READ_SECONDS = 10.0

# What a file is told from its successor by. In Kubernetes a new one is put in place by turning a link to it.
_Stamp = tuple[int, int, int, int]


@asynccontextmanager
async def following(
    catalog: ModelCatalog, file: Path | None, *, providers: Collection[str] = (), poll_seconds: float = _POLL_SECONDS
) -> AsyncIterator[Overrides | None]:
    """Keeps a catalogue's overrides those of a file, for the time of the block. Does nothing without a file.

    A file that cannot be used leaves what the last good one said; that is logged once for each such file.
    """
    if file is None:
        yield None
        return
    overrides = Overrides(catalog, file, providers=providers)
    watch = repeat("read model facts", overrides.refresh, pause=lambda: poll_seconds, seconds=_READ_SECONDS)
    async with beside({"model facts": watch}):
        yield overrides


class Overrides:
    """Reads a file into a catalogue when it is another than before.

    `problem` is why what the file says now is not in use; None while it is.
    """

    def __init__(self, catalog: ModelCatalog, file: Path, *, providers: Collection[str] = ()) -> None:
        self._catalog = catalog
        self._file = file
        self._providers = providers
        # Not the one of now: it may be another already than the one the catalogue was made with.
        self._seen: _Stamp | str | None = ""
        self.problem: str | None = None

    async def refresh(self) -> None:
        """Reads the file if it is another than at the time before."""
        stamp = await asyncio.to_thread(_stamp, self._file)
        if stamp == self._seen:
            return
        # Noted before it is read: what is written in between is seen the next time.
        self._seen = stamp
        try:
            entries = await asyncio.to_thread(read_entries, self._file, providers=self._providers)
        except SettingsError as error:
            self.problem = str(error)
            log.error("model facts not usable; those before stay in use", problem=self.problem)
            return
        self._catalog.override(entries)
        self.problem = None
        log.info("model facts read", file=str(self._file), models=len(entries.rows))


class OverridesCollector(Collector):
    """Tells Prometheus whether what the administrators' file says is in use."""

    def __init__(self, overrides: Overrides | None) -> None:
        self._overrides = overrides

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yields what there is to tell now; without a file nothing is wrong with it."""
        yield GaugeMetricFamily(
            "realmultillm_model_facts_problem",
            "1 while the file with facts about models cannot be used, and what it said before is.",
            value=self._overrides is not None and self._overrides.problem is not None,
        )


def _stamp(file: Path) -> _Stamp | None:
    """Tells a file from its successor. None while there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
