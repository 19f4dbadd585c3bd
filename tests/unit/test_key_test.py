"""What a trial of a key, and a list of models that fails, say: words that fit whatever the provider's failure is."""

from __future__ import annotations

import inspect
import re
from typing import Any, cast

import orjson
import pytest

from libs.errors import InvalidRequest, PlatformError, ProviderError
from libs.provider_keys import ProviderKey
from libs.rpc.identity import Call, enter_call
from libs.worker.adapter import Adapter, Credential
from libs.worker.failures import Failures
from libs.worker.key_test import KeyTest, try_key
from libs.worker.model_listing import Models
from libs.worker.upstream import Upstream
from services.workers.anthropic import adapter as anthropic
from services.workers.google_ai import adapter as google_ai
from services.workers.grok import adapter as grok
from services.workers.openai.adapter import ADAPTER
from services.workers.openrouter import adapter as openrouter

KEY = ProviderKey("sk-sandbox-1")
FAILURES = Failures(ADAPTER.provider, ADAPTER.display_name)
# One error of each kind there is.
EVERY_ERROR = {
    name: cast(ProviderError, method())
    for name, method in inspect.getmembers(FAILURES, inspect.ismethod)
    if name not in ("beside_chats", "of_platform_key", "model_not_allowed") and not name.startswith("_")
}
# Each provider, and an entry of its list that chats.
LISTS: list[tuple[Adapter, dict[str, Any]]] = [
    (ADAPTER, {"id": "gpt-4o"}),
    (anthropic.ADAPTER, {"id": "claude"}),
    (google_ai.ADAPTER, {"name": "models/gemini", "supportedGenerationMethods": ["generateContent"]}),
    (openrouter.ADAPTER, {"id": "a/b"}),
    (grok.ADAPTER, {"id": "grok"}),
]
every_error = pytest.mark.parametrize("error", EVERY_ERROR.values(), ids=EVERY_ERROR)


class Provider:
    """Stands in for the Upstream: answers every request in one way, and remembers them."""

    def __init__(self, answer: bytes | Exception) -> None:
        self._answer = answer
        self.paths: list[str] = []
        self.most_bytes: list[int] = []

    async def fetch(self, request: Any, timeout: float, *, max_bytes: int) -> bytes:
        self.paths.append(request.path)
        self.most_bytes.append(max_bytes)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class Keys:
    """Somebody has stored a key."""

    async def of(self, user_id: str) -> Credential:
        return Credential(KEY)


async def tried(answer: bytes | Exception, model: str = "") -> KeyTest:
    return await try_key(ADAPTER, cast(Upstream, Provider(answer)), KEY, model)


async def failure_of_listing(answer: bytes | Exception, token: str = "") -> PlatformError:
    enter_call(Call("/test", None, deadline=float("inf")))
    with pytest.raises(PlatformError) as caught:
        await Models(ADAPTER, cast(Upstream, Provider(answer)), Keys()).page("usr_1", 50, token)
    return caught.value


