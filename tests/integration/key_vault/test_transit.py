"""Sealing and opening with a real Vault: the binding to an owner, and the life of the token."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies

from deploy.local.pki import issue
from libs.errors import FailedPrecondition, Unavailable
from libs.provider_keys import ProviderKey
from libs.redaction import Secret
from services.key_vault.transit import Transit
from services.key_vault.vault_login import AppRole
from tests.integration.key_vault.deployment import connected_transit
from tests.support.vault import VaultServer
from tests.support.waiting import eventually

KEY = "sk-sandbox-transit-key-1234"
OWNER = {"user_id": "usr_alice", "provider": "openai"}

few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Few letters, so that different pairs often read the same when put together.
names = strategies.text('a" ,', max_size=3)
# Without an account: the platform.
owners = strategies.fixed_dictionaries({"user_id": strategies.none() | names, "provider": names})


class TestCiphertext:
    @few
    @given(plaintext=strategies.text(min_size=1, max_size=50), owner=owners, other=owners)
    async def test_what_was_sealed_opens_for_its_owner_alone(
        self, transit: Transit, plaintext: str, owner: dict[str, Any], other: dict[str, Any]
    ) -> None:
        assume(owner != other)
        ciphertext = await transit.seal(ProviderKey(plaintext), **owner)
        assert plaintext not in ciphertext or len(plaintext) < 4
        assert (await transit.open(ciphertext, **owner)).reveal() == plaintext
        with pytest.raises(FailedPrecondition, match="store it again"):
            await transit.open(ciphertext, **other)
        assert await transit.rewrap_keys([(ciphertext, other["user_id"], other["provider"])]) == [None]

    @few
    @given(data=strategies.data())
    async def test_nothing_altered_opens(self, transit: Transit, data: strategies.DataObject) -> None:
        ciphertext = await transit.seal(ProviderKey(KEY), **OWNER)
        version, sealed = ciphertext.rsplit(":", 1)
        raw = bytearray(base64.b64decode(sealed))
        raw[data.draw(strategies.integers(0, len(raw) - 1))] ^= data.draw(strategies.integers(1, 255))

        with pytest.raises(FailedPrecondition, match="store it again"):
            await transit.open(f"{version}:{base64.b64encode(raw).decode()}", **OWNER)

    @pytest.mark.parametrize("ciphertext", ["", "junk", "vault:v1:", "vault:v1:AAAA", "vault:v1:%%", "vault:v999:AAAA"])
    async def test_nothing_malformed_opens(self, transit: Transit, ciphertext: str) -> None:
        with pytest.raises(FailedPrecondition, match="store it again"):
            await transit.open(ciphertext, **OWNER)

    @few
    @given(owner=names, other=names, data=strategies.data())
    async def test_a_data_key_opens_for_its_account_alone_and_unaltered(
        self, transit: Transit, owner: str, other: str, data: strategies.DataObject
    ) -> None:
        assume(owner != other)
        key, wrapped = await transit.data_key(owner)
        _, second = await transit.data_key(owner)
        position = data.draw(strategies.integers(len("vault:v1:"), len(wrapped) - 3))
        altered = wrapped[:position] + ("A" if wrapped[position] != "A" else "B") + wrapped[position + 1 :]

        assert len(key) == 32
        assert second != wrapped
        assert await transit.unwrap_data_keys([wrapped, altered], user_id=owner) == [key, None]
        assert await transit.unwrap_data_keys([wrapped, altered], user_id=other) == [None, None]
        rewrapped, *refused = await transit.rewrap_data_keys([(owner, wrapped), (other, wrapped), (owner, altered)])
        assert refused == [None, None]
        assert rewrapped is not None
        assert await transit.unwrap_data_keys([rewrapped], user_id=owner) == [key]

    async def test_a_lost_transit_key_is_the_operators_concern(self, vault: VaultServer) -> None:
        with vault.changed_policy(_anything_in(vault.place.transit)), vault.without_transit_key():
            async with connected_transit(vault) as transit:
                with pytest.raises(Unavailable, match="no usable transit key"):
                    await transit.open("vault:v1:AAAA", **OWNER)


class TestToken:
    async def test_a_revoked_token_is_replaced_once_for_all_who_need_it(
        self, transit: Transit, vault: VaultServer
    ) -> None:
        ciphertext = await transit.seal(ProviderKey(KEY), **OWNER)
        await asyncio.to_thread(vault.revoke_service_tokens)

        opened = await asyncio.gather(*(transit.open(ciphertext, **OWNER) for _ in range(20)))

        assert {key.reveal() for key in opened} == {KEY}
        assert len(await _service_tokens(vault)) == 1

    async def test_a_token_is_renewed_while_it_lives(self, vault: VaultServer) -> None:
        await asyncio.to_thread(vault.revoke_service_tokens)
        with vault.changed_role(token_period="3s"):
            async with connected_transit(vault) as transit:
                await transit.ping()
                (first,) = await _service_tokens(vault)
                second = await _service_tokens(vault, lambda tokens: _renewals(tokens) != _renewals([first]))
                assert [token["accessor"] for token in second] == [first["accessor"]]

    async def test_a_token_that_cannot_be_renewed_any_more_is_replaced(self, vault: VaultServer) -> None:
        await asyncio.to_thread(vault.revoke_service_tokens)
        with vault.changed_role(token_explicit_max_ttl="2s"):
            async with connected_transit(vault) as transit:
                ciphertext = await transit.seal(ProviderKey(KEY), **OWNER)
                (first,) = await _service_tokens(vault)
                await _service_tokens(vault, lambda tokens: first["accessor"] not in _accessors(tokens))
                assert (await transit.open(ciphertext, **OWNER)).reveal() == KEY

    async def test_a_missing_right_is_told_and_costs_no_logins(self, transit: Transit, vault: VaultServer) -> None:
        await transit.ping()
        before = _accessors(await _service_tokens(vault))
        with vault.changed_policy('path "auth/token/lookup-self" { capabilities = ["read"] }'):
            for _ in range(3):
                with pytest.raises(Unavailable, match="an operator mends its policy"):
                    await transit.seal(ProviderKey(KEY), **OWNER)
        assert _accessors(await _service_tokens(vault)) == before

    async def test_a_refused_login_is_told(self, vault: VaultServer) -> None:
        async with connected_transit(
            vault, login=AppRole("wrong", Secret("wrong"), mount=vault.place.approle)
        ) as transit:
            with pytest.raises(Unavailable, match="an operator issues a new secret id"):
                await transit.ping()

    async def test_a_certificate_of_another_authority_is_told(self, vault: VaultServer, tmp_path: Path) -> None:
        issue(tmp_path, ["vault"])
        async with connected_transit(vault, authority=tmp_path / "vault" / "ca.crt") as transit:
            with pytest.raises(Unavailable, match="certificate is not trusted"):
                await transit.ping()


def _anything_in(mount: str) -> str:
    return f'path "{mount}/*" {{ capabilities = ["update"] }}'


async def _service_tokens(
    vault: VaultServer, are_as_awaited: Callable[[list[dict[str, Any]]], bool] = bool
) -> list[dict[str, Any]]:
    """Returns what Vault knows of the service's tokens, as soon as it is what is awaited."""
    return await eventually(lambda: asyncio.to_thread(vault.service_tokens), are_as_awaited)


def _accessors(tokens: list[dict[str, Any]]) -> set[str]:
    return {token["accessor"] for token in tokens}


def _renewals(tokens: list[dict[str, Any]]) -> list[int]:
    return [token.get("last_renewal_time", 0) for token in tokens]
