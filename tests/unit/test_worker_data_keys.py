"""A worker has one data key for each account: of the day, asked for once, and no longer than it is needed."""

from __future__ import annotations

import asyncio

import pytest

from libs.errors import Unavailable
from libs.sealed_content import KEY_BYTES, MOST_USES, DataKey
from libs.worker.data_keys import AccountKey, DataKeys
from tests.support.waiting import eventually, within_bound

NOON = 20_000 * 86_400 + 43_200.0
MIDNIGHT = 20_001 * 86_400.0


class Vault:
    """Makes data keys that are told apart by their numbers, unless it is away or made to wait."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.asked = 0
        self.away = False
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def load(self, user_id: str) -> AccountKey:
        self.asked += 1
        await self.goes_on.wait()
        if self.away:
            raise Unavailable("Vault is sealed; an operator unseals it.", retry_after=5)
        self.made.append(user_id)
        return AccountKey(DataKey(bytes([len(self.made)]) * KEY_BYTES), f"vault:v1:{len(self.made)}")


class Clocks:
    """The time of day, and the seconds since some moment."""

    def __init__(self) -> None:
        self.now = NOON
        self.seconds = 0.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.seconds += seconds


@pytest.fixture
def vault() -> Vault:
    return Vault()


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def keys(vault: Vault, clocks: Clocks) -> DataKeys:
    return DataKeys(vault.load, size=3, now=lambda: clocks.now, clock=lambda: clocks.seconds)


class TestSharing:
    async def test_records_of_a_day_share_a_key(self, keys: DataKeys, vault: Vault):
        first, second = await keys.of("usr_1"), await keys.of("usr_1")

        assert first is second
        assert vault.made == ["usr_1"]

    async def test_accounts_do_not(self, keys: DataKeys):
        assert (await keys.of("usr_1")).key != (await keys.of("usr_2")).key

    async def test_those_who_ask_at_a_time_share_a_call_whoever_leaves(self, keys: DataKeys, vault: Vault):
        vault.goes_on.clear()
        asking = [asyncio.create_task(keys.of("usr_1")) for _ in range(5)]
        await eventually(_asked(vault), lambda asked: asked == 1)
        asking[0].cancel()
        vault.goes_on.set()
        first, *others = await within_bound(asyncio.gather(*asking, return_exceptions=True))

        assert isinstance(first, asyncio.CancelledError)
        assert all(isinstance(other, AccountKey) and other is others[0] for other in others)
        assert vault.made == ["usr_1"]

    async def test_the_least_recently_used_goes_first(self, keys: DataKeys, vault: Vault):
        for user_id in ("usr_1", "usr_2", "usr_3", "usr_1", "usr_4", "usr_1", "usr_2"):
            await keys.of(user_id)

        assert vault.made == ["usr_1", "usr_2", "usr_3", "usr_4", "usr_2"]
        assert len(keys) == 3


class TestWithoutWaiting:
    async def test_a_key_is_at_hand_once_it_was_asked_for(self, keys: DataKeys, vault: Vault):
        assert keys.at_hand("usr_1") is None
        await within_bound(asyncio.gather(keys.asked_for("usr_1"), keys.asked_for("usr_1")))
        key = keys.at_hand("usr_1", waited=True)

        assert key is not None
        assert key is keys.at_hand("usr_1") is await keys.of("usr_1")
        assert vault.made == ["usr_1"]
        assert (keys.hits, keys.misses) == (2, 2)  # who waited has been counted

    async def test_it_is_used_no_more_often_and_no_longer(self, keys: DataKeys, vault: Vault, clocks: Clocks):
        await keys.of("usr_1")
        keys._held["usr_1"].uses = MOST_USES - 1
        assert keys.at_hand("usr_1") is not None
        assert keys.at_hand("usr_1") is None
        await keys.of("usr_1")
        clocks.pass_by(MIDNIGHT - NOON)
        assert keys.at_hand("usr_1") is not None
        await eventually(_made(vault), lambda made: made == 3)  # that of the new day
        clocks.pass_by(86_400 + 3_600)
        assert keys.at_hand("usr_1") is None

    async def test_one_that_cannot_be_made_is_not_at_hand(self, keys: DataKeys, vault: Vault):
        vault.away = True
        asked_for = keys.asked_for("usr_1")
        with pytest.raises(Unavailable):
            await within_bound(asked_for)

        assert keys.at_hand("usr_1", waited=True) is None


class TestRotation:
    async def test_a_new_day_has_a_new_key_for_which_nobody_waits(self, keys: DataKeys, vault: Vault, clocks: Clocks):
        yesterday = await keys.of("usr_1")
        clocks.pass_by(MIDNIGHT - NOON)
        vault.goes_on.clear()
        meanwhile = await within_bound(keys.of("usr_1"))
        vault.goes_on.set()
        await eventually(_made(vault), lambda made: made == 2)

        assert meanwhile is yesterday
        assert (await keys.of("usr_1")).key != yesterday.key

    async def test_yesterdays_key_is_not_used_after_an_hour(self, keys: DataKeys, vault: Vault, clocks: Clocks):
        yesterday = await keys.of("usr_1")
        clocks.pass_by(MIDNIGHT - NOON + 3_600)

        assert (await keys.of("usr_1")).key != yesterday.key

    async def test_a_key_seals_no_more_than_it_may(self, keys: DataKeys, vault: Vault):
        first = await keys.of("usr_1")
        keys._held["usr_1"].uses = MOST_USES - 1
        last = await keys.of("usr_1")

        assert last is first
        assert (await keys.of("usr_1")).key != first.key


class TestLettingGo:
    async def test_an_idle_accounts_key_is_overwritten(self, keys: DataKeys, clocks: Clocks):
        idle = await keys.of("usr_1")
        memory = memoryview(idle.key._bytes)
        clocks.pass_by(400)
        await keys.of("usr_2")
        clocks.pass_by(400)
        del idle
        keys.let_go()

        assert len(keys) == 1
        assert bytes(memory) == bytes(KEY_BYTES)

    async def test_the_end_of_the_process_leaves_none(self, keys: DataKeys, vault: Vault):
        async with keys.swept():
            await keys.of("usr_1")
            vault.goes_on.clear()
            asking = asyncio.create_task(keys.of("usr_2"))
            await eventually(_asked(vault), lambda asked: asked == 2)

        assert len(keys) == 0
        with pytest.raises(asyncio.CancelledError):
            await within_bound(asking)


class TestOutage:
    async def test_a_key_of_the_day_goes_on(self, keys: DataKeys, vault: Vault):
        before = await keys.of("usr_1")
        vault.away = True

        assert await keys.of("usr_1") is before

    async def test_yesterdays_goes_on_for_a_while(self, keys: DataKeys, vault: Vault, clocks: Clocks):
        before = await keys.of("usr_1")
        vault.away = True
        clocks.pass_by(MIDNIGHT - NOON)
        first = await keys.of("usr_1")
        await eventually(_asked(vault), lambda asked: asked == 2)
        clocks.pass_by(3_599)
        assert first is await keys.of("usr_1") is before
        clocks.pass_by(1)
        with pytest.raises(Unavailable):
            await keys.of("usr_1")

    async def test_others_hear_at_once_that_there_is_none(self, keys: DataKeys, vault: Vault, clocks: Clocks):
        vault.away = True
        for user_id in ("usr_1", "usr_2", "usr_1"):
            with pytest.raises(Unavailable, match="unseals") as failure:
                await keys.of(user_id)
            assert failure.value.retry_after == 5
        assert vault.asked == 1
        vault.away = False
        clocks.pass_by(1)

        assert (await keys.of("usr_2")).wrapped == "vault:v1:1"


def _asked(vault: Vault):
    async def asked() -> int:
        return vault.asked

    return asked


def _made(vault: Vault):
    async def made() -> int:
        return len(vault.made)

    return made
