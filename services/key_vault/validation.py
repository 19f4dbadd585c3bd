"""Checks what callers send before anything is done with it; every violation is told at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from libs.errors import InvalidRequest, NotFound, PermissionDenied, Violation, refuse_any
from libs.provider_keys import broken_key_rule
from libs.providers import worker_service
from services.key_vault.provider_configs import Defaults

_MODEL_LENGTH = 200
_MAX_TEMPERATURE = 2.0
_USER_ID_LENGTH = 64


def check_provider(provider: str, providers: Collection[str]) -> None:
    """Raises NotFound when a provider is none of those there are."""
    if provider not in providers:
        known = ", ".join(providers)
        raise NotFound(
            f"There is no such provider; choose one of {known}.", reason="PROVIDER_NOT_FOUND", providers=known
        )


def check_new_config(api_key: str, defaults: Defaults) -> None:
    """Raises InvalidRequest when a key cannot be one, or a default not be used."""
    violations = [*_check_key(api_key), *_check_model(defaults.model)]
    # Written so that NaN fails.
    if defaults.temperature is not None and not 0 <= defaults.temperature <= _MAX_TEMPERATURE:
        violations.append(Violation("temperature", "Use a number from 0 to 2."))
    if defaults.max_tokens is not None and defaults.max_tokens < 1:
        violations.append(Violation("maxTokens", "Use a whole number from 1."))
    refuse_any(violations)


def check_key_test(api_key: str, model: str) -> None:
    """Raises InvalidRequest when a key that is given cannot be one, or a model not be named."""
    refuse_any([*(_check_key(api_key) if api_key else ()), *_check_model(model)])


def _check_key(api_key: str) -> Iterator[Violation]:
    if rule := broken_key_rule(api_key):
        yield Violation("apiKey", rule)


def _check_model(model: str) -> Iterator[Violation]:
    if len(model) > _MODEL_LENGTH or not model.isprintable():
        yield Violation("model", f"Use at most {_MODEL_LENGTH} printable characters.")


def check_own_provider(provider: str, peer: str) -> None:
    """Raises PermissionDenied unless the calling service is the worker of this provider."""
    if peer != worker_service(provider):
        raise PermissionDenied("A worker may ask for its own provider only.")


def check_user_id(user_id: str) -> None:
    """Raises InvalidRequest when a text cannot be the id of an account."""
    if not 0 < len(user_id) <= _USER_ID_LENGTH or not user_id.isprintable():
        raise InvalidRequest([Violation("userId", "Give the id of the account to call the provider for.")])
