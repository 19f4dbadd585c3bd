"""What answers cost: figures worked by hand, and the arithmetic of genai-prices as an oracle."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as PublishedUsage
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as st
from realmultillm.chat.v1.chat_service_pb2 import CompletionTokensDetails, PromptTokensDetails, Usage

from libs.model_catalog import ModelCatalog
from libs.model_catalog.prices import Prices, Rate
from libs.provider_catalog import load_catalog

CATALOG = ModelCatalog.load(load_catalog())
PUBLISHED_AS = {"anthropic": "anthropic", "google-ai": "google", "grok": "x-ai", "openai": "openai"}


def usage(prompt: int, completion: int, *, reasoning: int = 0, **kinds: int) -> Usage:
    """The usage of an answer; `kinds` are those of tokens sent, without `_tokens`."""
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        prompt_tokens_details=PromptTokensDetails(**{f"{kind}_tokens": count for kind, count in kinds.items()}),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=reasoning),
    )


class TestByHand:
    """Dollars per million tokens, as the providers' price pages had them on the date of genai-prices 0.2.3."""

    @pytest.mark.parametrize(
        ("provider", "model", "used", "service_tier", "dollars"),
        [
            # 1,000 × 2.50 + 100 × 10
            ("openai", "gpt-4o", usage(1_000, 100), "", "0.0035"),
            # What is cached is part of what is sent: 400 × 2.50 + 600 × 1.25 + 100 × 10
            ("openai", "gpt-4o", usage(1_000, 100, cached=600), "default", "0.00275"),
            # Reasoning is part of what is received, at the same price.
            ("openai", "gpt-6.1-terra", usage(1_000, 100, reasoning=90), "default", "0.0015"),
            # 272,000 sent is not long yet: × 1, and 1,000 × 5
            ("openai", "gpt-6.1-terra", usage(272_000, 1_000), "", "0.277"),
            # One more is, and makes every token dearer: 272,001 × 2 + 1,000 × 7.50
            ("openai", "gpt-6.1-terra", usage(272_001, 1_000), "", "0.551502"),
            # Flex is half: 1,000 × 0.50 + 100 × 2.50; priority double
            ("openai", "gpt-6.1-terra", usage(1_000, 100), "flex", "0.00075"),
            ("openai", "gpt-6.1-terra", usage(1_000, 100), "priority", "0.003"),
            # 1,000 plain × 5 + 5,000 read × 0.50 + 3,000 written × 6.25 + 1,000 kept for an hour × 10 + 200 × 25
            (
                "anthropic",
                "claude-opus-5",
                usage(10_000, 200, cached=5_000, cache_write=4_000, cache_write_1h=1_000),
                "standard",
                "0.04125",
            ),
            # 100,000 sent in all, of which 90,000 cached: 10,000 × 0.10 + 90,000 × 0.01 + 1,000 × 0.50
            ("anthropic", "claude-haiku-5-5", usage(100_000, 1_000, cached=90_000), "standard", "0.0024"),
            # One more, and all at five times: 10,001 × 0.50 + 90,000 × 0.05 + 1,000 × 2.50
            ("anthropic", "claude-haiku-5-5", usage(100_001, 1_000, cached=90_000), "standard", "0.0120005"),
            # 200,000 × 1.25 + 1,000 × 10; and above, × 2.50 and × 15
            ("google-ai", "gemini-2.5-pro", usage(200_000, 1_000), "", "0.26"),
            ("google-ai", "gemini-2.5-pro", usage(200_001, 1_000), "", "0.5150025"),
            # From 200,000 on, not above it: 200,000 × 4 + 1,000 × 12
            ("grok", "grok-4.6", usage(199_999, 1_000), "", "0.405998"),
            ("grok", "grok-4.6", usage(200_000, 1_000), "", "0.812"),
            ("openrouter", "anthropic/claude-opus-5.5", usage(1_000, 100, cached=500), "", "0.0041"),
        ],
    )
    def test_an_answer_costs_what_the_price_list_says(
        self, provider: str, model: str, used: Usage, service_tier: str, dollars: str
    ) -> None:
        assert CATALOG.cost(provider, model, used, service_tier) == Decimal(dollars)

    def test_nothing_used_costs_nothing(self) -> None:
        assert CATALOG.cost("openai", "gpt-4o", Usage()) == 0

    def test_an_edition_of_a_day_costs_what_the_model_costs(self) -> None:
        used = usage(1_000, 100)

        assert CATALOG.cost("openai", "gpt-4o-2024-08-06", used) == CATALOG.cost("openai", "gpt-4o", used)

    def test_an_alias_costs_what_the_model_costs(self) -> None:
        assert CATALOG.cost("anthropic", "claude-opus-5.5", usage(1_000_000, 0)) == 4


class TestUnknownPrices:
    @pytest.mark.parametrize(
        ("provider", "model", "service_tier"),
        [
            ("openai", "gpt-6.2-sol", ""),
            ("openai", "no-such-model", ""),
            ("our-vllm", "gpt-4o", ""),
            ("google-ai", "claude-opus-5-5", ""),  # Google sells it, but not here
            # Sold by contract.
            ("openai", "gpt-4o", "scale"),
            ("anthropic", "claude-opus-5", "priority"),
        ],
    )
    def test_what_is_not_known_is_not_guessed(self, provider: str, model: str, service_tier: str) -> None:
        assert CATALOG.cost(provider, model, usage(1_000, 100), service_tier) is None

    @pytest.mark.parametrize(
        "used",
        [usage(10, 0, cached=6, cache_write=5), usage(10, 0, cache_write_1h=5, cache_write=4)],
        ids=["more kinds than tokens", "more for an hour than written"],
    )
    def test_usage_that_contradicts_itself_has_no_cost(self, used: Usage) -> None:
        assert CATALOG.cost("anthropic", "claude-opus-5", used) is None

    def test_output_without_a_price_has_no_cost(self) -> None:
        prices = Prices(input=Rate(Decimal(1)))

        assert prices.cost(usage(1_000_000, 0)) == 1
        assert prices.cost(usage(1_000_000, 1)) is None


class TestAgainstThePackage:
    @given(
        asked=st.sampled_from(
            [(each.id, model) for each in load_catalog().values() if each.id in PUBLISHED_AS for model in each.models]
        ),
        plain=st.integers(0, 400_000),
        kinds=st.tuples(*[st.integers(0, 100_000)] * 3),
        said=st.integers(0, 100_000),
        thought=st.integers(0, 50_000),
    )
    def test_any_answer_costs_what_its_own_calculation_says(
        self, asked: tuple[str, str], plain: int, kinds: tuple[int, int, int], said: int, thought: int
    ) -> None:
        provider, model = asked
        cached, written, kept_long = kinds
        facts = CATALOG.facts(provider, model)
        if facts is None or facts.prices is None:
            return  # not published
        prompt = plain + cached + written + kept_long
        used = usage(
            prompt,
            said + thought,
            cached=cached,
            cache_write=written + kept_long,
            cache_write_1h=kept_long,
            reasoning=thought,
        )
        theirs = calc_price(
            PublishedUsage(
                input_tokens=prompt,
                cache_read_tokens=cached,
                cache_write_tokens=written + kept_long,
                cache_write_1h_tokens=kept_long,
                output_tokens=said + thought,
                output_reasoning_tokens=thought,
            ),
            model,
            provider_id=PUBLISHED_AS[provider],
            genai_request_timestamp=datetime.now(UTC),
        )

        assert CATALOG.cost(provider, model, used) == theirs.total_price
