"""A stack of its own, to be broken: one per module, so that a broken one harms no other."""

from collections.abc import AsyncIterator

import pytest

from tests.e2e.conftest import Person, Platform, running_platform
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    # One person has many streams open here.
    settings = {"worker-openai": {"WORKER_MAX_CONCURRENT_CHATS_PER_PERSON": "2000"}}
    async with running_platform(tmp_path_factory.mktemp("stack"), settings=settings) as running:
        yield running


@pytest.fixture
async def person(platform: Platform) -> AsyncIterator[Person]:
    """Somebody with a stored key. What the test before broke may still be on its way back."""
    async with platform.person(with_key=False) as somebody:
        body = {"apiKey": somebody.key}
        await eventually(
            lambda: somebody.http.post("/api/provider-config/openai", json=body),
            lambda stored: stored.status_code == 200 and stored.json()["testResult"]["success"],
        )
        yield somebody
