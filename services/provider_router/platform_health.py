"""What the observed health of the services means for the platform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from libs.errors import Unavailable
from libs.providers import worker_service
from services.provider_router.observation import Observation

# What the services report of themselves beside being up.
DEPENDENCIES = {"auth": ("database",), "key-vault": ("database", "vault"), "analytics": ("database",)}

_RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformHealth:
    """Whether each part of the platform is healthy; workers by provider id."""

    auth: bool
    key_vault: bool
    vault: bool
    analytics: bool
    database: bool
    workers: dict[str, bool]

    @property
    def complete(self) -> bool:
        """True when nothing is missing."""
        services = (self.auth, self.key_vault, self.vault, self.analytics, self.database)
        return all(services) and all(self.workers.values())


def judge(observation: Observation, providers: Sequence[str]) -> PlatformHealth:
    """Sums up what is observed of the services and of these providers' workers.

    Raises Unavailable when no chat can be served: no worker is healthy, or nobody can be authenticated.
    """
    health = PlatformHealth(
        auth=observation.is_healthy("auth"),
        key_vault=observation.is_healthy("key-vault"),
        vault=observation.is_healthy("key-vault", "vault"),
        analytics=observation.is_healthy("analytics"),
        database=all(
            observation.is_healthy(service, "database")
            for service, dependencies in DEPENDENCIES.items()
            if "database" in dependencies
        ),
        workers={provider: observation.is_healthy(worker_service(provider)) for provider in providers},
    )
    if not health.auth or not any(health.workers.values()):
        raise Unavailable(
            "The platform cannot chat now; try again in a moment.",
            reason="PLATFORM_UNAVAILABLE",
            retry_after=_RETRY_SECONDS,
            auth=state(health.auth),
            keyVault=state(health.key_vault),
            vault=state(health.vault),
            analytics=state(health.analytics),
            database=state(health.database),
            workers=",".join(f"{provider}={state(healthy)}" for provider, healthy in health.workers.items()),
        )
    return health


def state(healthy: bool) -> str:
    """Returns the word for a state."""
    return "ok" if healthy else "unavailable"
