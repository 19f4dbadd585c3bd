"""Seals and opens secrets with the transit engine of Vault or OpenBao; nothing else knows that it is there.

An encryption key never leaves Vault: the plaintext goes in and the ciphertext comes out, and back. It is derived from
a context that names the owner, and for a provider's key the provider, so that a row copied to another does not open.

The context alone does that. Associated data would do it twice, and OpenBao 2.7.2 does not rewrap what was sealed with
it: with the right associated data or without, `rewrap` answers 400 `cipher: message authentication failed`, and in a
batch that item has this error (status 200). Without rewrap there is no rotation.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson
import structlog

from libs.errors import FailedPrecondition, Unavailable
from libs.provider_keys import ProviderKey
from services.key_vault.vault_login import Login
from services.key_vault.vault_session import RequestRefused, VaultSession, cannot, connect_vault

log = structlog.get_logger()

DEFAULT_MOUNT = "transit"

_DATA_KEY_BITS = 256
# OpenBao refuses a request of more than a thousand texts, names included; an item has four.
MOST_AT_ONCE = 200


class Purpose(StrEnum):
    """What an encryption key is for; its name in Vault."""

    PROVIDER_KEYS = "provider-keys"
    CHAT_HISTORY = "chat-history"


@dataclass(frozen=True, slots=True)
class KeyVersions:
    """The version of an encryption key that seals, and the oldest that still opens."""

    latest: int
    oldest: int


class Transit:
    """Seals and opens secrets. Every method raises Unavailable while Vault cannot serve, and says why."""

    def __init__(self, vault: VaultSession, mount: str = DEFAULT_MOUNT) -> None:
        self._vault = vault
        self._mount = mount
        self.ping = vault.ping
        self.metrics = vault.metrics

    async def seal(self, plaintext: ProviderKey, *, user_id: str | None, provider: str) -> str:
        """Returns the ciphertext of a provider's key that belongs to a user; to the platform when that is None."""
        request = {
            "plaintext": base64.b64encode(plaintext.reveal().encode()).decode(),
            "context": _context(user_id, provider),
        }
        answer = await self._post("encrypt", Purpose.PROVIDER_KEYS, request)
        return str(answer["data"]["ciphertext"])

    async def open(self, ciphertext: str, *, user_id: str | None, provider: str) -> ProviderKey:
        """Returns the key that was sealed for the same user, or the platform, and provider.

        Raises FailedPrecondition when it was sealed for another or has been altered.
        """
        request = {"ciphertext": ciphertext, "context": _context(user_id, provider)}
        try:
            answer = await self._ask(f"decrypt/{Purpose.PROVIDER_KEYS}", request)
        except RequestRefused as refusal:
            if refusal.no_key:
                raise _no_key(Purpose.PROVIDER_KEYS) from None
            log.error("stored key cannot be opened", user=user_id, provider=provider)
            raise _not_to_be_opened(user_id, provider) from None
        return ProviderKey(base64.b64decode(answer["data"]["plaintext"]).decode())

    async def rewrap_keys(self, keys: Sequence[tuple[str, str | None, str]]) -> list[str | None]:
        """Seals keys anew with the latest version, each given by ciphertext, user or None, and provider.

        Vault does it within itself. None stands for one that does not open.
        """
        items = [
            {"ciphertext": ciphertext, "context": _context(user_id, provider)} for ciphertext, user_id, provider in keys
        ]
        return await self._batch("rewrap", Purpose.PROVIDER_KEYS, items, "ciphertext")

    async def data_key(self, user_id: str) -> tuple[bytes, str]:
        """Makes a data key of 32 bytes for an account, and returns it in the clear and wrapped."""
        request = {"context": _context(user_id), "bits": _DATA_KEY_BITS}
        answer = await self._post("datakey/plaintext", Purpose.CHAT_HISTORY, request)
        return base64.b64decode(answer["data"]["plaintext"]), str(answer["data"]["ciphertext"])

    async def unwrap_data_keys(self, wrapped: Sequence[str], *, user_id: str) -> list[bytes | None]:
        """Opens wrapped data keys of an account. None stands for one that is not its, or was altered."""
        items = [{"ciphertext": key, "context": _context(user_id)} for key in wrapped]
        found = await self._batch("decrypt", Purpose.CHAT_HISTORY, items, "plaintext")
        return [None if plaintext is None else base64.b64decode(plaintext) for plaintext in found]

    async def rewrap_data_keys(self, keys: Sequence[tuple[str, str]]) -> list[str | None]:
        """Wraps data keys anew with the latest version, each given by account and wrapped key. None as above."""
        items = [{"ciphertext": wrapped, "context": _context(user_id)} for user_id, wrapped in keys]
        return await self._batch("rewrap", Purpose.CHAT_HISTORY, items, "ciphertext")

    async def versions(self, purpose: Purpose) -> KeyVersions:
        """Returns the versions of an encryption key."""
        try:
            answer = await self._vault.get(f"{self._mount}/keys/{purpose}", operation="read_key")
        except RequestRefused:
            raise _no_key(purpose) from None
        return KeyVersions(answer["data"]["latest_version"], answer["data"]["min_decryption_version"])

    async def rotate(self, purpose: Purpose) -> KeyVersions:
        """Makes a new version of an encryption key, which seals from now on. Each call makes one."""
        await self._post("keys", purpose, {}, "/rotate", repeatable=False)
        return await self.versions(purpose)

    async def refuse_older(self, purpose: Purpose, version: int) -> None:
        """Has Vault open nothing any more that a version before this one has sealed."""
        await self._post("keys", purpose, {"min_decryption_version": version}, "/config")

    async def _batch(
        self, operation: str, purpose: Purpose, items: Sequence[dict[str, str]], wanted: str
    ) -> list[str | None]:
        """Has Vault do many things in few calls, and returns the wanted part of each; None where it refuses one."""
        found: list[str | None] = []
        for begin in range(0, len(items), MOST_AT_ONCE):
            # Without that code one that fails makes the status 400, and an error would hold what the others are.
            request = {
                "batch_input": items[begin : begin + MOST_AT_ONCE],
                "partial_failure_response_code": 200,
            }
            try:
                results = (await self._ask(f"{operation}/{purpose}", request))["data"]["batch_results"]
            except RequestRefused as refusal:
                if refusal.results is None:  # if all of them fail, the status is 400 all the same
                    raise _no_key(purpose) from None
                results = refusal.results
            found += [_result(result, wanted) for result in results]
        return found

    async def _post(
        self, operation: str, purpose: Purpose, request: dict[str, Any], rest: str = "", *, repeatable: bool = True
    ) -> dict[str, Any]:
        try:
            return await self._ask(f"{operation}/{purpose}{rest}", request, repeatable=repeatable)
        except RequestRefused:
            raise _no_key(purpose) from None

    async def _ask(self, path: str, request: dict[str, Any], *, repeatable: bool = True) -> dict[str, Any]:
        operation = path.partition("/")[0]
        return await self._vault.post(f"{self._mount}/{path}", request, operation=operation, repeatable=repeatable)


