"""docs/models.md says what the code does: its example is a file that can be used, its table has every field."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from realmultillm.chat.v1.chat_service_pb2 import Usage

from libs.model_catalog import CAPABILITIES, ModelCatalog
from libs.provider_catalog import load_catalog

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def example(tmp_path: Path) -> Path:
    file = tmp_path / "models.toml"
    file.write_text(EXAMPLES[0])
    return file


class TestExample:
    def test_it_can_be_used_as_it_stands(self, tmp_path: Path) -> None:
        known = ModelCatalog.load(load_catalog(), example(tmp_path))

        assert known.providers_of("standard") == (("openai", "gpt-4o"),)
        facts = known.facts("openai", "gpt-4o")
        assert facts is not None
        assert (facts.capabilities["vision"], facts.capabilities["tools"]) == (False, True)
        assert known.cost("openai", "gpt-4o", Usage(prompt_tokens=200_000)) == Decimal("0.42")
        assert known.cost("openai", "gpt-4o", Usage(prompt_tokens=200_001)) == Decimal("0.8400042")
        assert known.cost("openai", "gpt-4o", Usage(completion_tokens=1_000_000), "flex") == Decimal("4.2")

    def test_prices_that_change_can_be_used_in_its_row(self, tmp_path: Path) -> None:
        row, changing = EXAMPLES
        file = tmp_path / "models.toml"
        file.write_text(row[: row.index("[models.prices]")] + changing)
        known = ModelCatalog.load(load_catalog(), file)

        for day, text in (("2026-10-31", "input=2.10 output=8.40"), ("2026-11-01", "input=1.90 output=7.60")):
            prices = known.prices("openai", "gpt-4o", at=datetime.fromisoformat(day).replace(tzinfo=UTC))
            assert prices is not None
            assert prices.text == text


class TestTable:
    def test_every_field_and_capability_is_told(self) -> None:
        told = set(re.findall(r"`([a-z0-9_.]+)`", PAGE[PAGE.index("| field |") :]))

        assert told >= {"provider", "model", "display_name", "aliases", "context_length", "max_output_tokens"}
        assert told >= {"capabilities", "prices", "prices.above", "prices.service_tiers", "source", "reviewed"}
        assert told >= {"prices.from", "prices.until"}
        assert told >= {"input", "output", "cached_input", "cache_write", "cache_write_1h", "reasoning"}
        assert told >= set(CAPABILITIES)
