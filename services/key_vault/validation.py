"""Checks what callers send before anything is done with it; every violation is told at once."""

from __future__ import annotations

import re

from libs.errors import InvalidRequest, NotFound, PermissionDenied, Violation
from libs.providers import PROVIDERS, worker_service
from services.key_vault.provider_configs import Defaults

_API_KEY = re.compile(r"[!-~]{8,512}")
_MODEL_LENGTH = 200
_MAX_TEMPERATURE = 2.0
_USER_ID_LENGTH = 64


def check_provider(provider: str) -> None:
    """Raises NotFound when no such provider exists."""
    if provider not in PROVIDERS:
        known = ", ".join(PROVIDERS)
        raise NotFound(
            f"There is no such provider; choose one of {known}.", reason="PROVIDER_NOT_FOUND", providers=known
        )


def check_new_config(api_key: str, defaults: Defaults) -> None:
    """Raises InvalidRequest when a key cannot be one, or a default not be used."""
    violations = []
    if not _API_KEY.fullmatch(api_key):
        violations.append(
            Violation("apiKey", "Give the provider's key: 8 to 512 printable ASCII characters without spaces.")
        )
    if len(defaults.model) > _MODEL_LENGTH or not defaults.model.isprintable():
        violations.append(Violation("model", f"Use at most {_MODEL_LENGTH} printable characters."))
    # Written so that NaN fails.
    if defaults.temperature is not None and not 0 <= defaults.temperature <= _MAX_TEMPERATURE:
        violations.append(Violation("temperature", "Use a number from 0 to 2."))
    if defaults.max_tokens is not None and defaults.max_tokens < 1:
        violations.append(Violation("maxTokens", "Use a whole number from 1."))
    _raise_any(violations)


def check_own_provider(provider: str, peer: str) -> None:
    """Raises PermissionDenied unless the calling service is the worker of this provider."""
    if peer != worker_service(provider):
        raise PermissionDenied("A worker may ask for its own provider only.")


def check_user_id(user_id: str) -> None:
    """Raises InvalidRequest when a text cannot be the id of an account."""
    if not 0 < len(user_id) <= _USER_ID_LENGTH or not user_id.isprintable():
        _raise_any([Violation("userId", "Give the id of the account to call the provider for.")])


def _raise_any(violations: list[Violation]) -> None:
    if violations:
        raise InvalidRequest(violations)