class TestWordsOfATrial:
    def test_there_is_an_error_of_every_kind(self) -> None:
        assert len(EVERY_ERROR) >= 14
        assert {"key_rejected", "too_late", "model_not_found", "unreachable"} <= EVERY_ERROR.keys()

    @every_error
    async def test_say_nothing_of_a_chat_or_of_a_stored_key(self, error: ProviderError) -> None:
        for model in ("", "gpt-4o"):
            found = await tried(error, model)
            assert not re.search(r"\bstored?\b|shorter|conversation|correct it", found.message), found.message
            assert found.message.startswith(("OpenAI ", "The OpenAI account "))
            assert re.search(r"try again|check|choose|use another|add credit|ask an administrator", found.message), (
                "what to do next"
            )

    @every_error
    async def test_say_nothing_of_a_model_that_was_not_named(self, error: ProviderError) -> None:
        assert "model" not in (await tried(error)).message

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            ("key_rejected", "OpenAI refused the key; check that it is whole and still valid, or use another."),
            ("quota_exhausted", "The OpenAI account has no quota left; add credit at OpenAI or use another key."),
            (
                "permission_denied",
                (
                    "OpenAI knows the key but does not permit it this; "
                    "change what it may do at OpenAI, or use another key."
                ),
            ),
            ("unreachable", "OpenAI cannot be reached; try again in a moment or use another provider."),
            ("too_late", "OpenAI did not answer in time; try again in a moment."),
        ],
    )
    async def test_are_clear(self, error: str, words: str) -> None:
        found = await tried(EVERY_ERROR[error])
        assert (found.message, found.reason) == (words, EVERY_ERROR[error].reason)

    async def test_tell_of_a_model_that_was_named(self) -> None:
        found = await tried(EVERY_ERROR["model_not_found"], "gpt-99")
        assert found.message == "OpenAI does not offer this model to this key; choose another model."
        assert found.reason == "MODEL_NOT_FOUND"

    async def test_a_page_that_is_missing_is_no_missing_model(self) -> None:
        assert (await tried(EVERY_ERROR["model_not_found"])).reason == "PROVIDER_UNAVAILABLE"

    async def test_of_success(self) -> None:
        found = await tried(b"{}", "gpt-4o")
        assert (found.message, found.reason) == ("OpenAI accepted the key.", "")

    @pytest.mark.parametrize("answer", [b"<html>", b"", b"\xff"])
    async def test_of_an_answer_that_makes_no_sense(self, answer: bytes) -> None:
        assert (await tried(answer)).reason == "PROVIDER_UNAVAILABLE"

    async def test_a_refusal_hidden_in_a_success_is_one(self) -> None:
        body = b'{"error": {"code": "invalid_api_key", "message": "sk-sandbox-1 is wrong"}}'
        found = await tried(body)
        assert found.reason == "INVALID_API_KEY"
        assert KEY.reveal() not in found.message


class TestModelThatLeadsElsewhere:
    @pytest.mark.parametrize("model", [".", "..", "../chat", "a/..", "a/../b", "./a"])
    async def test_is_none_and_nobody_is_asked(self, model: str) -> None:
        provider = Provider(b"{}")
        found = await try_key(ADAPTER, cast(Upstream, provider), KEY, model)
        assert (found.reason, found.latency_ms) == ("MODEL_NOT_FOUND", 0)
        assert provider.paths == []

    @pytest.mark.parametrize("model", ["gpt-4o", "openai/gpt-4o", "a..b", "ft:gpt-4o:x::y"])
    async def test_others_are_asked_for(self, model: str) -> None:
        assert (await tried(b"{}", model)).reason == ""


class TestLength:
    async def test_of_what_is_read_is_bounded(self) -> None:
        """An answer as long as a chat's may be, of tiny models, would keep everybody else waiting for seconds."""
        provider = Provider(b'{"data": []}')
        enter_call(Call("/test", None, deadline=float("inf")))
        await Models(ADAPTER, cast(Upstream, provider), Keys()).page("usr_1", 50, "")
        await try_key(ADAPTER, cast(Upstream, provider), KEY, "gpt-4o")
        assert provider.most_bytes == [4 * 1024 * 1024] * 2

    @pytest.mark.parametrize(("adapter", "entry"), LISTS, ids=lambda value: getattr(value, "provider", ""))
    def test_of_a_list_is_bounded(self, adapter: Adapter, entry: dict[str, Any]) -> None:
        members = [
            {**entry, **{name: f"{entry[name]}-{index}" for name in ("id", "name") if name in entry}}
            for index in range(20_000)
        ]
        body = orjson.dumps(dict.fromkeys(("data", "models"), members))
        models, _ = adapter.read_models(body)
        assert len(models) == 5_000
        assert models[-1].id.endswith("-4999")


class TestWordsOfAListing:
    @every_error
    async def test_say_nothing_of_a_chat_or_a_model(self, error: ProviderError) -> None:
        message = (await failure_of_listing(error)).message
        assert not re.search(r"shorter|conversation|correct it|feature|model", message), message

    async def test_a_refused_key_is_the_stored_one(self) -> None:
        assert "stored key" in (await failure_of_listing(EVERY_ERROR["key_rejected"])).message

    @pytest.mark.parametrize("error", ["rejected_request", "model_not_found"])
    async def test_a_page_the_provider_does_not_know_is_the_callers_mistake(self, error: str) -> None:
        failure = await failure_of_listing(EVERY_ERROR[error], token="forged")
        assert isinstance(failure, InvalidRequest)
        assert [violation.field for violation in failure.violations] == ["pageToken"]

    async def test_when_to_come_back_is_kept(self) -> None:
        assert (await failure_of_listing(FAILURES.rate_limited(9))).retry_after == 9
