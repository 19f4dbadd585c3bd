"""What people have configured for each provider: stored with the key sealed, announced when it changes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncSession

from libs.audit import AuditTrail, observed
from libs.change_feed import ChangeFeed
from libs.database import Transactions
from libs.errors import FailedPrecondition, NotFound
from libs.redaction import Secret
from services.key_vault import repository
from services.key_vault.key_trials import KeyTrials
from services.key_vault.models import ProviderConfigRow, Trial
from services.key_vault.transit import Transit

_HINT_LENGTH = 4
# Of a shorter key four characters would give too much away.
_HINTED_KEY_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a chat uses where it says nothing itself. An empty model leaves the choice to the platform."""

    model: str
    temperature: float | None
    max_tokens: int | None


@dataclass(frozen=True, slots=True)
class Stored:
    """What came of storing a key: whether it was, whether one is now in place, and how the trial went."""

    success: bool
    configured: bool
    trial: Trial


@dataclass(frozen=True, slots=True)
class OpenedConfig:
    """What a worker needs to call a provider for a person."""

    api_key: Secret
    defaults: Defaults


class ProviderConfigs:
    """The configurations of everybody, one per person and provider.

    What is done with a key is written down for the audit log before it is done, or before anybody hears that it is.
    """

    def __init__(
        self, transactions: Transactions, feed: ChangeFeed, transit: Transit, trials: KeyTrials, audit: AuditTrail
    ) -> None:
        self._transactions = transactions
        self._feed = feed
        self._transit = transit
        self._trials = trials
        self._audit = audit

    async def get(self, user_id: str, provider: str) -> ProviderConfigRow:
        """Returns a configuration. Raises NotFound."""
        async with self._transactions() as session:
            config = await repository.find(session, user_id, provider)
        if config is None:
            raise _nothing_stored(provider)
        return config

    async def find_page(self, user_id: str, *, after: str, size: int) -> tuple[Sequence[ProviderConfigRow], bool]:
        """Returns configurations ordered by provider, beginning after `after`, and whether there are more."""
        async with self._transactions() as session:
            configs = await repository.find_page(session, user_id, after=after, size=size + 1)
        return configs[:size], len(configs) > size

    async def store(self, user_id: str, provider: str, key: Secret, defaults: Defaults) -> Stored:
        """Tries a key and stores it, unless the provider refuses it. Raises Unavailable, with nothing stored.

        Sealed first: while Vault is away no provider needs to be bothered.
        """
        self._audit.check_writable()
        ciphertext = await self._transit.seal(key, user_id=user_id, provider=provider)
        trial = await self._trials.attempt(provider, key)
        key_hint = key[-_HINT_LENGTH:] if len(key) >= _HINTED_KEY_LENGTH else ""
        del key
        if trial.refused:
            return await self._refused(user_id, provider, trial)
        if not trial.success:
            trial = replace(trial, message=f"{trial.message} The key is stored.")
        async with self._transactions() as session:
            await repository.replace(
                session,
                user_id,
                provider,
                ciphertext=ciphertext,
                key_hint=key_hint,
                model=defaults.model,
                temperature=defaults.temperature,
                max_tokens=defaults.max_tokens,
                last_test=trial,
            )
            await self._announce(session, user_id, provider)
            self._record("provider_config.set", provider, success="true", error=trial.reason)
        return Stored(success=True, configured=True, trial=trial)

    async def _refused(self, user_id: str, provider: str, trial: Trial) -> Stored:
        async with self._transactions() as session:
            earlier = await repository.find(session, user_id, provider)
        self._record("provider_config.set", provider, success="false", error=trial.reason)
        consequence = "The key was not stored." if earlier is None else "It was not stored; the earlier key stays."
        return Stored(
            success=False,
            configured=earlier is not None,
            trial=replace(trial, message=f"{trial.message} {consequence}"),
        )

    async def test(self, user_id: str, provider: str, key: Secret, model: str) -> Trial:
        """Tries a key, or the stored one when it is empty, for a model if one is named.

        Nothing is stored of a key that is given. Raises FailedPrecondition when there is no key, Unavailable when the
        stored one cannot be opened.
        """
        self._audit.check_writable()
        if key:
            trial = await self._trials.attempt(provider, key, model)
            self._record("provider_config.tested", provider, key="given", **_outcome(trial))
            return trial
        async with self._transactions() as session:
            config = await _configured(session, user_id, provider)
        key = await self._transit.open(config.ciphertext, user_id=user_id, provider=provider)
        trial = await self._trials.attempt(provider, key, model)
        del key
        self._record("provider_config.tested", provider, key="stored", **_outcome(trial))
        if trial.refused:
            remedy = f"Store a valid one with POST /api/provider-config/{provider}."
            trial = replace(trial, message=f"{trial.message} {remedy}")
        # That the key does not open some other model says nothing of the configuration. The key is the same as before,
        # so nobody needs to hear of a change.
        if model in ("", config.model):
            async with self._transactions() as session:
                await repository.note_test(session, user_id, provider, ciphertext=config.ciphertext, last_test=trial)
        return trial

    async def delete(self, user_id: str, provider: str) -> None:
        """Erases a configuration. Raises NotFound."""
        async with self._transactions() as session:
            if not await repository.remove(session, user_id, provider):
                raise _nothing_stored(provider)
            await self._announce(session, user_id, provider)
            self._record("provider_config.deleted", provider)

    async def open(self, user_id: str, provider: str, *, reader: str) -> OpenedConfig:
        """Returns a configuration with the key in the clear, for the service `reader`.

        Raises FailedPrecondition when there is none.
        """
        async with self._transactions() as session:
            config = await _configured(session, user_id, provider)
        api_key = await self._transit.open(config.ciphertext, user_id=user_id, provider=provider)
        self._audit.record(
            observed("provider_key.revealed", resource=f"provider-config/{provider}", user_id=user_id, to=reader)
        )
        return OpenedConfig(api_key, Defaults(config.model, config.temperature, config.max_tokens))

    async def changes(self, provider: str) -> AsyncGenerator[str | None, None]:
        """Yields the ids of users whose configuration of a provider changed.

        Begins with None, and yields it again after any gap: anything may have changed unseen until then.
        """
        async with aclosing(self._feed.subscribe()) as changes:
            async for change in changes:
                if not isinstance(change, str):
                    yield None
                    continue
                user_id, _, changed_provider = change.rpartition(" ")
                if changed_provider == provider:
                    yield user_id

    def _record(self, action: str, provider: str, **details: str) -> None:
        self._audit.record(observed(action, resource=f"provider-config/{provider}", **details))

    async def _announce(self, session: AsyncSession, user_id: str, provider: str) -> None:
        await self._feed.announce(session, f"{user_id} {provider}")


async def _configured(session: AsyncSession, user_id: str, provider: str) -> ProviderConfigRow:
    config = await repository.find(session, user_id, provider)
    if config is None:
        raise FailedPrecondition(
            f"You have stored no key for {provider}; store one with POST /api/provider-config/{provider}.",
            reason="PROVIDER_NOT_CONFIGURED",
            provider=provider,
        )
    return config


def _outcome(trial: Trial) -> dict[str, str]:
    return {"success": str(trial.success).lower(), "error": trial.reason}


def _nothing_stored(provider: str) -> NotFound:
    return NotFound(
        f"You have stored no key for {provider}; store one with POST /api/provider-config/{provider}.",
        provider=provider,
    )
