"""A stack of its own, to be broken: one per module, so that a broken one harms no other."""

from collections.abc import AsyncIterator

import pytest

from tests.e2e.conftest import Person, Platform, running_platform


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with running_platform(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
async def person(platform: Platform) -> AsyncIterator[Person]:
    """Somebody with a stored key."""
    async with platform.person() as somebody:
        yield somebody
