"""Trying keys and listing models through the front door, with the provider on good days and bad ones."""

import asyncio
import uuid
from typing import Any

import grpc
import httpx
import pytest
from openai.types import Model as OpenAIModel
from realmultillm.keyvault.v1 import provider_config_service_pb2 as vault
from realmultillm.keyvault.v1.provider_config_service_pb2_grpc import ProviderConfigServiceStub
from realmultillm.router.v1.model_service_pb2 import ListModelsRequest
from realmultillm.router.v1.model_service_pb2_grpc import ModelServiceStub

from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from libs.provider_catalog import load_catalog
from tests.e2e.conftest import Person, Platform, error_of

MODELS = "/openai/v1/models"
# What the provider does, the reason it comes to, and words the message must have.
BAD_DAYS: list[tuple[dict[str, Any], str, str]] = [
    ({"status": 401}, "INVALID_API_KEY", "refused the"),
    ({"status": 402}, "PROVIDER_QUOTA_EXHAUSTED", "add credit"),
    ({"status": 403}, "PROVIDER_PERMISSION_DENIED", "does not permit"),
    ({"status": 429, "headers": {"retry-after": "30"}}, "PROVIDER_RATE_LIMITED", "try again later"),
    ({"status": 500}, "PROVIDER_UNAVAILABLE", "try again"),
    ({"cut_before_headers": True}, "PROVIDER_UNAVAILABLE", "try again"),
    ({"status": 200, "body": "<html>"}, "PROVIDER_UNAVAILABLE", "makes no sense"),
]
bad_days = pytest.mark.parametrize(("day", "reason", "words"), BAD_DAYS)


@pytest.fixture
def other_key() -> str:
    """A good key that nobody has stored."""
    return f"sk-sandbox-{uuid.uuid4().hex}"


async def bad_day(platform: Platform, key: str, **behaviour: Any) -> None:
    """Makes the provider answer questions beside chats, asked with a key, in this way."""
    await platform.sandbox.behave(Behaviour(match=Match(key=key, path=MODELS), **behaviour))


async def tried(person: Person, **body: str) -> dict:
    """Tries a key; that always succeeds as a call."""
    response = await person.http.post("/api/provider-config/test", json={"provider": "openai", **body})
    assert response.status_code == 200, response.text
    answer: dict = response.json()
    assert answer.keys() == {"success", "message", "latency", "error"}
    assert answer["message"].endswith(".")
    return answer


async def listed(person: Person, provider: str = "openai", **query: Any) -> dict:
    """Lists models."""
    response = await person.http.get(f"/api/models/{provider}", params=query)
    assert response.status_code == 200, response.text
    answer: dict = response.json()
    assert answer.keys() == {"models", "nextPageToken", "source", "notice", "sources"}
    return answer


async def last_test(person: Person) -> dict:
    found: dict = (await person.http.get("/api/provider-config/openai")).json()["lastTest"]
    return found


class TestStoredKey:
    async def test_is_tried_and_its_last_test_told(self, platform: Platform, person: Person):
        before = await last_test(person)

        answer = await tried(person)

        assert (answer["success"], answer["error"]) == (True, "")
        assert 0 <= answer["latency"] < 8_000
        after = await last_test(person)
        assert after["testTime"] > before["testTime"]
        assert {**after, "testTime": ""} == {**answer, "testTime": ""}
        assert [received.key for received in await platform.sandbox.requests(key=person.key)] == [person.key] * 2

    @bad_days
    async def test_on_a_bad_day_the_answer_says_what_is_wrong(
        self, platform: Platform, person: Person, day: dict, reason: str, words: str
    ):
        await bad_day(platform, person.key, **day)

        answer = await tried(person)

        assert (answer["success"], answer["error"]) == (False, reason)
        assert words in answer["message"]
        assert (await last_test(person))["error"] == reason
        assert (await person.chat()).status_code == 200, "the key stays, and workers are not told otherwise"

    async def test_refused_tells_where_to_store_another(self, platform: Platform, person: Person):
        await bad_day(platform, person.key, status=401)
        assert "POST /api/provider-config/openai" in (await tried(person))["message"]

    async def test_of_nobody_is_an_error(self, platform: Platform, person: Person):
        async with platform.person(with_key=False) as other:
            response = await other.http.post("/api/provider-config/test", json={"provider": "openai"})
        assert error_of(response) == (400, "PROVIDER_NOT_CONFIGURED")

    async def test_is_good_for_a_model_or_not(self, person: Person):
        assert (await tried(person, model="gpt-4o"))["success"]
        missing = await tried(person, model="gpt-99")
        assert (missing["success"], missing["error"]) == (False, "MODEL_NOT_FOUND")
        assert "choose another model" in missing["message"]
        assert (await last_test(person))["success"]


