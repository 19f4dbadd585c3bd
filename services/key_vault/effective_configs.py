"""What holds for a person and a provider: what they configured themselves, over what administrators did for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from libs.database import Transactions
from libs.errors import FailedPrecondition, PermissionDenied
from libs.provider_keys import ProviderKey
from services.key_vault import repository
from services.key_vault.models import PlatformConfigRow, ProviderConfigRow
from services.key_vault.transit import Transit


@dataclass(frozen=True, slots=True)
class Route:
    """Whether a provider is called, at which base URL, an empty one is the worker's own, and for which models, if not
    any.
    """

    enabled: bool = True
    endpoint: str = ""
    allowed_models: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A stored ciphertext; `user_id` is None for the platform's."""

    ciphertext: str
    user_id: str | None


@dataclass(frozen=True, slots=True)
class EffectiveConfig:
    """The configuration of a provider as it is for one person."""

    provider: str
    own: ProviderConfigRow | None
    platform: PlatformConfigRow | None

    @property
    def route(self) -> Route:
        """Whether and where the provider is called."""
        return route_of(self.platform)

    @property
    def model(self) -> str:
        """The model of a chat that names none; empty when nobody has chosen."""
        own = self.own.model if self.own else ""
        return own or (self.platform.default_model if self.platform else "")

    def check_enabled(self) -> None:
        """Raises PermissionDenied when administrators have switched the provider off."""
        if not self.route.enabled:
            raise PermissionDenied(switched_off(self.provider), reason="PROVIDER_DISABLED", provider=self.provider)

    def key(self) -> SealedKey:
        """Returns the key to use: the person's own, or else the platform's. Raises FailedPrecondition."""
        if self.own is not None:
            return SealedKey(self.own.ciphertext, self.own.user_id)
        if self.platform is not None and self.platform.ciphertext is not None:
            return SealedKey(self.platform.ciphertext, None)
        raise FailedPrecondition(
            f"You have stored no key for {self.provider}; store one with POST /api/provider-config/{self.provider}.",
            reason="PROVIDER_NOT_CONFIGURED",
            provider=self.provider,
        )


async def find_effective(session: AsyncSession, user_id: str, provider: str) -> EffectiveConfig:
    """Returns what holds for a person and a provider."""
    return EffectiveConfig(provider, *await repository.find_both(session, user_id, provider))


def switched_off(provider: str) -> str:
    """Says that a provider is not to be used, and what to do about it."""
    return f"Administrators have switched {provider} off; choose another provider."


def route_of(platform: PlatformConfigRow | None) -> Route:
    """Returns whether and where a provider is called, as administrators have configured it."""
    return Route() if platform is None else Route(platform.enabled, platform.endpoint, platform.allowed_models)


async def open_key(
    transactions: Transactions, transit: Transit, config: EffectiveConfig, user_id: str
) -> tuple[EffectiveConfig, ProviderKey]:
    """Opens the key of a person's configuration, and returns it with the configuration, as it is by then.

    A rotation may have sealed the key anew since the configuration was read, and Vault open the old ciphertext no more:
    then it is read once more. Raises FailedPrecondition when there is no key that opens, Unavailable.
    """
    sealed = config.key()
    try:
        return config, await _open(transit, sealed, config.provider)
    except FailedPrecondition:
        async with transactions() as session:
            config = await find_effective(session, user_id, config.provider)
        if config.key() == sealed:
            raise
    return config, await _open(transit, config.key(), config.provider)


async def _open(transit: Transit, sealed: SealedKey, provider: str) -> ProviderKey:
    return await transit.open(sealed.ciphertext, user_id=sealed.user_id, provider=provider)
