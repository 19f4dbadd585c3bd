"""Checks what is asked of encryption keys and data keys; every violation is told at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from libs.errors import NotFound, Violation, refuse_any
from services.key_vault.transit import Purpose
from services.key_vault.validation import is_user_id

_MOST_KEYS = 500
# A wrapped key of 32 bytes takes 90 characters or so.
_WRAPPED_KEY_LENGTH = 200


def check_purpose(purpose: str) -> Purpose:
    """Returns the purpose of that name. Raises NotFound when there is no key for it."""
    if purpose not in tuple(Purpose):
        known = ", ".join(sorted(Purpose))
        raise NotFound(f"There is no such encryption key; choose one of {known}.", purposes=known)
    return Purpose(purpose)


def check_owner(user_id: str) -> None:
    """Raises InvalidRequest when a text cannot be the id of the account that a data key is to be for."""
    refuse_any(_check_user_id("userId", user_id))


def check_wrapped_keys(wrapped_keys: Sequence[str]) -> None:
    """Raises InvalidRequest when there are none, too many, or such as cannot be wrapped keys."""
    refuse_any([*_check_count("wrappedKeys", wrapped_keys), *_check_wrapped("wrappedKeys[{}]", wrapped_keys)])


def check_owned_keys(keys: Sequence[tuple[str, str]]) -> None:
    """Raises InvalidRequest like `check_wrapped_keys`, for pairs of an account and a wrapped key."""
    violations = [*_check_count("keys", keys), *_check_wrapped("keys[{}].wrappedKey", [wrapped for _, wrapped in keys])]
    for index, (user_id, _) in enumerate(keys[:_MOST_KEYS]):
        violations += _check_user_id(f"keys[{index}].userId", user_id)
    refuse_any(violations)


def _check_user_id(field: str, user_id: str) -> Iterator[Violation]:
    if not is_user_id(user_id):
        yield Violation(field, "Give the id of the account whose data key it is.")


def _check_count(field: str, keys: Sequence[object]) -> Iterator[Violation]:
    if not 0 < len(keys) <= _MOST_KEYS:
        yield Violation(field, f"Give 1 to {_MOST_KEYS} keys.")


def _check_wrapped(field: str, keys: Sequence[str]) -> Iterator[Violation]:
    for index, key in enumerate(keys[:_MOST_KEYS]):
        if not key.startswith("vault:v") or len(key) > _WRAPPED_KEY_LENGTH:
            yield Violation(field.format(index), "Give a wrapped key as GenerateDataKey answered it.")
