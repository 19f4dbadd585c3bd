"""Settings of the worker for OpenRouter: those of every worker, and what it calls itself there. Prefix WORKER."""

from __future__ import annotations

from dataclasses import dataclass, field

from libs.settings import setting
from libs.worker import settings as worker


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSettings:
    """How OpenRouter knows this deployment, in its statistics and public rankings."""

    app_title: str = setting("Name OpenRouter knows this deployment by.", default="RealMultiLLM")
    app_url: str | None = setting(
        "Public address OpenRouter knows this deployment by; without one it is in no public ranking.", default=None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(worker.Settings):
    """What the worker for OpenRouter needs to run."""

    app: AppSettings = field(default_factory=AppSettings)