class TestGivenKey:
    async def test_is_tried_and_not_stored(self, platform: Platform, person: Person, other_key: str):
        before = (await person.http.get("/api/provider-config/openai")).json()

        assert (await tried(person, apiKey=other_key))["success"]

        assert (await person.http.get("/api/provider-config/openai")).json() == before
        assert len(await platform.sandbox.requests(key=other_key)) == 1
        async with platform.person(with_key=False) as somebody:
            assert (await tried(somebody, apiKey=other_key))["success"]
            assert error_of(await somebody.http.get("/api/provider-config/openai")) == (404, "NOT_FOUND")

    @bad_days
    async def test_on_a_bad_day_the_answer_speaks_of_no_stored_key(
        self, platform: Platform, person: Person, other_key: str, day: dict, reason: str, words: str
    ):
        await bad_day(platform, other_key, **day)

        answer = await tried(person, apiKey=other_key)

        assert (answer["success"], answer["error"]) == (False, reason)
        assert words in answer["message"]
        assert "store" not in answer["message"]
        assert (await last_test(person))["success"]

    async def test_that_no_provider_would_give_out_is_refused_without_being_repeated(self, person: Person):
        for key in ("short", "sk-with spaces in it", "sk-ünïcode-key-0123"):
            response = await person.http.post("/api/provider-config/test", json={"provider": "openai", "apiKey": key})
            assert error_of(response) == (400, "INVALID_ARGUMENT")
            assert key not in response.text

    async def test_of_a_body_that_is_no_json_is_not_repeated(self, person: Person, other_key: str):
        content = f'{{"provider": "openai", "apiKey": "{other_key}", '.encode()
        response = await person.http.post(
            "/api/provider-config/test", content=content, headers={"content-type": "application/json"}
        )
        assert error_of(response) == (400, "INVALID_ARGUMENT")
        assert other_key not in response.text


class TestLiveModels:
    async def test_are_those_of_the_provider(self, platform: Platform, person: Person):
        answer = await listed(person)

        assert (answer["source"], answer["notice"], answer["nextPageToken"]) == ("live", "", "")
        # The provider tells the id; the rest is known of the model.
        assert {
            "id": "gpt-4o",
            "provider": "openai",
            "displayName": "gpt 4o",
            "contextLength": 128_000,
            "maxOutputTokens": 16_384,
            "inputPricePerMillion": 2.5,
            "outputPricePerMillion": 10,
            "cachedInputPricePerMillion": 1.25,
            "capabilities": dict.fromkeys(("streaming", "systemPrompt", "tools", "vision", "jsonSchema"), True),
            "source": "live",
            "aliases": [],
        } in answer["models"]
        # Of storing the key and of the list.
        received = await platform.sandbox.requests(key=person.key)
        assert [(each.method, each.path) for each in received] == [("GET", MODELS)] * 2

    async def test_come_in_pages(self, person: Person):
        every = [model["id"] for model in (await listed(person, pageSize=500))["models"]]
        pages = [await listed(person, pageSize=7)]
        while token := pages[-1]["nextPageToken"]:
            pages.append(await listed(person, pageSize=7, pageToken=token))

        assert {len(page["models"]) for page in pages[:-1]} == {7}
        assert [model["id"] for page in pages for model in page["models"]] == every
        assert len(every) > 7

    async def test_the_provider_is_let_go_when_the_client_hangs_up(self, platform: Platform, person: Person):
        await bad_day(platform, person.key, silent=True)
        after = (await platform.sandbox.requests(key=person.key))[-1].id
        async with platform.client(person.token) as http:
            asking = asyncio.create_task(http.get("/api/models/openai"))
            arrived = await platform.sandbox.wait_started(key=person.key, after=after)
            asking.cancel()
            closed = await platform.sandbox.wait_closed(key=person.key, request_id=arrived.id)
            await asyncio.gather(asking, return_exceptions=True)
        assert closed.ended == "client_closed"


class TestModelsOfAll:
    async def test_are_one_list_that_says_where_each_is_from(self, person: Person):
        answer = await person.http.get("/api/models", params={"pageSize": 500})
        assert answer.status_code == 200, answer.text

        found = answer.json()

        assert found["source"] == "mixed"
        assert {"provider": "openai", "source": "live", "notice": ""} in found["sources"]
        assert "gpt-4o" in {model["id"] for model in found["models"] if model["provider"] == "openai"}

    async def test_are_told_to_sdks_by_the_names_to_ask_for_them_by(self, person: Person):
        for path, name in (("/v1/models", "openai/gpt-4o"), ("/openai/v1/models", "gpt-4o")):
            answer = await person.http.get(path)
            assert answer.status_code == 200, answer.text
            (row,) = [row for row in answer.json()["data"] if row["id"] == name]
            assert OpenAIModel.model_validate(row, strict=True).owned_by == "openai"
            assert (await person.http.get(f"{path}/{name}")).json() == row
        assert (await person.http.get("/v1/models/gpt-4o")).json()["id"] == "openai/gpt-4o"

    async def test_stand_side_by_side(self, person: Person):
        body = {"models": ["openai/gpt-4o", "claude-opus-5.5"]}
        answer = await person.http.post("/api/models/compare", json=body)
        assert answer.status_code == 200, answer.text

        compared = answer.json()

        assert [model["id"] for model in compared["models"]] == ["gpt-4o", "claude-opus-5-5"]
        assert compared["best"]["inputPricePerMillion"] == ["openai/gpt-4o"]
        assert compared["best"]["contextLength"] == ["anthropic/claude-opus-5-5"]
        unknown = await person.http.post("/api/models/compare", json={"models": ["gpt-4o", "nothing"]})
        assert error_of(unknown) == (404, "MODEL_NOT_FOUND")

    async def test_have_prices_that_answers_cost(self, person: Person):
        answer = (await person.chat(model="gpt-4o")).json()

        used = answer["usage"]
        assert answer["cost_usd"] == pytest.approx((used["prompt_tokens"] * 2.5 + used["completion_tokens"] * 10) / 1e6)


