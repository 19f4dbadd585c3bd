"""What administrators have configured for each provider, for everybody: stored with the key sealed, and announced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from libs.audit import AuditTrail, observed
from libs.database import Transactions
from libs.errors import InvalidRequest, Violation
from libs.provider_keys import ProviderKey
from services.key_vault import repository
from services.key_vault.credential_changes import CredentialChanges
from services.key_vault.effective_configs import Route
from services.key_vault.key_storage import KeyStorage, hint_of
from services.key_vault.key_trials import KeyTrials
from services.key_vault.models import PlatformConfigRow, Trial
from services.key_vault.transit import Transit

# The columns of what can be given, by the names of the fields in requests.
_COLUMNS = {
    "enabled": "enabled",
    "endpoint": "endpoint",
    "defaultModel": "default_model",
    "allowedModels": "allowed_models",
    "requestTimeoutMs": "request_timeout_ms",
}
# What can return to its default, and the columns that this sets.
RESET: Mapping[str, Mapping[str, Any]] = {
    "endpoint": {"endpoint": ""},
    "defaultModel": {"default_model": ""},
    "allowedModels": {"allowed_models": []},
    "requestTimeoutMs": {"request_timeout_ms": 0},
    "apiKey": {
        "ciphertext": None,
        "key_hint": "",
        "last_test_success": None,
        "last_test_latency": None,
        "last_test_message": None,
        "last_test_reason": None,
        "last_test_time": None,
    },
}


@dataclass(frozen=True, slots=True)
class PlatformChange:
    """What of a configuration changes, by the names of the fields in requests: values given, a new key, and what of
    RESET returns to its default. Anything else stays as it is.
    """

    given: Mapping[str, Any]
    key: ProviderKey | None
    reset: Sequence[str]

    @property
    def names(self) -> Sequence[str]:
        """What changes, whatever it becomes."""
        return [*self.given, *(["apiKey"] if self.key is not None else []), *self.reset]

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that change and are not of a new key."""
        columns = {_COLUMNS[name]: value for name, value in self.given.items()}
        for name in self.reset:
            columns |= RESET.get(name, {})
        return columns

    def applied_to(self, config: PlatformConfigRow, column: str) -> Any:
        """Returns what a column will hold."""
        return self.columns.get(column, getattr(config, column))


@dataclass(frozen=True, slots=True)
class Stored:
    """What came of a change: whether it was stored, what holds now, and how the trial of a new key went."""

    success: bool
    config: PlatformConfigRow
    trial: Trial | None


class PlatformConfigs:
    """The configurations of all providers for everybody. What changes is written down for the audit log first."""

    def __init__(
        self,
        transactions: Transactions,
        changes: CredentialChanges,
        transit: Transit,
        trials: KeyTrials,
        audit: AuditTrail,
    ) -> None:
        self._transactions = transactions
        self._changes = changes
        self._trials = trials
        self._storage = KeyStorage(transactions, transit)
        self._audit = audit

    async def get(self, provider: str) -> PlatformConfigRow:
        """Returns the configuration of a provider; that of one nobody has configured has the defaults."""
        (config,) = await self.find([provider])
        return config

    async def find(self, providers: Sequence[str]) -> Sequence[PlatformConfigRow]:
        """Returns the configurations of these providers, in their order, like `get`."""
        async with self._transactions() as session:
            rows = {row.provider: row for row in await repository.find_platforms(session, providers)}
        return [rows.get(provider) or _unconfigured(provider) for provider in providers]

    async def set(self, provider: str, change: PlatformChange) -> Stored:
        """Changes a configuration, unless the provider refuses the new key. The change is one that has been checked.

        Raises InvalidRequest when somebody else has changed what it depends on since, Unavailable; nothing is stored
        then.
        """
        if not change.names:
            return Stored(success=True, config=await self.get(provider), trial=None)
        self._audit.check_writable()
        if change.key is None:
            async with self._transactions() as session:
                config = await self._write(session, provider, change, change.columns, None)
            return Stored(success=True, config=config, trial=None)
        return await self._set_key(provider, change, change.key)

    async def _set_key(self, provider: str, change: PlatformChange, key: ProviderKey) -> Stored:
        # Sealed first: while Vault is away no provider needs to be bothered.
        ciphertext = await self._storage.seal(key, user_id=None, provider=provider)
        before = await self.get(provider)
        route = Route(change.applied_to(before, "enabled"), change.applied_to(before, "endpoint"))
        trial = await self._trials.attempt(provider, key, route)
        if trial.refused:
            self._record(provider, change, trial)
            trial = replace(trial, message=f"{trial.message} Nothing was changed.")
            return Stored(success=False, config=await self.get(provider), trial=trial)
        if not trial.success:
            trial = replace(trial, message=f"{trial.message} The key is stored.")
        columns = {**change.columns, "key_hint": hint_of(key), **repository.columns_of(trial)}

        async def write(session: AsyncSession, sealed: str) -> PlatformConfigRow:
            return await self._write(session, provider, change, {**columns, "ciphertext": sealed}, trial)

        config = await self._storage.store(key, ciphertext, user_id=None, provider=provider, write=write)
        return Stored(success=True, config=config, trial=trial)

    async def _write(
        self,
        session: AsyncSession,
        provider: str,
        change: PlatformChange,
        columns: Mapping[str, Any],
        trial: Trial | None,
    ) -> PlatformConfigRow:
        config = await repository.put_platform(session, provider, columns)
        # Of two administrators one may have changed the default meanwhile, and the other what is allowed.
        if rule := broken_choice(config.default_model, config.allowed_models):
            raise InvalidRequest([Violation("defaultModel", rule)])
        await self._changes.announce_everybody(session, provider)
        self._record(provider, change, trial)
        return config

    def _record(self, provider: str, change: PlatformChange, trial: Trial | None) -> None:
        self._audit.record(
            observed(
                "platform_config.set",
                resource=f"provider/{provider}",
                changed=", ".join(change.names),
                enabled=str(change.given.get("enabled", "")).lower(),
                endpoint=change.given.get("endpoint") or ("the usual one" if "endpoint" in change.names else ""),
                success="false" if trial is not None and trial.refused else "true",
                error=trial.reason if trial is not None else "",
            )
        )


def broken_choice(default_model: str, allowed_models: Sequence[str]) -> str | None:
    """Says what a default model must be where models are allowed by name, or None when it is that."""
    if not default_model or not allowed_models or default_model in allowed_models:
        return None
    return f"must be one of the allowed models, and {default_model} is not; change either."


def _unconfigured(provider: str) -> PlatformConfigRow:
    columns = {name: value for columns in RESET.values() for name, value in columns.items() if "last_test" not in name}
    return PlatformConfigRow(provider=provider, enabled=True, last_test=None, **columns)
