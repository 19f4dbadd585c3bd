"""What the name of a model means, and who is asked for it in which order."""

from collections.abc import Mapping, Sequence

import pytest

from libs.errors import NotFound, PlatformError
from services.provider_router.candidates import Candidates, CandidateSearch
from services.provider_router.model_names import Meaning, ModelNames, Target
from services.provider_router.provider_states import ProviderState


class Known:
    """A catalogue of two models, one of them at two providers, and of one at a provider that is not here."""

    def providers_of(self, name: str) -> Sequence[tuple[str, str]]:
        return {
            "gpt-x": [("openai", "gpt-x"), ("openrouter", "openai/gpt-x")],
            "fast": [("grok", "grok-fast-1")],
            "elsewhere": [("mistral", "elsewhere")],
            "anthropic/claude-x": [("openrouter", "anthropic/claude-x")],
        }.get(name, [])

    def model_of(self, provider: str, name: str) -> str:
        return "grok-fast-1" if (provider, name) == ("grok", "fast") else name


NAMES = ModelNames(["anthropic", "grok", "openai", "openrouter"], Known())


class TestMeaning:
    @pytest.mark.parametrize(
        ("name", "target"),
        [
            ("openai/gpt-x", Target("openai", "gpt-x")),
            ("openai/unheard-of", Target("openai", "unheard-of")),
            ("openrouter/anthropic/claude-x", Target("openrouter", "anthropic/claude-x")),
            ("grok/fast", Target("grok", "grok-fast-1")),
            ("openrouter/auto", Target("openrouter")),
            ("openrouter/openrouter/auto", Target("openrouter", "openrouter/auto")),
            # OpenRouter has a model of this very name; the provider wins.
            ("anthropic/claude-x", Target("anthropic", "claude-x")),
        ],
    )
    def test_a_provider_before_the_slash_is_the_one_that_is_asked(self, name: str, target: Target) -> None:
        assert NAMES.meaning(name) == Meaning((target,), exact=True)

    def test_a_bare_name_means_everybody_who_has_it(self) -> None:
        expected = (Target("openai", "gpt-x"), Target("openrouter", "openai/gpt-x"))
        assert NAMES.meaning("gpt-x") == Meaning(expected)

    def test_an_alias_means_the_model_by_its_providers_name(self) -> None:
        assert NAMES.meaning("fast") == Meaning((Target("grok", "grok-fast-1"),))

    @pytest.mark.parametrize("name", ["", "auto"])
    def test_no_name_means_any_provider_with_the_model_of_its_configuration(self, name: str) -> None:
        targets = NAMES.meaning(name).targets
        assert [target.provider for target in targets] == ["anthropic", "grok", "openai", "openrouter"]
        assert {target.model for target in targets} == {""}

    @pytest.mark.parametrize(
        "name", ["gpt-y", "elsewhere", "openai/", "/gpt-x", "/", "OpenAI/gpt-x", "auto/gpt-x", "é" * 100_000]
    )
    def test_what_nobody_has_is_not_found(self, name: str) -> None:
        with pytest.raises(NotFound) as refused:
            NAMES.meaning(name)

        assert refused.value.reason == "MODEL_NOT_FOUND"
        assert len(refused.value.message) < 500


class States:
    """A person's states: those remembered, and those of this moment."""

    def __init__(self, known: Mapping[str, ProviderState], fresh: Mapping[str, ProviderState] | None = None) -> None:
        self._known = known
        self._fresh = known if fresh is None else fresh
        self.asked = 0

    async def known(self) -> Mapping[str, ProviderState]:
        self.asked += 1
        return self._known

    async def fresh(self) -> Mapping[str, ProviderState]:
        self.asked += 1
        return self._fresh


class Ranks:
    """Ranks of providers; 0 where none is given."""

    def __init__(self, **ranks: int) -> None:
        self._ranks = ranks

    def rank(self, provider: str) -> int:
        return self._ranks.get(provider, 0)


def usable(priority: int | None = None, *, allowed: tuple[str, ...] = ()) -> ProviderState:
    return ProviderState(configured=True, allowed_models=allowed, priority=priority)


