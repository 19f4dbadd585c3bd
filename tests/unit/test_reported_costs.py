"""Which of the costs that providers report are taken for ones."""

from typing import Any

import orjson
import pytest

from libs.worker.reported_costs import cost_usd
from services.workers.grok.adapter import ADAPTER as GROK
from services.workers.openrouter.adapter import ADAPTER as OPENROUTER

TICKS = 10_000_000_000


class TestCost:
    @pytest.mark.parametrize(("amount", "per_dollar", "usd"), [(0, 1, 0.0), (0.25, 1, 0.25), (5 * TICKS, TICKS, 5.0)])
    def test_is_in_dollars(self, amount: float, per_dollar: int, usd: float) -> None:
        assert cost_usd(amount, per_dollar=per_dollar) == usd

    @pytest.mark.parametrize(
        "amount", [None, "1", True, [1], -0.01, 1_000_000.01, 1e308, float("inf"), float("-inf"), float("nan")]
    )
    def test_that_makes_no_sense_is_none(self, amount: Any) -> None:
        assert cost_usd(amount) is None

    def test_is_at_most_a_million(self) -> None:
        assert cost_usd(1_000_000) == 1_000_000


def answer(usage: dict[str, Any]) -> bytes:
    choice = {"message": {"content": "Hi."}, "finish_reason": "stop"}
    return orjson.dumps({"model": "m", "choices": [choice], "usage": {"prompt_tokens": 1, **usage}})


class TestCostOfAnAnswer:
    @pytest.mark.parametrize(
        "usage",
        [
            {"cost": 1e308, "cost_details": {"upstream_inference_cost": 1e308}, "is_byok": True},  # together: infinity
            {"cost": 600_000, "cost_details": {"upstream_inference_cost": 600_000}, "is_byok": True},
            {"cost": 2_000_000},
        ],
    )
    def test_by_openrouter_is_left_out_where_it_overflows(self, usage: dict[str, Any]) -> None:
        assert not OPENROUTER.read_answer(answer(usage)).HasField("cost_usd")

    def test_by_xai_is_left_out_where_it_overflows(self) -> None:
        assert GROK.read_answer(answer({"cost_in_usd_ticks": 1_000_000 * TICKS})).cost_usd == 1_000_000
        assert not GROK.read_answer(answer({"cost_in_usd_ticks": 1_000_000 * TICKS + TICKS})).HasField("cost_usd")
