"""What every worker tells of its provider beside chatting: whether a key is good, and which models it opens."""

from contextlib import suppress

import grpc
import pytest
from realmultillm.provider.v1 import provider_service_pb2 as provider

from tests.contract.conftest import Person, Worker
from tests.support.rpc import error_info


async def tried(worker: Worker, key: str, model: str = "") -> provider.TestKeyResponse:
    found: provider.TestKeyResponse = await worker.test_key(provider.TestKeyRequest(api_key=key, model=model))
    return found


class TestKeyTest:
    async def test_a_good_key_passes(self, worker: Worker):
        found = await tried(worker, worker.new_person().key)
        assert (found.success, found.reason) == (True, "")
        assert found.latency_ms >= 0

    async def test_a_refused_key_is_an_answer(self, worker: Worker):
        found = await tried(worker, "wrong-key-0123456789")
        assert (found.success, found.reason) == (False, "INVALID_API_KEY")

    async def test_is_made_where_it_is_asked_for(self, worker: Worker):
        person = worker.new_person()
        request = provider.TestKeyRequest(api_key=person.key, endpoint="https://169.254.169.254/v1")
        found: provider.TestKeyResponse = await worker.test_key(request)
        assert (found.success, found.reason) == (False, "ENDPOINT_NOT_ALLOWED")
        assert "ask an administrator" in found.message

        request.endpoint = "http://127.0.0.1:1"
        found = await worker.test_key(request)
        assert (found.success, found.reason) == (False, "PROVIDER_UNAVAILABLE")
        assert await worker.received(person) == []

    async def test_costs_nothing(self, worker: Worker):
        person = worker.new_person()
        await tried(worker, person.key)
        (received,) = await worker.received(person)
        assert received.method == "GET"
        assert person.key not in received.path + received.query

    async def test_a_model_can_be_named(self, worker: Worker):
        key = worker.new_person().key
        assert (await tried(worker, key, worker.adapter.default_model)).success
        missing = await tried(worker, key, "no-such-model-anywhere")
        assert (missing.success, missing.reason) == (False, "MODEL_NOT_FOUND")

    @pytest.mark.parametrize("model", ["../../chat", "a/../../b", "x?key=y", "x#y", "%2e%2e/z", "a b"])
    async def test_a_model_cannot_lead_elsewhere(self, worker: Worker, model: str):
        person = worker.new_person()
        with suppress(grpc.aio.AioRpcError):  # it may be refused as no model's id
            assert not (await tried(worker, person.key, model)).success
        for received in await worker.received(person):
            assert received.method == "GET"
            assert received.path.startswith(worker.contract.mount + "/")
            assert "key=" not in received.query

    @pytest.mark.parametrize(
        ("day", "reason"),
        [
            ({"status": 402}, "PROVIDER_QUOTA_EXHAUSTED"),
            ({"status": 403}, "PROVIDER_PERMISSION_DENIED"),
            ({"status": 500}, "PROVIDER_UNAVAILABLE"),
            ({"cut_before_headers": True}, "PROVIDER_UNAVAILABLE"),
            ({"status": 200, "body": "<html>"}, "PROVIDER_UNAVAILABLE"),
        ],
    )
    async def test_says_what_is_wrong_in_one_sentence(self, worker: Worker, day: dict, reason: str):
        person = worker.new_person()
        await worker.bad_day(person, **day)
        found = await tried(worker, person.key)
        assert (found.success, found.reason) == (False, reason)
        assert found.message.endswith(".")


class TestModels:
    async def listed(self, worker: Worker, person: Person, page_size: int = 0) -> list[provider.Model]:
        models: list[provider.Model] = []
        token = ""
        for _ in range(100):
            request = provider.ListModelsRequest(page_size=page_size, page_token=token)
            page = await worker.list_models(request, metadata=person.metadata)
            models += page.models
            token = page.next_page_token
            if not token:
                return models
        pytest.fail("the list has no end")

    async def test_are_those_of_the_provider(self, worker: Worker):
        person = worker.new_person()
        models = await self.listed(worker, person)
        assert worker.adapter.default_model in [model.id for model in models]
        assert all(model.display_name for model in models)
        assert len({model.id for model in models}) == len(models)
        assert all(received.key == person.key for received in await worker.received(person))

    async def test_small_pages_hold_the_same(self, worker: Worker):
        person = worker.new_person()
        assert await self.listed(worker, person, page_size=3) == await self.listed(worker, person)

    @pytest.mark.parametrize("token", ["../../x", "a&b=c", "x#y", "a b", "ü"])
    async def test_a_page_token_cannot_lead_elsewhere(self, worker: Worker, token: str):
        person = worker.new_person()
        request = provider.ListModelsRequest(page_token=token)
        with suppress(grpc.aio.AioRpcError):  # whether it is refused is the provider's affair
            await worker.list_models(request, metadata=person.metadata)
        await self.listed(worker, person)
        paths = {received.path for received in await worker.received(person)}
        assert len(paths) == 1
        assert not any("b=c" in received.query.split("&") for received in await worker.received(person))

    async def test_of_a_provider_that_says_nonsense_are_an_error(self, worker: Worker):
        person = worker.new_person()
        await worker.bad_day(person, status=200, body={"data": 5, "models": 5})
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await worker.list_models(provider.ListModelsRequest(), metadata=person.metadata)
        assert error_info(caught.value).reason == "PROVIDER_UNAVAILABLE"
