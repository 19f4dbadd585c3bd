"""What people have configured for each provider: stored with the key sealed, announced when it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncSession

from libs.audit import AuditTrail, observed
from libs.database import Transactions
from libs.errors import NotFound
from libs.provider_keys import ProviderKey
from services.key_vault import repository
from services.key_vault.credential_changes import CredentialChanges
from services.key_vault.effective_configs import EffectiveConfig, find_effective, open_key, route_of
from services.key_vault.key_storage import KeyStorage, hint_of
from services.key_vault.key_trials import KeyTrials
from services.key_vault.models import ProviderConfigRow, Trial
from services.key_vault.transit import Transit

# What a chat uses where it says nothing itself, by column: `model`, `temperature`, `max_tokens`, and `priority` where
# it leaves the choice of provider open. What is not among them stays as it is; an empty model, and None, leave the
# choice to the platform.
Defaults = Mapping[str, str | float | None]

# How the audit log calls them: as requests do.
_NAMES = {"model": "model", "temperature": "temperature", "max_tokens": "maxTokens", "priority": "priority"}


@dataclass(frozen=True, slots=True)
class Stored:
    """What came of storing: whether it was done, whether a key is now in place, and how the trial of a new one went."""

    success: bool
    configured: bool
    trial: Trial | None


class ProviderConfigs:
    """The configurations of everybody, one per person and provider.

    What is done with a key is written down for the audit log before it is done, or before anybody hears that it is.
    """

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
        self._transit = transit
        self._trials = trials
        self._storage = KeyStorage(transactions, transit)
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

    async def store(
        self, user_id: str, provider: str, key: ProviderKey, defaults: Defaults, *, changed: str = ""
    ) -> Stored:
        """Tries a key and stores it with some defaults, unless the provider refuses it.

        `changed` tells the audit log what else was given. Raises Unavailable, with nothing stored. Sealed first: while
        Vault is away no provider needs to be bothered.
        """
        self._audit.check_writable()
        ciphertext = await self._storage.seal(key, user_id=user_id, provider=provider)
        async with self._transactions() as session:
            route = route_of(await repository.find_platform(session, provider))
        trial = await self._trials.attempt(provider, key, route)
        if trial.refused:
            return await self._refused(user_id, provider, trial, changed)
        if not trial.success:
            trial = replace(trial, message=f"{trial.message} The key is stored.")
        key_hint = hint_of(key)

        async def write(session: AsyncSession, sealed: str) -> None:
            await repository.put(
                session, user_id, provider, ciphertext=sealed, key_hint=key_hint, last_test=trial, defaults=defaults
            )
            await self._changes.announce(session, user_id, provider)
            self._record("provider_config.set", provider, success="true", error=trial.reason, changed=changed)

        await self._storage.store(key, ciphertext, user_id=user_id, provider=provider, write=write)
        return Stored(success=True, configured=True, trial=trial)

    async def update(self, user_id: str, provider: str, key: ProviderKey | None, defaults: Defaults) -> Stored:
        """Changes some defaults, and the key if there is a new one, like `store`. Raises NotFound, Unavailable.

        Without a new key the stored one is not looked at, so that no earlier one can take the place of another's.
        """
        changed = ", ".join([*(["apiKey"] if key is not None else []), *(_NAMES[column] for column in defaults)])
        if key is not None:
            return await self.store(user_id, provider, key, defaults, changed=changed)
        if not defaults:
            await self.get(user_id, provider)
            return Stored(success=True, configured=True, trial=None)
        self._audit.check_writable()
        async with self._transactions() as session:
            if not await repository.change_defaults(session, user_id, provider, defaults):
                raise _nothing_stored(provider)
            await self._changes.announce(session, user_id, provider)
            self._record("provider_config.set", provider, success="true", changed=changed)
        return Stored(success=True, configured=True, trial=None)

    async def _refused(self, user_id: str, provider: str, trial: Trial, changed: str) -> Stored:
        async with self._transactions() as session:
            earlier = await repository.find(session, user_id, provider)
        self._record("provider_config.set", provider, success="false", error=trial.reason, changed=changed)
        consequence = "The key was not stored." if earlier is None else "It was not stored; the earlier key stays."
        return Stored(
            success=False,
            configured=earlier is not None,
            trial=replace(trial, message=f"{trial.message} {consequence}"),
        )

    async def test(self, user_id: str, provider: str, key: ProviderKey | None, model: str) -> Trial:
        """Tries a key, or the one a chat would use when there is none, for a model if one is named.

        Nothing is stored of a key that is given. Raises FailedPrecondition when there is no key, Unavailable when the
        stored one cannot be opened.
        """
        self._audit.check_writable()
        async with self._transactions() as session:
            config = await find_effective(session, user_id, provider)
        if key is None:
            return await self._test_stored(config, user_id, model)
        trial = await self._trials.attempt(provider, key, config.route, model)
        self._record("provider_config.tested", provider, key="given", **_outcome(trial))
        return trial

    async def _test_stored(self, config: EffectiveConfig, user_id: str, model: str) -> Trial:
        provider, own = config.provider, config.key().user_id is not None
        if config.route.enabled:
            config, key = await open_key(self._transactions, self._transit, config, user_id)
            own = config.key().user_id is not None
            trial = await self._trials.attempt(provider, key, config.route, model)
            del key
        else:
            trial = self._trials.not_made(provider)
        self._record("provider_config.tested", provider, key="stored" if own else "platform", **_outcome(trial))
        told = trial
        if trial.refused:
            remedy = "Store a valid one" if own else "It is the platform's; store your own"
            told = replace(trial, message=f"{trial.message} {remedy} with POST /api/provider-config/{provider}.")
        # That the key does not open some other model says nothing of the configuration. The key is the same as before,
        # so nobody needs to hear of a change.
        if model in ("", config.model):
            async with self._transactions() as session:
                if config.own is not None:
                    await repository.note_test(session, config.own, told)
                elif config.platform is not None:
                    await repository.note_platform_test(session, config.platform, trial)
        return told

    async def delete(self, user_id: str, provider: str) -> None:
        """Erases a configuration. Raises NotFound."""
        async with self._transactions() as session:
            if not await repository.remove(session, user_id, provider):
                raise _nothing_stored(provider)
            await self._changes.announce(session, user_id, provider)
            self._record("provider_config.deleted", provider)

    def _record(self, action: str, provider: str, **details: str) -> None:
        self._audit.record(observed(action, resource=f"provider-config/{provider}", **details))


def _outcome(trial: Trial) -> dict[str, str]:
    return {"success": str(trial.success).lower(), "error": trial.reason}


def _nothing_stored(provider: str) -> NotFound:
    return NotFound(
        f"You have stored no key for {provider}; store one with POST /api/provider-config/{provider}.",
        provider=provider,
    )