class TestCatalogueInstead:
    async def test_without_a_key(self, platform: Platform):
        async with platform.person(with_key=False) as person:
            answer = await listed(person)
        assert answer["source"] == "catalogue"
        assert "POST /api/provider-config/openai" in answer["notice"]
        assert tuple(model["id"] for model in answer["models"]) == load_catalog()["openai"].models

    @bad_days
    async def test_on_a_bad_day_with_the_reason(
        self, platform: Platform, person: Person, day: dict, reason: str, words: str
    ):
        await bad_day(platform, person.key, **day)

        answer = await listed(person)

        assert (answer["source"], len(answer["models"])) == ("catalogue", len(load_catalog()["openai"].models))
        assert answer["notice"].startswith("This list is not live: ")
        assert words in answer["notice"]

    async def test_for_a_person_whose_neighbour_has_a_key(self, platform: Platform, person: Person):
        async with platform.person(with_key=False) as other:
            assert (await listed(other))["source"] == "catalogue"
        assert (await listed(person))["source"] == "live"

    async def test_comes_in_pages(self, platform: Platform):
        async with platform.person(with_key=False) as person:
            first = await listed(person, pageSize=5)
            second = await listed(person, pageSize=500, pageToken=first["nextPageToken"])
        models = [model["id"] for page in (first, second) for model in page["models"]]
        assert tuple(models) == load_catalog()["openai"].models
        assert second["nextPageToken"] == ""


class TestSilentProvider:
    async def test_ends_neither_call_badly(self, platform: Platform, person: Person):
        await bad_day(platform, person.key, silent=True)

        test, models = await asyncio.gather(tried(person), listed(person))

        assert (test["success"], test["error"]) == (False, "CONNECTION_TIMEOUT")
        assert models["source"] == "catalogue"
        for words in (test["message"], models["notice"]):
            assert "did not answer in time; try again in a moment." in words


class TestRefused:
    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", "/api/provider-config/test", {"provider": "openai", "apiKey": "sk-sandbox-0123456789"}),
            ("GET", "/api/models/openai", None),
        ],
    )
    async def test_without_a_token(self, platform: Platform, method: str, path: str, body: dict | None):
        async with platform.client() as http:
            assert error_of(await http.request(method, path, json=body)) == (401, "UNAUTHENTICATED")

    @pytest.mark.parametrize(
        ("method", "path", "body", "expected"),
        [
            ("POST", "/api/provider-config/test", {"provider": "nobody"}, (404, "PROVIDER_NOT_FOUND")),
            ("POST", "/api/provider-config/test", {}, (404, "PROVIDER_NOT_FOUND")),
            ("GET", "/api/provider-config/test", None, (404, "PROVIDER_NOT_FOUND")),
            (
                "POST",
                "/api/provider-config/test",
                {"provider": "openai", "model": "m" * 201},
                (400, "INVALID_ARGUMENT"),
            ),
            ("GET", "/api/models/nobody", None, (404, "PROVIDER_NOT_FOUND")),
            ("GET", "/api/models/auto", None, (404, "PROVIDER_NOT_FOUND")),
            ("GET", "/api/models/openai?pageToken=forged", None, (400, "INVALID_ARGUMENT")),
            ("GET", "/api/models/openai?pageSize=-1", None, (400, "INVALID_ARGUMENT")),
            ("GET", "/api/models/openai?colour=blue", None, (400, "INVALID_ARGUMENT")),
            ("GET", "/api/models/openai/gpt-4o", None, (404, "NOT_FOUND")),
        ],
    )
    async def test_what_is_wrong(
        self, person: Person, method: str, path: str, body: dict | None, expected: tuple[int, str]
    ):
        response: httpx.Response = await person.http.request(method, path, json=body)
        assert error_of(response) == expected


class TestOverGrpc:
    async def test_the_same_by_a_plain_client(self, platform: Platform, person: Person):
        mine = (("authorization", f"Bearer {person.token}"),)
        async with grpc.aio.insecure_channel(platform.stack.base_url.removeprefix("http://")) as channel:
            test = await ProviderConfigServiceStub(channel).TestProviderConfig(
                vault.TestProviderConfigRequest(provider="openai"), metadata=mine
            )
            models = await ModelServiceStub(channel).ListModels(ListModelsRequest(provider="openai"), metadata=mine)
        assert test.success
        assert models.source == "live"
        assert "gpt-4o" in [model.id for model in models.models]
