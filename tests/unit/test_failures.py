"""Whether a refusal tells the place in the request, which is the provider's word: it may quote a key in its stead."""

import contextlib
from typing import Any

import pytest

from libs.errors import InvalidRequest
from libs.worker.adapter import Adapter
from libs.worker.failures import Failures
from services.workers.anthropic.adapter import ADAPTER as ANTHROPIC
from services.workers.google_ai.adapter import ADAPTER as GOOGLE_AI
from services.workers.grok.adapter import ADAPTER as GROK
from services.workers.openai.adapter import ADAPTER as OPENAI
from services.workers.openrouter.adapter import ADAPTER as OPENROUTER
from tests.support.wire import asked, body_of

ADAPTERS = (ANTHROPIC, GOOGLE_AI, GROK, OPENAI, OPENROUTER)
# Everything an adapter can ask for. What one model does not take, another does.
OPTIONS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.5, "topP": 0.9, "seed": 1, "presencePenalty": 0.5, "frequencyPenalty": 0.5, "maxTokens": 9000},
    {"reasoningEffort": "high", "maxTokens": 9000},
    {"responseFormat": {"type": "json_schema", "jsonSchema": {"type": "object", "properties": {}}}},
    {"tools": [{"name": "weather"}], "toolChoice": "weather"},
    {"parallelToolCalls": False, "tools": [{"name": "weather"}]},
    {"stop": ["end"]},
)
MODELS = {
    "anthropic": ("claude-haiku-5-5", "claude-haiku-4-5"),
    "google-ai": ("gemini-3.8-flash",),
    "grok": ("grok-4.3", "grok-3"),
    "openai": ("gpt-4o", "gpt-5"),
    "openrouter": ("deepseek/deepseek-v4.1-flash",),
}


def told(at: object) -> bool:
    message = Failures("openai", "OpenAI").rejected_request(at).message
    assert (f" at `{at}`" in message) == ("`" in message)
    return "`" in message


def fields_of(adapter: Adapter, model: str, options: dict[str, Any]) -> set[str]:
    """Returns the fields of a request, and those within Google's `generationConfig`."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    body = body_of(asked(adapter, {"messages": messages, "options": options}, model=model, stream=True))
    return {*body, *body.get("generationConfig", {})}


class TestPlace:
    @pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda each: each.provider)
    @pytest.mark.parametrize("options", OPTIONS, ids=lambda options: next(iter(options)))
    def test_is_told_for_every_field_of_a_request(self, adapter: Adapter, options: dict[str, Any]) -> None:
        fields: set[str] = set()
        for model in MODELS[adapter.provider]:
            with contextlib.suppress(InvalidRequest):  # of what the model does not take
                fields |= fields_of(adapter, model, options)
        assert fields or "parallelToolCalls" in options  # Google alone has nothing of the kind
        assert [field for field in sorted(fields) if not told(field)] == []

    @pytest.mark.parametrize(
        "place",
        [
            "messages[0].content",
            "messages.[0].content",
            "messages.3.content.0.text",
            "tools.0.custom.input_schema.type",
            "tools[0].function_declarations[0].parameters.properties[city].type",
            "generation_config.thinking_config.thinking_budget",
            "generationConfig.topP",
            "systemInstruction.parts[0].text",
        ],
    )
    def test_is_told_as_far_down_as_it_goes(self, place: str) -> None:
        assert told(place)

    @pytest.mark.parametrize(
        "quoted",
        [
            "AIzaSyDdI0hCZtE6vySjMmWEfRq3CPzqKqqsHI",
            "gsk_abcdefghijklmnop1234567890",
            "a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6",
            "My_secret_prompt_word",
            "messages.sk_ant_0123456789abcdef",
            "messages[sk_ant_0123456789abcdef]",
            "tools.0.rmlk_0123456789abcdef",
            "metadata.AIzaSyDdI0hCZtE6vySjMmWEfRq3CPzqKqqsHI",
            "messages.a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6",
            "model.1.2.3.4.5.6.7.8",
            "messages.",
            "messages[0",
            "messages content",
            "",
            None,
            7,
            ["messages"],
            {"messages": 1},
        ],
    )
    def test_that_is_none_is_not_told(self, quoted: object) -> None:
        assert not told(quoted)