async def found(
    model: str,
    states: Mapping[str, ProviderState],
    *fallbacks: Target,
    fresh: Mapping[str, ProviderState] | None = None,
) -> Candidates:
    return await CandidateSearch(NAMES, States(states, fresh)).candidates(model, fallbacks)


class TestCandidates:
    async def test_the_persons_order_comes_before_the_catalogues(self) -> None:
        candidates = await found("", {"anthropic": usable(), "openrouter": usable(1), "openai": usable(2)})

        assert [target.provider for target in candidates.found] == ["openrouter", "openai", "anthropic"]

    async def test_who_is_not_usable_is_left_out(self) -> None:
        states = {
            "anthropic": ProviderState(configured=False),
            "grok": ProviderState(configured=True, enabled=False),
            "openai": usable(allowed=("gpt-y",)),
            "openrouter": usable(),
        }

        assert (await found("gpt-x", states)).found == (Target("openrouter", "openai/gpt-x"),)
        assert [target.provider for target in (await found("auto", states)).found] == ["openai", "openrouter"]

    async def test_a_provider_that_is_named_is_asked_without_a_look_at_the_states(self) -> None:
        states = States({})
        search = CandidateSearch(NAMES, states)

        assert (await search.candidates("openai/gpt-x")).found == (Target("openai", "gpt-x"),)
        assert states.asked == 0

    async def test_a_key_that_was_stored_a_moment_ago_is_used(self) -> None:
        candidates = await found("fast", {}, fresh={"grok": usable()})

        assert candidates.found == (Target("grok", "grok-fast-1"),)

    @pytest.mark.parametrize(
        ("states", "reason"),
        [
            ({}, "PROVIDER_NOT_CONFIGURED"),
            ({"openai": ProviderState(enabled=False)}, "PROVIDER_NOT_CONFIGURED"),
            ({"openai": ProviderState(configured=True, enabled=False)}, "PROVIDER_DISABLED"),
            ({"openai": usable(allowed=("gpt-y",))}, "MODEL_NOT_ALLOWED"),
        ],
    )
    async def test_without_any_the_person_is_told_why(self, states: Mapping[str, ProviderState], reason: str) -> None:
        with pytest.raises(PlatformError) as refused:
            await found("gpt-x", states)

        assert refused.value.reason == reason
        assert "openai" in refused.value.message

    async def test_fallbacks_alone_are_candidates_too(self) -> None:
        assert await found("gpt-x", {}, Target("grok")) == Candidates((), (Target("grok"),))


class TestOrder:
    free = (Target("openai"), Target("grok"), Target("anthropic"))

    def test_who_answers_keeps_the_persons_order(self) -> None:
        assert Candidates(self.free).arranged(Ranks()) == list(self.free)

    def test_who_fails_comes_last(self) -> None:
        arranged = Candidates(self.free).arranged(Ranks(openai=2, grok=1))

        assert [target.provider for target in arranged] == ["anthropic", "grok", "openai"]

    def test_fallbacks_stay_behind_in_their_order(self) -> None:
        candidates = Candidates(self.free[:1], (Target("grok", "g"), Target("anthropic", "a")))

        assert [target.provider for target in candidates.arranged(Ranks())] == ["openai", "grok", "anthropic"]

    def test_fallbacks_that_answer_come_before_a_named_provider_that_fails(self) -> None:
        candidates = Candidates(self.free[:1], (Target("grok", "g"), Target("anthropic", "a")))

        arranged = candidates.arranged(Ranks(openai=2, grok=1))

        assert [target.provider for target in arranged] == ["anthropic", "grok", "openai"]

    def test_nobody_is_asked_twice_for_the_same(self) -> None:
        fallbacks = (Target("grok"), Target("openai"), Target("openai", "x"), Target("grok"))
        candidates = Candidates(self.free[:1], fallbacks)

        assert candidates.arranged(Ranks()) == [Target("openai"), Target("grok"), Target("openai", "x")]
