"""The list of all models, the models by name as SDKs ask for them, and models side by side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, cast

import pytest
from anthropic.types import ModelInfo
from google.api.httpbody_pb2 import HttpBody
from openai.types import Model as OpenAIModel
from realmultillm.openai.v1.model_service_pb2 import GetModelRequest, GetModelsRequest
from realmultillm.router.v1.model_service_pb2 import (
    CompareModelsRequest,
    CompareModelsResponse,
    ListModelsRequest,
    ListModelsResponse,
)

from libs.errors import FailedPrecondition, InvalidRequest, NotFound, PlatformError, Unavailable
from libs.model_catalog import ModelCatalog
from libs.provider_catalog import load_catalog
from libs.rpc.identity import Call, Principal, enter_call
from services.provider_router import every_model
from services.provider_router.callable_models import CallableModels
from services.provider_router.every_model import EveryModel
from services.provider_router.model_comparison import ModelComparison
from services.provider_router.model_lists import LiveModels, Model, ModelLists
from services.provider_router.model_names import ModelNames
from services.provider_router.openai_model_servicer import OpenAIModelServicer
from services.provider_router.provider_states import ProviderState, ProviderStates
from services.provider_router.routing import Routes
from services.provider_router.servicer import ModelServicer

CATALOG = load_catalog()
KNOWN = ModelCatalog.load(CATALOG)


class StandInWorker:
    """Lists models as the worker of one provider does; `failure` is raised in place of an answer."""

    def __init__(self, provider: str, *pages: Sequence[str]) -> None:
        self.provider = provider
        self.pages = pages
        self.failure: PlatformError | None = None
        self.asked = 0

    async def page(self, page_size: int, page_token: str) -> tuple[Sequence[Model], str]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        number = int(page_token or 0)
        models = [Model(id=model, provider=self.provider, display_name=model) for model in self.pages[number]]
        return models, str(number + 1) if number + 1 < len(self.pages) else ""


class StandInStates:
    """Says what the key vault would."""

    def __init__(self) -> None:
        self.states: dict[str, ProviderState] = {}
        self.failure: PlatformError | None = None

    async def by_provider(self) -> Mapping[str, ProviderState]:
        if self.failure is not None:
            raise self.failure
        return dict(self.states)


class Router:
    """What the router does about models, with workers for Anthropic and OpenAI only."""

    def __init__(self) -> None:
        self.openai = StandInWorker("openai", ["gpt-4o", "ft:ours"], ["gpt-6.1-terra"])
        self.anthropic = StandInWorker("anthropic", ["claude-opus-5-5"])
        self.states = StandInStates()
        workers: dict[str, LiveModels] = {"openai": self.openai, "anthropic": self.anthropic}
        states = cast(ProviderStates, self.states)
        lists = ModelLists(CATALOG, Routes(workers, known=CATALOG), states, KNOWN)
        every = EveryModel(CATALOG, lists, states)
        comparison = ModelComparison(ModelNames(CATALOG, KNOWN), KNOWN)
        self._models = ModelServicer(lists, every, comparison)
        callable_models = CallableModels(CATALOG, every, ModelNames(sorted(workers), KNOWN), KNOWN)
        self._compatible = OpenAIModelServicer(callable_models)

    async def list(self, **request: Any) -> ListModelsResponse:
        answer: ListModelsResponse = await self._models.ListModels(ListModelsRequest(**request), None)
        return answer

    async def compare(self, *models: str) -> CompareModelsResponse:
        answer: CompareModelsResponse = await self._models.CompareModels(CompareModelsRequest(models=models), None)
        return answer

    async def compatible(self, **request: Any) -> dict[str, Any]:
        return _read(await self._compatible.GetModels(GetModelsRequest(**request), None))

    async def compatible_one(self, model: str, provider: str = "") -> dict[str, Any]:
        return _read(await self._compatible.GetModel(GetModelRequest(provider=provider, model=model), None))


def _read(body: HttpBody) -> dict[str, Any]:
    assert body.content_type == "application/json"
    answer: dict[str, Any] = json.loads(body.data)
    return answer


def enter_as(user_id: str) -> None:
    principal = Principal(user_id, "user", token_id=user_id, expire_time=inf, scopes=frozenset())
    enter_call(Call("/test", None, principal=principal))


@pytest.fixture
def router() -> Router:
    return Router()


@pytest.fixture(autouse=True)
def _called_by_ada() -> None:
    enter_as("ada")


ALL = ["anthropic/claude-opus-5-5", "openai/gpt-4o", "openai/ft:ours", "openai/gpt-6.1-terra"]


def names(listed: ListModelsResponse) -> list[str]:
    return [f"{model.provider}/{model.id}" for model in listed.models]


class TestListOfAll:
    async def test_the_models_of_all_who_have_a_worker_are_one_list(self, router: Router) -> None:
        listed = await router.list()

        assert names(listed) == ALL
        assert (listed.source, listed.notice, listed.next_page_token) == ("mixed", "", "")
        assert [(each.provider, each.source, each.notice) for each in listed.sources] == [
            ("anthropic", "live", ""),
            ("openai", "live", ""),
        ]

    async def test_what_the_catalogue_knows_is_added(self, router: Router) -> None:
        opus, gpt, ours, terra = (await router.list()).models

        assert (opus.input_price_per_million, opus.cached_input_price_per_million) == (4, 0.2)
        assert list(opus.aliases) == ["claude-opus-5.5"]
        assert (gpt.display_name, gpt.source, gpt.max_output_tokens) == ("gpt 4o", "live", 16_384)
        assert terra.output_price_per_million == 5
        assert (ours.display_name, ours.HasField("input_price_per_million")) == ("ft:ours", False)

    async def test_a_provider_that_cannot_tell_is_there_from_the_catalogue(self, router: Router) -> None:
        router.openai.failure = FailedPrecondition("You have stored no key.", reason="PROVIDER_NOT_CONFIGURED")

        listed = await router.list()

        assert names(listed) == [ALL[0], *(f"openai/{model}" for model in CATALOG["openai"].models)]
        assert {(model.provider, model.source) for model in listed.models} == {
            ("anthropic", "live"),
            ("openai", "catalogue"),
        }
        assert listed.sources[1].notice == "This list is not live: You have stored no key."

    async def test_a_provider_that_is_switched_off_is_not(self, router: Router) -> None:
        router.states.states = {"openai": ProviderState(enabled=False)}

        assert names(await router.list()) == ALL[:1]
        assert router.openai.asked == 0

    async def test_pages_go_through_all_of_it(self, router: Router) -> None:
        pages = [await router.list(page_size=1)]
        while token := pages[-1].next_page_token:
            pages.append(await router.list(page_size=1, page_token=token))

        assert [name for page in pages for name in names(page)] == ALL
        assert len(pages) == len(ALL)

    async def test_a_page_whose_provider_is_gone_goes_on_with_the_next(self, router: Router) -> None:
        token = (await router.list(page_size=1)).next_page_token
        router.states.states = {"openai": ProviderState(enabled=False)}

        assert names(await router.list(page_token=token)) == []

    @pytest.mark.parametrize("token", ["openai", "openai:x", "live:0:x", "openai:1:"])
    async def test_an_impossible_page_is_refused(self, router: Router, token: str) -> None:
        with pytest.raises(InvalidRequest, match="pageToken"):
            await router.list(page_token=token)

    async def test_it_is_made_once_for_all_who_ask_at_a_time(self, router: Router) -> None:
        await asyncio.gather(*(router.list() for _ in range(5)))

        assert router.anthropic.asked == 1

    async def test_it_is_another_person_s_own(self, router: Router) -> None:
        await router.list()
        enter_as("grace")
        await router.list()

        assert router.anthropic.asked == 2

    async def test_it_is_made_anew_after_a_while(self, router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
        await router.list()
        monkeypatch.setattr(every_model, "_KEEP_SECONDS", 0.0)
        router.states.states = {"grok": ProviderState(priority=1)}
        await router.list()
        await router.list()

        assert router.anthropic.asked == 3

    async def test_it_is_made_anew_when_what_may_be_used_changes(self, router: Router) -> None:
        await router.list()
        router.states.states = {"openai": ProviderState(configured=True)}
        await router.list()

        assert router.openai.asked == 4  # two pages each

    async def test_one_who_leaves_does_not_take_it_away_from_the_others(self, router: Router) -> None:
        impatient, patient = asyncio.create_task(router.list()), asyncio.create_task(router.list())
        await asyncio.sleep(0)
        impatient.cancel()

        assert names(await patient) == ALL

    async def test_while_nobody_knows_what_is_allowed_none_is_listed(self, router: Router) -> None:
        router.states.failure = Unavailable("The key vault is down.")

        with pytest.raises(Unavailable):
            await router.list()


class TestCompatibleList:
    async def test_both_sdks_read_it(self, router: Router) -> None:
        answer = await router.compatible()

        assert (answer["object"], answer["has_more"]) == ("list", False)
        assert (answer["first_id"], answer["last_id"]) == (ALL[0], ALL[-1])
        for row, name in zip(answer["data"], ALL, strict=True):
            theirs, others = OpenAIModel.model_validate(row, strict=True), ModelInfo.model_validate(row)
            assert theirs.id == others.id == name
            assert theirs.owned_by == name.split("/")[0]
        opus = ModelInfo.model_validate(answer["data"][0])
        assert (opus.max_input_tokens, opus.max_tokens) == (1_000_000, 128_000)

    async def test_of_one_provider_the_names_are_its_own(self, router: Router) -> None:
        assert [row["id"] for row in (await router.compatible(provider="openai"))["data"]] == [
            "gpt-4o",
            "ft:ours",
            "gpt-6.1-terra",
        ]

    async def test_nobody_s_list_is_empty(self, router: Router) -> None:
        answer = await router.compatible(provider="grok")  # has no worker here

        assert (answer["data"], answer["first_id"], answer["last_id"]) == ([], None, None)

    async def test_an_unknown_provider_is_not_found(self, router: Router) -> None:
        with pytest.raises(NotFound) as refused:
            await router.compatible(provider="closedai")
        assert refused.value.reason == "PROVIDER_NOT_FOUND"


class TestCompatibleModel:
    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("openai/gpt-4o", "openai/gpt-4o"),
            ("gpt-4o", "openai/gpt-4o"),
            ("openai/ft:ours", "openai/ft:ours"),
            ("claude-opus-5.5", "anthropic/claude-opus-5-5"),
            ("anthropic/claude-opus-5.5", "anthropic/claude-opus-5-5"),
            # The live list does not tell of it.
            ("gpt-4o-2024-08-06", "openai/gpt-4o-2024-08-06"),
        ],
    )
    async def test_any_name_a_chat_may_use_finds_it(self, router: Router, name: str, found: str) -> None:
        row = await router.compatible_one(name)

        assert row["id"] == found
        ModelInfo.model_validate(row)
        OpenAIModel.model_validate(row, strict=True)

    async def test_the_path_may_name_the_provider(self, router: Router) -> None:
        assert (await router.compatible_one("gpt-4o", "openai"))["id"] == "gpt-4o"

    @pytest.mark.parametrize(
        "name", ["", "auto", "no-such-model", "openai/no-such-model", "grok/grok-4.3", "grok-4.3", "x" * 100_000]
    )
    async def test_one_that_is_not_there_is_not_found(self, router: Router, name: str) -> None:
        with pytest.raises(NotFound) as refused:
            await router.compatible_one(name)
        assert refused.value.reason == "MODEL_NOT_FOUND"
        assert len(refused.value.message) < 500

    async def test_one_that_is_not_allowed_is_not_found(self, router: Router) -> None:
        router.states.states = {"openai": ProviderState(allowed_models=("gpt-6.1-terra",))}

        with pytest.raises(NotFound):
            await router.compatible_one("gpt-4o")


class TestSideBySide:
    async def test_models_stand_in_the_order_asked_beside_the_best(self, router: Router) -> None:
        compared = await router.compare("openai/gpt-4o", "claude-opus-5.5", "grok/grok-4.3", "gpt-4o-mini")

        assert [f"{model.provider}/{model.id}" for model in compared.models] == [
            "openai/gpt-4o",
            "anthropic/claude-opus-5-5",
            "grok/grok-4.3",
            "openai/gpt-4o-mini",
        ]
        best = compared.best
        assert list(best.context_length) == ["anthropic/claude-opus-5-5", "grok/grok-4.3"]
        assert list(best.max_output_tokens) == ["anthropic/claude-opus-5-5"]
        assert list(best.input_price_per_million) == ["openai/gpt-4o-mini"]
        assert list(best.output_price_per_million) == ["openai/gpt-4o-mini"]
        assert list(best.cached_input_price_per_million) == ["openai/gpt-4o-mini"]
        assert list(best.capabilities) == ["anthropic/claude-opus-5-5", "grok/grok-4.3"]
        assert router.openai.asked == 0

    async def test_of_what_nobody_knows_none_is_best(self, router: Router) -> None:
        compared = await router.compare("gpt-6.2-sol", "gpt-6.2-astra")

        assert list(compared.best.input_price_per_million) == []
        assert list(compared.best.context_length) == []

    async def test_one_asked_for_twice_is_best_once(self, router: Router) -> None:
        compared = await router.compare("gpt-4o", "openai/gpt-4o")

        assert (len(compared.models), list(compared.best.context_length)) == (2, ["openai/gpt-4o"])

    @pytest.mark.parametrize("asked", [[], ["gpt-4o"], ["gpt-4o"] * 21, ["gpt-4o", ""], ["gpt-4o", "auto"]])
    async def test_what_is_no_comparison_is_refused(self, router: Router, asked: list[str]) -> None:
        with pytest.raises(InvalidRequest):
            await router.compare(*asked)

    @pytest.mark.parametrize("name", ["no-such-model", "openai/no-such-model"])
    async def test_a_model_that_nobody_knows_is_not_found(self, router: Router, name: str) -> None:
        with pytest.raises(NotFound) as refused:
            await router.compare("gpt-4o", name)
        assert refused.value.reason == "MODEL_NOT_FOUND"
