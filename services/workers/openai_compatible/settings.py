"""Settings of the generic worker: those of every worker, and which provider it is for. Prefix WORKER."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from libs.settings import setting
from libs.worker import settings as worker


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSettings:
    """Where the worker reads what other workers have in their code."""

    provider: str = setting("Id of the provider, whose row in the catalogue names this worker.")
    catalog: Path | None = setting("TOML file with the providers; the one of the platform by default.", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(worker.Settings):
    """What the generic worker needs to run."""

    row: RowSettings
