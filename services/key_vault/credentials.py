"""Opens keys for the workers, and tells the router what people may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from libs.audit import AuditTrail, observed
from libs.database import Transactions
from libs.provider_keys import ProviderKey
from services.key_vault import repository
from services.key_vault.effective_configs import find_effective, open_key
from services.key_vault.repository import State
from services.key_vault.transit import Transit


@dataclass(frozen=True, slots=True)
class Credential:
    """What a worker needs to call a provider for a person.

    An empty text, no models and a limit of 0 milliseconds leave the choice to the worker.
    """

    api_key: ProviderKey
    platform_key: bool
    model: str
    temperature: float | None
    max_tokens: int | None
    endpoint: str
    request_timeout_ms: int
    allowed_models: Sequence[str]
    platform_model: str


class Credentials:
    """The effective configurations of everybody, with the keys in the clear."""

    def __init__(self, transactions: Transactions, transit: Transit, audit: AuditTrail) -> None:
        self._transactions = transactions
        self._transit = transit
        self._audit = audit

    async def open(self, user_id: str, provider: str, *, reader: str) -> Credential:
        """Returns what holds for a person, for the service `reader`; written down before anybody has it.

        Raises PermissionDenied when the provider is switched off, FailedPrecondition when there is no key that opens,
        Unavailable.
        """
        async with self._transactions() as session:
            config = await find_effective(session, user_id, provider)
        config.check_enabled()
        config, api_key = await open_key(self._transactions, self._transit, config, user_id)
        config.check_enabled()  # it may have been read once more
        sealed = config.key()
        self._audit.record(
            observed(
                "provider_key.revealed",
                resource=f"provider-config/{provider}",
                user_id=user_id,
                to=reader,
                key="platform" if sealed.user_id is None else "own",
            )
        )
        own, platform = config.own, config.platform
        return Credential(
            api_key,
            platform_key=sealed.user_id is None,
            model=config.model,
            temperature=own.temperature if own else None,
            max_tokens=own.max_tokens if own else None,
            endpoint=config.route.endpoint,
            request_timeout_ms=platform.request_timeout_ms if platform else 0,
            allowed_models=platform.allowed_models if platform else (),
            platform_model=platform.default_model if platform else "",
        )

    async def find_states(self, user_id: str, *, after: str, size: int) -> tuple[Sequence[State], bool]:
        """Returns what a person may use of each provider, beginning after `after`, and whether there are more."""
        async with self._transactions() as session:
            states = await repository.find_states(session, user_id, after=after, size=size + 1)
        return states[:size], len(states) > size
