"""Reading the provider out of a request without reading the rest, and choosing its worker."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from realmultillm.chat.v1.chat_service_pb2 import ChatMessage, ChatOptions, CreateChatCompletionRequest

from libs.errors import InvalidRequest, NotFound, ProviderUnavailable
from services.provider_router.routing import Routes, named_provider

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
requests = st.builds(
    CreateChatCompletionRequest,
    provider=texts,
    model=texts,
    messages=st.lists(st.builds(ChatMessage, role=texts, content=texts), max_size=4),
    options=st.builds(ChatOptions, temperature=st.floats(0, 2), seed=st.integers(-(2**63), 2**63 - 1)),
    store=st.booleans(),
    metadata=st.dictionaries(texts, texts, max_size=3),
)


def parsed_provider(request: bytes) -> str | None:
    """The oracle: what the whole parser finds, None when it refuses."""
    try:
        return CreateChatCompletionRequest.FromString(request).provider
    except DecodeError:
        return None


class TestNamedProvider:
    @given(requests)
    def test_is_the_one_the_whole_parser_finds(self, request: CreateChatCompletionRequest) -> None:
        assert named_provider(request.SerializeToString()) == request.provider

    @given(st.lists(requests, min_size=2, max_size=3))
    def test_given_several_times_the_last_one_counts(self, parts: list[CreateChatCompletionRequest]) -> None:
        # Messages one after the other are one message, whose later fields replace the earlier.
        request = b"".join(part.SerializeToString() for part in parts)

        assert named_provider(request) == parsed_provider(request)

    @given(requests, st.integers(16, 2**29 - 1), st.binary(max_size=20))
    def test_fields_of_a_newer_version_do_not_matter(
        self, request: CreateChatCompletionRequest, number: int, value: bytes
    ) -> None:
        newer = _varint(number << 3 | 2) + _varint(len(value)) + value

        assert named_provider(newer + request.SerializeToString()) == request.provider
        assert named_provider(request.SerializeToString() + newer) == request.provider

    @given(st.binary(max_size=60))
    def test_bytes_that_are_no_message_are_refused(self, request: bytes) -> None:
        # The worker looks closer: it refuses more than is refused here, never less.
        try:
            found = named_provider(request)
        except InvalidRequest:
            assert parsed_provider(request) is None
        else:
            assert parsed_provider(request) in (found, None)

    def test_an_empty_request_names_none(self) -> None:
        assert named_provider(b"") == ""


class TestRoutes:
    routes = Routes({"openai": "the worker of openai"}, known=("grok", "openai"))

    def test_a_provider_with_a_worker_is_found(self) -> None:
        assert self.routes.worker_of("openai") == "the worker of openai"

    def test_a_provider_must_be_named(self) -> None:
        with pytest.raises(InvalidRequest) as refused:
            self.routes.worker_of("")

        assert [violation.field for violation in refused.value.violations] == ["provider"]

    def test_an_unknown_provider_is_told_with_the_known_ones(self) -> None:
        with pytest.raises(NotFound) as refused:
            self.routes.worker_of("closedai")

        assert refused.value.reason == "PROVIDER_NOT_FOUND"
        assert refused.value.metadata["provider"] == "closedai"
        assert refused.value.metadata["known"] == "grok, openai"
        assert "grok, openai" in refused.value.message

    def test_an_endless_name_is_not_repeated_whole(self) -> None:
        with pytest.raises(NotFound) as refused:
            self.routes.worker_of("x" * 1_000_000)

        assert len(refused.value.message) < 500
        assert len(refused.value.metadata["provider"]) < 100

    def test_a_known_provider_without_worker_is_unavailable(self) -> None:
        with pytest.raises(ProviderUnavailable) as refused:
            self.routes.worker_of("grok")

        assert refused.value.metadata["provider"] == "grok"


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
