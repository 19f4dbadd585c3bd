"""Embeddings that nobody could account for, or that there is no place for."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import pytest

from libs.errors import LimitExceeded, PlatformError, Unavailable
from libs.json_members import JsonMembers
from libs.provider_keys import ProviderKey
from libs.rpc.access_policy import SESSION_SCOPES
from libs.rpc.identity import Call, Principal, enter_call
from libs.worker.adapter import Credential
from libs.worker.embeddings import Embeddings
from services.workers.openai.adapter import ADAPTER

BODY = JsonMembers(b'{"model":"text-embedding-3-small","input":"Hello"}')


class Keys:
    """Has one key for everybody."""

    async def of(self, _user_id: str) -> Credential:
        return Credential(ProviderKey("a key"))


class Provider:
    """Embeds everything as the same, and counts how often."""

    def __init__(self) -> None:
        self.asked = 0

    async def fetch(self, _request: object, _timeout: float) -> bytes:
        self.asked += 1
        return b'{"data":[],"model":"m","usage":{"prompt_tokens":1,"total_tokens":1}}'


class Book:
    """Takes facts, unless it is full."""

    def __init__(self, *, full: bool = False) -> None:
        self._full = full
        self.facts: list[bytes] = []

    def append(self, fact: bytes) -> None:
        self.facts.append(fact)

    def check_writable(self) -> None:
        if self._full:
            raise Unavailable("The disk is full.")


@contextmanager
def room(user_id: str) -> Iterator[None]:
    assert user_id == "usr_1"
    yield


@contextmanager
def no_room(_user_id: str) -> Iterator[None]:
    raise LimitExceeded("Too many.")
    yield


@pytest.mark.parametrize(
    ("book", "slot", "error"), [(Book(full=True), room, Unavailable), (Book(), no_room, LimitExceeded)]
)
async def test_the_provider_is_not_paid_for_what_cannot_be_taken(
    book: Book, slot: Any, error: type[PlatformError]
) -> None:
    call = Call("", None, request_id="r", principal=Principal("usr_1", "user", "token-1", inf, SESSION_SCOPES))
    enter_call(call)
    provider: Any = Provider()
    embeddings = Embeddings(ADAPTER, provider, Keys(), book, slot=slot, answer_seconds=1)
    with pytest.raises(error):
        await embeddings.create(BODY, "", call)
    assert (provider.asked, book.facts) == (0, [])
    able = Embeddings(ADAPTER, provider, Keys(), Book(), slot=room, answer_seconds=1)
    assert (await able.create(BODY, "", call)).body.startswith(b'{"data":[]')
