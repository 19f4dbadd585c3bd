"""Opened data keys: at hand for their owner, for a minute, and no more of them than may be."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import pytest

from libs.errors import Unavailable
from libs.sealed_content import KEY_BYTES, DataKey
from services.analytics.opened_keys import OpenedKeys


class Vault:
    """Opens keys, whose text is their first letter, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.away = False

    async def unwrap(self, wrapped_keys: Sequence[str]) -> Sequence[bytes]:
        self.asked.append(list(wrapped_keys))
        if self.away:
            raise Unavailable("away")
        return [b"" if key.endswith("=") else key[-1].encode() * KEY_BYTES for key in wrapped_keys]


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def vault() -> Vault:
    return Vault()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def keys(vault: Vault, time: Time) -> OpenedKeys:
    return OpenedKeys(vault.unwrap, size=3, clock=time)


async def test_each_is_opened_once_in_a_minute(keys: OpenedKeys, vault: Vault, time: Time) -> None:
    first = await keys.open("usr_1", ["vault:v1:a", "vault:v1:b", "vault:v1:a"])
    time.now = 59.9
    second = await keys.open("usr_1", ["vault:v1:b", "vault:v1:c"])
    time.now = 60.0
    await keys.open("usr_1", ["vault:v1:a"])

    assert first == {f"vault:v1:{name}": DataKey(name.encode() * KEY_BYTES) for name in "ab"}
    assert second["vault:v1:b"] is first["vault:v1:b"]
    assert vault.asked == [["vault:v1:a", "vault:v1:b"], ["vault:v1:c"], ["vault:v1:a"]]
    assert (keys.hits, keys.misses) == (1, 4)


async def test_is_at_hand_for_its_owner_alone(keys: OpenedKeys, vault: Vault) -> None:
    await keys.open("usr_1", ["vault:v1:a"])
    vault.away = True

    assert await keys.open("usr_1", ["vault:v1:a"])
    with pytest.raises(Unavailable):
        await keys.open("usr_2", ["vault:v1:a"])


async def test_what_does_not_open_is_left_out_and_what_is_no_key_is_not_asked_for(
    keys: OpenedKeys, vault: Vault
) -> None:
    strange = ["", "vault:", "vault:v1:", "vault:v1:a b", "vault:v1:" + "a" * 200, "AAAA", "vault:v1:a\n"]

    opened = await keys.open("usr_1", [*strange, "vault:v1:=", "vault:v1:a"])

    assert set(opened) == {"vault:v1:a"}
    assert vault.asked == [["vault:v1:=", "vault:v1:a"]]
    assert len(keys) == 1


async def test_many_are_asked_for_in_calls_that_the_key_vault_takes(keys: OpenedKeys, vault: Vault) -> None:
    wrapped = [f"vault:v1:{number}" for number in range(1_001)]

    opened = await keys.open("usr_1", wrapped)

    assert [len(asked) for asked in vault.asked] == [500, 500, 1]
    assert set(opened) == set(wrapped)
    assert len(keys) == 3


async def test_are_overwritten_once_they_are_let_go(keys: OpenedKeys, time: Time) -> None:
    async with keys.swept():
        opened = await keys.open("usr_1", ["vault:v1:a"])
        held = opened.pop("vault:v1:a")._bytes
        assert held == b"a" * KEY_BYTES
        time.now = 60.0
        keys.let_go()
        gc.collect()
        assert held == bytes(KEY_BYTES)

        await keys.open("usr_1", ["vault:v1:a"])
    assert len(keys) == 0
