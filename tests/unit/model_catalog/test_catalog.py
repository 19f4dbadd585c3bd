"""What the catalogue knows of models, by which names, and what administrators may put in its place."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from realmultillm.chat.v1.chat_service_pb2 import Usage

from libs.model_catalog import CAPABILITIES, ModelCatalog
from libs.model_catalog import catalog as catalog_module
from libs.model_catalog.entries import Entries, read_entries
from libs.model_catalog.overrides import Overrides, following
from libs.provider_catalog import load_catalog
from libs.settings import SettingsError

PROVIDERS = load_catalog()
MILLION = Usage(prompt_tokens=1_000_000)

ROW = """
[[models]]
provider = "openai"
model = "gpt-4o"
"""


@pytest.fixture(scope="module")
def known() -> ModelCatalog:
    return ModelCatalog.load(PROVIDERS)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "models.toml"


def period(dollars: str, days: str = "") -> str:
    return f"[[models.prices]]\ninput = {dollars}\noutput = 9\n{days}\n"


def overridden(file: Path, text: str) -> ModelCatalog:
    file.write_text(text)
    return ModelCatalog.load(PROVIDERS, file)


class TestReviewedFile:
    def test_every_row_is_of_a_well_known_model_and_says_where_from_and_when(self) -> None:
        path = Path(catalog_module.__file__).with_name("models.toml")
        rows = read_entries(path, providers=PROVIDERS).rows

        assert {(provider, model) for provider, model in rows if model not in PROVIDERS[provider].models} == set()
        assert path.read_text().count("\nsource = ") == path.read_text().count("\nreviewed = ") == len(rows)

    def test_every_well_known_model_has_facts(self, known: ModelCatalog) -> None:
        for provider in PROVIDERS.values():
            for model in provider.models:
                facts = known.facts(provider.id, model)
                assert facts is not None, (provider.id, model)
                assert facts.context_length is None or facts.context_length <= provider.max_context_length
                assert facts.max_output_tokens is None or facts.max_output_tokens <= provider.max_tokens
                assert set(facts.capabilities) <= set(CAPABILITIES)

    def test_facts_come_together_from_all_sources(self, known: ModelCatalog) -> None:
        facts = known.facts("openai", "gpt-4o")

        assert facts is not None
        assert (facts.context_length, facts.max_output_tokens) == (128_000, 16_384)
        assert facts.capabilities == dict.fromkeys(
            ("streaming", "system_prompt", "tools", "vision", "json_schema"), True
        )
        assert facts.prices is not None
        assert (facts.prices.input.base, facts.prices.cached_input and facts.prices.cached_input.base) == (
            Decimal("2.5"),
            Decimal("1.25"),
        )

    def test_what_nobody_tells_is_absent(self, known: ModelCatalog) -> None:
        facts = known.facts("openai", "gpt-6.2-sol")

        assert facts is not None
        assert (facts.context_length, facts.max_output_tokens, facts.prices) == (None, None, None)
        assert "vision" not in facts.capabilities

    def test_an_edition_of_a_day_has_the_facts_of_the_model(self, known: ModelCatalog) -> None:
        edition, model = known.facts("openai", "gpt-4o-2024-08-06"), known.facts("openai", "gpt-4o")

        assert edition is not None
        assert model is not None
        assert (edition.model, edition.max_output_tokens) == ("gpt-4o-2024-08-06", model.max_output_tokens)
        assert edition.capabilities["vision"]

    def test_another_model_at_the_same_price_has_facts_of_its_own(self, known: ModelCatalog) -> None:
        """It is published with gpt-5.5, but nobody says that it sees pictures."""
        facts = known.facts("openai", "gpt-5.5-codex")

        assert facts is not None
        assert facts.prices is not None
        assert facts.capabilities == {}


class TestNames:
    @pytest.mark.parametrize(
        ("name", "targets"),
        [
            ("gpt-4o", [("openai", "gpt-4o")]),
            ("openai/gpt-6.1-terra", [("openrouter", "openai/gpt-6.1-terra")]),
            ("claude-opus-5.5", [("anthropic", "claude-opus-5-5")]),
            ("gpt-4o-2024-08-06", [("openai", "gpt-4o-2024-08-06")]),
            ("claude-opus-4-5-20251101", [("anthropic", "claude-opus-4-5-20251101")]),
            ("gemini-2.5-flash-image", [("google-ai", "gemini-2.5-flash-image")]),
            ("no-such-model", []),
            ("", []),
            ("x" * 10_000, []),
        ],
    )
    def test_a_name_tells_whose_model_it_is(
        self, known: ModelCatalog, name: str, targets: list[tuple[str, str]]
    ) -> None:
        assert list(known.providers_of(name)) == targets

    def test_an_alias_of_several_models_means_them_in_the_order_of_providers(self, file: Path) -> None:
        known = overridden(
            file,
            ROW + 'aliases = ["fast"]\n[[models]]\nprovider = "anthropic"\nmodel = "claude-haiku-5-5"\n'
            'aliases = ["fast"]\n',
        )

        assert known.providers_of("fast") == (("anthropic", "claude-haiku-5-5"), ("openai", "gpt-4o"))
        assert (known.model_of("openai", "fast"), known.model_of("grok", "fast")) == ("gpt-4o", "fast")
        facts = known.facts("openai", "fast")
        assert facts is not None
        assert (facts.model, facts.aliases) == ("gpt-4o", ("fast",))


class TestLongNames:
    def test_what_is_longer_than_any_name_is_not_looked_for(self, known: ModelCatalog) -> None:
        endless = "gpt-4o" + "x" * 1_000_000

        assert known.facts("openai", endless) is None
        assert known.cost("openai", endless, MILLION) is None
        assert known.cost("openai", "gpt-4o", MILLION, endless) is None
        assert endless not in str(known.__dict__)


class TestOverrides:
    def test_what_a_row_says_goes_before_and_the_rest_stays(self, file: Path) -> None:
        known = overridden(
            file, ROW + 'context_length = 64_000\ncapabilities = { vision = false }\ndisplay_name = "Ours"\n'
        )

        facts = known.facts("openai", "gpt-4o")

        assert facts is not None
        assert (facts.display_name, facts.context_length, facts.max_output_tokens) == ("Ours", 64_000, 16_384)
        assert (facts.capabilities["vision"], facts.capabilities["tools"]) == (False, True)
        assert known.cost("openai", "gpt-4o", MILLION) == Decimal("2.5")

    def test_prices_go_before_as_a_whole(self, file: Path) -> None:
        known = overridden(
            file,
            ROW + "[models.prices]\ninput = 1.1\noutput = 2\nabove = [{ prompt_tokens = 100, input = 3 }]\n"
            "[models.prices.service_tiers.flex]\ninput = 0.5\noutput = 1\n",
        )
        long, short = Usage(prompt_tokens=1_000, completion_tokens=1_000), Usage(prompt_tokens=100)

        assert known.cost("openai", "gpt-4o", short) == Decimal("0.00011")
        assert known.cost("openai", "gpt-4o", long) == Decimal("0.005")
        assert known.cost("openai", "gpt-4o", short, "flex") == Decimal("0.00005")
        assert known.cost("openai", "gpt-4o", short, "priority") is None
        # The row has no price for what is cached: it costs what any other token does.
        cached = Usage(prompt_tokens=1_000)
        cached.prompt_tokens_details.cached_tokens = 1_000
        assert known.cost("openai", "gpt-4o", cached) == Decimal("0.003")

    def test_prices_hold_in_their_time_and_others_before_and_after(self, file: Path) -> None:
        """Days are of UTC; the last one is not in it any more."""
        known = overridden(
            file,
            ROW + period("3", "from = 2026-10-01\nuntil = 2026-11-01") + period("1", "until = 2025-01-01"),
        )

        def input_at(day: str) -> Decimal:
            prices = known.prices("openai", "gpt-4o", at=datetime.fromisoformat(day))
            assert prices is not None
            return prices.input.base

        assert input_at("2024-12-31T23:59Z") == 1
        assert input_at("2025-01-01T00:00Z") == Decimal("2.5")  # the published one
        assert input_at("2026-09-30T23:59Z") == Decimal("2.5")
        assert input_at("2026-10-01T00:00Z") == input_at("2026-10-31T23:59Z") == 3
        assert input_at("2026-10-01T01:00+02:00") == Decimal("2.5")
        assert input_at("2026-11-01T00:00Z") == Decimal("2.5")

    def test_a_price_is_told_with_all_its_rates(self, file: Path) -> None:
        known = overridden(
            file,
            ROW + "[models.prices]\ninput = 1.10\noutput = 2\ncached_input = 0.0000001\ncache_write = 3e1\n"
            "above = [{ prompt_tokens = 200, input = 3 }, { prompt_tokens = 100, input = 2, output = 4 }]\n",
        )
        prices = known.prices("openai", "gpt-4o")

        assert prices is not None
        assert prices.text == "input=1.10,100:2,200:3 cached_input=0.0000001 cache_write=30 output=2,100:4"

    def test_a_model_that_nobody_knew_is_known(self, file: Path) -> None:
        known = overridden(file, ROW.replace("gpt-4o", "our-fine-tune") + "prices = { input = 7, output = 9 }\n")

        assert known.providers_of("our-fine-tune") == (("openai", "our-fine-tune"),)
        assert known.cost("openai", "our-fine-tune", MILLION) == 7

    def test_another_provider_of_the_platform_may_have_published_prices(self, file: Path) -> None:
        file.write_text('[published.our-groq]\nprovider = "groq"\nprefixes = ["llama-3.3"]\n')
        known = ModelCatalog.load({}, file)

        assert known.cost("our-groq", "llama-3.3-70b-versatile", MILLION) is not None
        assert known.cost("our-groq", "llama-3.1-8b-instant", MILLION) is None
        assert known.cost("openai", "gpt-4o", MILLION) == Decimal("2.5")

    @pytest.mark.parametrize(
        ("rows", "problems"),
        [
            ("[[models", ["is not a TOML file"]),
            ("models = 3", ["its rows must stand under [[models]] each"]),
            ('[published.ours]\nprovider = "nobody"', ["published must be tables"]),
            ("[prices]", ["prices is not known beside [[models]] and [published]"]),
            ("[[models]]", ["row 1: provider is missing", "row 1: model is missing"]),
            (ROW + "colour = 1", ["row 1 (openai/gpt-4o): colour is not a field"]),
            (ROW.replace("openai", "open-ai"), ["provider open-ai is not in the catalogue of providers"]),
            (ROW + "context_length = true\nmax_output_tokens = 0", ["context_length must", "max_output_tokens must"]),
            (ROW + 'aliases = ["auto"]', ["aliases must be a list of at most 20 names, none of them auto"]),
            (ROW + ROW, ["row 2 (openai/gpt-4o): gpt-4o is the name of two models of openai"]),
            (ROW + 'capabilities = { vision = "yes" }', ["capabilities must"]),
            (ROW + "capabilities = { sight = true }", ["capabilities must"]),
            (ROW + "prices = { input = 1 }", ["prices must"]),
            (ROW + "prices = { input = -1, output = 1 }", ["prices must"]),
            (ROW + "prices = { input = nan, output = 1 }", ["prices must"]),
            (ROW + "prices = { input = inf, output = 1 }", ["prices must"]),
            (ROW + "prices = { input = true, output = 1 }", ["prices must"]),
            (ROW + "prices = { input = 1, output = 1, above = [{ input = 2 }] }", ["prices must"]),
            (ROW + "prices = { input = 1, output = 1, service_tiers = { flex = 2 } }", ["prices must"]),
            (ROW + "prices = []", ["prices must"]),
            (ROW + 'prices = { input = 1, output = 1, from = "2026-10-01" }', ["prices must"]),
            (ROW + "prices = { input = 1, output = 1, from = 2026-10-01T00:00:00Z }", ["prices must"]),
            (ROW + "prices = { input = 1, output = 1, from = 2026-10-01, until = 2026-10-01 }", ["prices must"]),
            (ROW + period("1", "from = 2026-10-01") + period("2", "until = 2026-10-02"), ["prices must"]),
            (ROW + period("1", "from = 2026-10-01") + period("2"), ["prices must"]),
            (ROW + "reviewed = 2026-11-23T00:00:00Z", ["reviewed must be a date"]),
        ],
    )
    def test_a_file_that_is_wrong_is_told_so(self, file: Path, rows: str, problems: list[str]) -> None:
        file.write_text(rows)

        with pytest.raises(SettingsError) as refused:
            ModelCatalog.load(PROVIDERS, file)

        assert str(file) in str(refused.value)
        assert [problem for problem in problems if problem not in str(refused.value)] == []

    def test_a_file_that_is_not_there_is_told_so(self, file: Path) -> None:
        with pytest.raises(SettingsError, match="cannot be read"):
            ModelCatalog.load(PROVIDERS, file)


def priced(dollars: str) -> str:
    return ROW + f"prices = {{ input = {dollars}, output = 1 }}\n"


class TestFileThatChanges:
    async def test_what_it_says_now_holds(self, file: Path) -> None:
        known = overridden(file, priced("1"))
        overrides = Overrides(known, file, providers=PROVIDERS)
        assert known.cost("openai", "gpt-4o", MILLION) == 1

        file.write_text(priced("2"))
        await overrides.refresh()

        assert known.cost("openai", "gpt-4o", MILLION) == 2

    async def test_what_changed_between_start_and_watch_is_seen(self, file: Path) -> None:
        known = overridden(file, priced("1"))
        file.write_text(priced("2"))
        overrides = Overrides(known, file)

        await overrides.refresh()

        assert known.cost("openai", "gpt-4o", MILLION) == 2

    async def test_a_row_that_is_gone_holds_no_more(self, file: Path) -> None:
        known = overridden(file, priced("1") + 'aliases = ["fast"]\n')
        file.write_text("")

        await Overrides(known, file).refresh()

        assert known.cost("openai", "gpt-4o", MILLION) == Decimal("2.5")
        assert known.providers_of("fast") == ()

    @pytest.mark.parametrize("bad", ["[[models", priced("-1"), ROW.replace("openai", "unknown"), None])
    async def test_a_bad_one_leaves_the_last_good_one(self, file: Path, bad: str | None) -> None:
        known = overridden(file, priced("1"))
        overrides = Overrides(known, file, providers=PROVIDERS)
        await overrides.refresh()
        if bad is None:
            file.unlink()
        else:
            file.write_text(bad)

        await overrides.refresh()

        assert overrides.problem is not None
        assert str(file) in overrides.problem
        assert known.cost("openai", "gpt-4o", MILLION) == 1

        file.write_text(priced("3"))
        await overrides.refresh()

        assert overrides.problem is None
        assert known.cost("openai", "gpt-4o", MILLION) == 3

    async def test_a_link_that_is_turned_is_followed(self, tmp_path: Path) -> None:
        """As Kubernetes puts a new ConfigMap in place: the file itself stays a link to the same name."""
        for version, dollars in (("one", "1"), ("two", "2")):
            (tmp_path / version).mkdir()
            (tmp_path / version / "models.toml").write_text(priced(dollars))
        data, turned = tmp_path / "..data", tmp_path / "..data_tmp"
        data.symlink_to("one")
        file = tmp_path / "models.toml"
        file.symlink_to("..data/models.toml")
        known = ModelCatalog.load(PROVIDERS, file)
        overrides = Overrides(known, file)
        await overrides.refresh()

        turned.symlink_to("two")
        turned.rename(data)
        await overrides.refresh()

        assert known.cost("openai", "gpt-4o", MILLION) == 2

    async def test_it_is_watched_for_the_time_of_the_block(self, file: Path) -> None:
        heard = asyncio.Event()

        class Heard(ModelCatalog):
            def override(self, overrides: Entries) -> None:
                super().override(overrides)
                heard.set()

        file.write_text(priced("1"))
        known = Heard.load(PROVIDERS, file)
        heard.clear()
        async with AsyncExitStack() as stack, asyncio.timeout(10):
            await stack.enter_async_context(following(known, file, poll_seconds=0.01))
            await heard.wait()
            heard.clear()
            file.write_text(priced("22"))
            await heard.wait()

        assert known.cost("openai", "gpt-4o", MILLION) == 22

    async def test_without_a_file_nothing_is_watched(self, known: ModelCatalog) -> None:
        before = asyncio.all_tasks()

        async with following(known, None):
            assert asyncio.all_tasks() == before
