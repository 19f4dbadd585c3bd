"""Attackers and those they attack, on the platform of the tests beside."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.e2e.conftest import Person, Platform
from tests.e2e.people import administrator


@pytest.fixture
async def victim(platform: Platform) -> AsyncIterator[Person]:
    """Somebody with a stored key."""
    async with platform.person() as somebody:
        yield somebody


@pytest.fixture
async def attacker(platform: Platform) -> AsyncIterator[Person]:
    """Somebody with an account of their own and nothing else."""
    async with platform.person(with_key=False) as somebody:
        yield somebody


@pytest.fixture(scope="session")
async def admin(platform: Platform) -> AsyncIterator[Person]:
    """An administrator."""
    async with administrator(platform) as somebody:
        yield somebody
