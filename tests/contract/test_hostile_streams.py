"""Streams and bodies no provider should send: cut, shuffled, doubled, garbled.

They never crash a worker, never hang it, and never pass for a whole answer.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import httpx
import orjson
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from realmultillm.chat.v1 import chat_service_pb2 as chat

from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from libs.errors import ProviderError
from libs.provider_keys import ProviderKey
from libs.worker.adapter import NOT_UNDERSTOOD, Credential
from libs.worker.streaming import AnswerStream
from tests.contract.adapters import UNDER_CONTRACT, UnderContract
from tests.support.chat_requests import chat_request

KINDS: dict[str, dict[str, Any]] = {
    "text": {},
    "tools": {"tools": [{"name": "weather"}, {"name": "time"}], "toolChoice": "required", "maxTokens": 500},
    "thoughts": {"reasoningEffort": "high", "maxTokens": 4000},
}


@dataclass(frozen=True)
class Recorded:
    """What a provider answers on a good day."""

    contract: UnderContract
    kind: str
    streamed: bytes
    whole: bytes


@pytest.fixture(
    scope="session", params=[(name, kind) for name in sorted(UNDER_CONTRACT) for kind in KINDS], ids="-".join
)
async def recorded(request: pytest.FixtureRequest, sandbox_url: str) -> Recorded:
    name, kind = request.param
    contract = UNDER_CONTRACT[name]
    key = f"{contract.key_prefix}hostile-{kind}"
    bodies = []
    async with SandboxControl(sandbox_url) as sandbox, httpx.AsyncClient(base_url=sandbox_url) as provider:
        await sandbox.behave(Behaviour(match=Match(key=key), content=None if kind == "tools" else "Grüße, 世界 🌍!"))
        for stream in (True, False):
            asked = contract.adapter.chat_request(
                chat_request({"messages": [{"role": "user", "content": "Hello"}], "options": KINDS[kind]}),
                contract.thinking_model if kind == "thoughts" else contract.other_model,
                Credential(ProviderKey(key)),
                stream=stream,
            )
            answer = await provider.request(
                asked.method, contract.mount + asked.path, headers=dict(asked.headers), content=asked.body
            )
            assert answer.status_code == 200, answer.text
            bodies.append(answer.content)
    return Recorded(contract, kind, *bodies)


M = TypeVar("M", bound=Message)


def readable(message: M) -> M:
    """Returns the message as the other side reads it, having checked that it can."""
    found: M = type(message).FromString(message.SerializeToString())
    return found


def relayed(contract: UnderContract, data: bytes, cuts: list[int]) -> tuple[bool, str]:
    """Relays a stream that arrives in pieces; returns whether it passed for whole, and the text that went out."""
    text: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
        for start, end in pairwise(places):
            yield data[start:end]

    async def write(chunk: chat.ChatCompletionChunk) -> None:
        text.append(readable(chunk).content)

    async def relay() -> None:
        async with asyncio.timeout(10):
            await AnswerStream(contract.adapter, pieces()).relay(write)

    try:
        asyncio.run(relay())
    except ProviderError:
        return False, "".join(text)
    return True, "".join(text)


many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
places = st.lists(st.integers(0, 5_000), max_size=8)


def ended(contract: UnderContract, data: bytes) -> bool:
    """Tells whether a stream holds a sign that the answer is whole."""
    return any(sign in data for sign in contract.terminal_signs)


def events_of(data: bytes) -> list[bytes]:
    return [event + b"\n\n" for event in data.split(b"\n\n") if event]


class TestStream:
    def test_as_it_comes_is_whole(self, recorded: Recorded) -> None:
        whole, text = relayed(recorded.contract, recorded.streamed, [])
        assert whole
        assert text == ("" if recorded.kind == "tools" else "Grüße, 世界 🌍!")

    @many
    @given(cuts=places)
    def test_in_any_pieces_is_the_same(self, recorded: Recorded, cuts: list[int]) -> None:
        assert relayed(recorded.contract, recorded.streamed, cuts) == relayed(recorded.contract, recorded.streamed, [])

    def test_cut_anywhere_before_its_terminal_sign_is_never_whole(self, recorded: Recorded) -> None:
        data, (sign, *_) = recorded.streamed, recorded.contract.terminal_signs
        whole_from = data.index(sign) + len(sign)
        # Everywhere in the last events, and in some place or other of every event before.
        nearby = max(0, whole_from - 700)
        for end in (*range(0, nearby, 13), *range(nearby, whole_from)):
            assert not relayed(recorded.contract, data[:end], [])[0], data[:end][-80:]

    @many
    @given(order=st.randoms(use_true_random=False), cuts=places, doubled=st.booleans())
    def test_shuffled_and_doubled_is_whole_only_with_its_terminal_sign(
        self, recorded: Recorded, order: Any, cuts: list[int], doubled: bool
    ) -> None:
        events = events_of(recorded.streamed) * (2 if doubled else 1)
        order.shuffle(events)
        data = b"".join(events[: order.randint(0, len(events))])
        if relayed(recorded.contract, data, cuts)[0]:
            assert ended(recorded.contract, data)

    @many
    @given(changes=st.lists(st.tuples(st.integers(0, 100_000), st.binary(max_size=6)), min_size=1, max_size=6))
    def test_garbled_never_crashes_nor_hangs(self, recorded: Recorded, changes: list[tuple[int, bytes]]) -> None:
        data = bytearray(recorded.streamed)
        for place, replacement in changes:
            start = place % len(data)
            data[start : start + len(replacement)] = replacement
        relayed(recorded.contract, bytes(data), [])

    @many
    @given(
        data=st.binary(max_size=400),
        prefix=st.sampled_from([b"", b"data: ", b"event: error\ndata: ", b'data: {"error":']),
    )
    def test_random_bytes_are_never_an_answer(self, recorded: Recorded, data: bytes, prefix: bytes) -> None:
        if relayed(recorded.contract, prefix + data + b"\n\n", [])[0]:
            assert ended(recorded.contract, data)

    @pytest.mark.parametrize(
        "value",
        [
            b"null",
            b"1",
            b'"x"',
            b"[]",
            b"{}",
            b'{"choices":[null]}',
            b'{"candidates":[1]}',
            b'{"type":5}',
            b'{"type":{}}',
        ],
    )
    def test_json_of_another_shape_is_never_an_answer(self, recorded: Recorded, value: bytes) -> None:
        assert not relayed(recorded.contract, b"data: " + value + b"\n\n", [])[0]


def deep(levels: int) -> bytes:
    """Makes JSON that goes down so many levels, by objects and lists in turn."""
    pairs, odd = divmod(levels, 2)
    return b'{"a":[' * pairs + (b"{}" if odd else b"1") + b"]}" * pairs


# More levels than a message may have, than can be written as JSON, and than can be read.
DEPTHS = (40, 300, 2_000)
_HERE = "deep JSON goes here"


def deepened(value: Any, depth: int) -> bytes:
    """Encodes a value with deep JSON in the place of every `_HERE`."""
    return orjson.dumps(value).replace(orjson.dumps(_HERE), deep(depth))


def _nested(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for name in value:
            yield from _nested(value[name], (*path, name))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _nested(member, (*path, index))


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = _replaced(copy[path[0]], path[1:], new)
    return copy


def _shape(value: Any) -> Any:
    """Returns which members there are, whatever their values."""
    if isinstance(value, dict):
        return frozenset((name, _shape(member)) for name, member in value.items())
    return tuple(map(_shape, value)) if isinstance(value, list) else type(value)


class TestDepthInStream:
    """JSON of many levels, in any place of any kind of event."""

    def kinds(self, recorded: Recorded) -> Iterator[tuple[int, list[bytes], Any]]:
        """Yields the first event of each form: its place, all events, and its JSON."""
        events, seen = events_of(recorded.streamed), set()
        for place, event in enumerate(events):
            data = event.partition(b"data: ")[2]
            if not data.startswith(b"{"):
                continue
            value = orjson.loads(data)
            if (shape := _shape(value)) not in seen:
                seen.add(shape)
                yield place, events, value

    def sent(self, events: list[bytes], place: int, data: bytes) -> bytes:
        name, _, _ = events[place].partition(b"data: ")
        return b"".join([*events[:place], name + b"data: " + data + b"\n\n", *events[place + 1 :]])

    @pytest.mark.parametrize("depth", DEPTHS)
    def test_is_an_answer_or_a_failure(self, recorded: Recorded, depth: int) -> None:
        for place, events, value in self.kinds(recorded):
            for path in _nested(value):
                data = self.sent(events, place, deepened(_replaced(value, path, _HERE), depth))
                if relayed(recorded.contract, data, [])[0]:
                    assert ended(recorded.contract, data)

    def test_that_means_nothing_does_no_harm(self, recorded: Recorded) -> None:
        for place, events, value in self.kinds(recorded):
            data = self.sent(events, place, deepened({**value, "unknown": _HERE}, 40))
            assert relayed(recorded.contract, data, []) == relayed(recorded.contract, recorded.streamed, [])


class TestBody:
    def test_with_any_one_member_of_another_kind_is_an_answer_or_a_failure(self, recorded: Recorded) -> None:
        """Every place of the answer is in turn everything it should not be."""
        whole = orjson.loads(recorded.whole)
        other_kinds: list[Any] = [None, True, -1, 1e300, "x", [], ["x"], {}, {"x": 1}, [None], [{}]]
        for path in list(_nested(whole)):
            for other in other_kinds:
                self._taken(recorded.contract.adapter.read_answer, orjson.dumps(_replaced(whole, path, other)))
            for depth in DEPTHS:
                for other in (_HERE, [_HERE]):
                    body = deepened(_replaced(whole, path, other), depth)
                    self._taken(recorded.contract.adapter.read_answer, body)

    def test_with_deep_members_that_mean_nothing_is_an_answer(self, recorded: Recorded) -> None:
        body = deepened({**orjson.loads(recorded.whole), "unknown": _HERE}, 40)
        assert recorded.contract.adapter.read_answer(body) == recorded.contract.adapter.read_answer(recorded.whole)

    @many
    @given(body=st.binary(max_size=300))
    def test_of_random_bytes_is_a_failure(self, recorded: Recorded, body: bytes) -> None:
        with pytest.raises((ProviderError, *NOT_UNDERSTOOD)):
            recorded.contract.adapter.read_answer(body)

    @many
    @given(
        status=st.integers(300, 599),
        body=st.binary(max_size=200) | st.sampled_from([b'{"error":5}', b'{"error":{"details":[1]}}', b"[[]]", b'"x"']),
        header=st.sampled_from([None, "", "abc", "-1", "1e999", "nan", "2026", "Mon", "9" * 400]),
    )
    def test_of_an_error_is_always_understood_somehow(
        self, recorded: Recorded, status: int, body: bytes, header: str | None
    ) -> None:
        error = recorded.contract.adapter.read_error(status, lambda _: header, body)
        assert isinstance(error, ProviderError)
        assert error.retry_after is None or 0 <= error.retry_after <= 86_400

    @staticmethod
    def _taken(read: Callable[[bytes], chat.ChatCompletion], body: bytes) -> None:
        with contextlib.suppress(ProviderError, *NOT_UNDERSTOOD):
            assert len(readable(read(body)).choices) == 1
