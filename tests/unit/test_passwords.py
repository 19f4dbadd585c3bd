"""Which passwords are good enough, and how they are hashed."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import argon2
import pytest

from libs.errors import Unavailable
from services.auth import passwords
from services.auth.password_hashing import PasswordHashing, hashing_in

EMAIL = "ada.lovelace@example.com"
GOOD = "seven green kettles"


class TestRules:
    @pytest.mark.parametrize(
        "password",
        [
            GOOD,
            "correct horse battery staple",
            "8f3k-29dk-x0fj",
            "пять зелёных чайников",
            "七つの緑のやかんが歌うよ夜に",
            "p" * 3 + "assed by the lake",
            "x1" + "0" * 1022,
        ],
    )
    def test_long_and_unusual_is_enough(self, password: str) -> None:
        assert passwords.broken_rule(password, EMAIL) is None

    @pytest.mark.parametrize(
        ("password", "says"),
        [
            ("", "12 characters"),
            ("elevenchars", "12 characters"),
            # Eleven letters in more than eleven code points.
            ("e\u0301" * 11, "12 characters"),
            ("é" * 513, "1,024 bytes"),
            ("for ada.lovelace only", "email"),
            ("FOR ADA.LOVELACE ONLY", "email"),
            ("a" * 12, "repetition"),
            ("qwerqwerqwer", "repetition"),
            ("kettlekettle", "repetition"),
            ("abcdefghijklm", "neighbouring"),
            ("ZYXWVUTSRQPO", "neighbouring"),
            ("123456789012", "neighbouring"),
            ("098765432109", "neighbouring"),
            ("qwertyuiopas", "neighbouring"),
            ("1q2w3e4r5t6y", "common"),
            ("Password1234", "common"),
            ("Password2026!", "common"),
            ("!!!administrator!!!", "common"),
            ("ｐａｓｓｗｏｒｄ１２３４", "common"),
        ],
    )
    def test_what_is_tried_first_is_refused_with_the_reason(self, password: str, says: str) -> None:
        assert says in (passwords.broken_rule(password, EMAIL) or "")

    def test_a_short_name_may_occur(self) -> None:
        assert passwords.broken_rule("adamant kettles", "ada@example.com") is None

    def test_no_message_repeats_the_password(self) -> None:
        for password in ("hunter2", "Password1234", "kettlekettle"):
            assert password not in (passwords.broken_rule(password, EMAIL) or password)


@pytest.fixture
async def hashing() -> AsyncIterator[PasswordHashing]:
    async with hashing_in(1) as hashing:
        yield hashing


class TestHashing:
    async def test_only_the_password_itself_matches(self, hashing: PasswordHashing) -> None:
        password_hash = await hashing.hash(GOOD)
        assert await hashing.matches(password_hash, GOOD)
        assert not await hashing.matches(password_hash, GOOD.upper())
        assert not await hashing.matches(password_hash, GOOD + " ")

    async def test_the_same_letters_match_however_they_were_typed(self, hashing: PasswordHashing) -> None:
        password_hash = await hashing.hash("sieben gru\u0308ne Kessel")
        assert await hashing.matches(password_hash, "sieben gr\u00fcne Kessel")

    async def test_nothing_matches_without_a_hash(self, hashing: PasswordHashing) -> None:
        assert not await hashing.matches(None, GOOD)
        assert not await hashing.matches(None, "")

    async def test_hashes_are_salted_and_have_the_recommended_parameters(self, hashing: PasswordHashing) -> None:
        first, second = await hashing.hash(GOOD), await hashing.hash(GOOD)
        assert first != second
        assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")

    async def test_a_hash_with_other_parameters_still_matches_and_is_outdated(self, hashing: PasswordHashing) -> None:
        older = argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(GOOD)
        assert await hashing.matches(older, GOOD)
        assert hashing.is_outdated(older)
        assert not hashing.is_outdated(await hashing.hash(GOOD))


class BlockedPool(ThreadPoolExecutor):
    """Begins no work before it is released."""

    def __init__(self) -> None:
        super().__init__(1)
        self.released = threading.Event()
        self.submit(self.released.wait)


@pytest.fixture
def blocked_pool() -> Iterator[BlockedPool]:
    pool = BlockedPool()
    yield pool
    pool.released.set()
    pool.shutdown()


class TestOverload:
    PLACES = 26

    async def test_refuses_at_once_what_it_cannot_do_soon(self, blocked_pool: BlockedPool) -> None:
        hashing = PasswordHashing(blocked_pool, threads=1)
        waiting = [asyncio.create_task(hashing.matches(None, GOOD)) for _ in range(self.PLACES)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await hashing.hash(GOOD)
        assert refused.value.reason == "SERVICE_OVERLOADED"
        assert refused.value.retry_after
        blocked_pool.released.set()
        assert await asyncio.gather(*waiting) == [False] * self.PLACES
        assert await hashing.hash(GOOD)

    async def test_callers_that_leave_give_their_places_back(self, blocked_pool: BlockedPool) -> None:
        hashing = PasswordHashing(blocked_pool, threads=1)
        waiting = [asyncio.create_task(hashing.hash(GOOD)) for _ in range(self.PLACES)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        again = asyncio.create_task(hashing.hash(GOOD))
        await asyncio.sleep(0)
        blocked_pool.released.set()
        assert await again