@asynccontextmanager
async def connect_transit(
    address: str, *, authority: Path, login: Login, namespace: str | None = None, mount: str = DEFAULT_MOUNT
) -> AsyncIterator[Transit]:
    """Uses the transit engine at `mount` of the Vault at an https address, with the rights of a login."""
    async with connect_vault(address, authority=authority, login=login, namespace=namespace) as vault:
        yield Transit(vault, mount)


def _context(*names: str | None) -> str:
    # JSON keeps them apart whatever characters they hold.
    return base64.b64encode(orjson.dumps(names)).decode()


def _result(result: dict[str, Any], wanted: str) -> str | None:
    return None if result.get("error") or not result.get(wanted) else str(result[wanted])


def _no_key(purpose: Purpose) -> Unavailable:
    return cannot(
        f"Vault has no usable transit key {purpose}; an operator runs deploy.vault.bootstrap, which creates it."
    )


def _not_to_be_opened(user_id: str | None, provider: str) -> FailedPrecondition:
    whose, remedy = (
        ("The platform's key", "ask an administrator to store it again.")
        if user_id is None
        else ("The stored key", f"store it again with POST /api/provider-config/{provider}.")
    )
    return FailedPrecondition(
        f"{whose} for {provider} cannot be opened; {remedy}", reason="PROVIDER_NOT_CONFIGURED", provider=provider
    )
