"""docs/providers.md says what the code does: its tables agree with the adapters, its examples keep the rules."""

from __future__ import annotations

import ast
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.rpc import code_pb2
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.errors.v1 import error_reason_pb2

from libs import errors
from libs.errors import InvalidRequest
from libs.provider_catalog import load_catalog
from libs.provider_keys import ProviderKey
from libs.rpc.status import CODES
from libs.worker import json_text
from libs.worker import request_amounts as amounts
from libs.worker.adapter import Adapter, Credential, ProviderRequest
from libs.worker.openai_dialect.answer import FINISH_REASONS as OPENAI_WORDS
from libs.worker.reasoning_effort import EFFORTS
from libs.worker.request_check import check_chat_request, unfold_tool_calls
from services.workers.anthropic.answer import FINISH_REASONS as ANTHROPIC_WORDS
from tests.support.chat_requests import chat_request

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
CREDENTIAL = Credential(ProviderKey("a-key-of-somebody"))

# What Envoy makes of a status. https://cloud.google.com/apis/design/errors
HTTP = {
    code_pb2.INVALID_ARGUMENT: "400",
    code_pb2.FAILED_PRECONDITION: "400",
    code_pb2.NOT_FOUND: "404",
    code_pb2.RESOURCE_EXHAUSTED: "429",
    code_pb2.UNAVAILABLE: "503",
    code_pb2.DEADLINE_EXCEEDED: "504",
}

# Models that take all that their provider can take.
MODELS = {
    "openai": "gpt-4o",
    "anthropic": "claude-sonnet-4-6",
    "google-ai": "gemini-3.8-flash",
    "openrouter": "openai/gpt-6.1-sol",
    "grok": "grok-4-1-fast-non-reasoning",
}
TOOL = {"name": "clock", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}}
# By the first cell of the row that tells what becomes of it.
OPTIONS: dict[str, dict[str, Any]] = {
    "`temperature`": {"temperature": 0.5},
    "`topP`": {"topP": 0.5},
    "`seed`": {"seed": 7},
    "`presencePenalty`, `frequencyPenalty`": {"presencePenalty": 0.5, "frequencyPenalty": 0.5},
    "`stop`": {"stop": ["END"]},
    "`maxTokens`": {"maxTokens": 50},
    "`tools`": {"tools": [TOOL]},
    "`strict` of a tool": {"tools": [{**TOOL, "strict": True}]},
    "`toolChoice`": {"tools": [TOOL], "toolChoice": "none"},
    "`parallelToolCalls`": {"tools": [TOOL], "parallelToolCalls": False},
    "`responseFormat` `json_object`": {"responseFormat": {"type": "json_object"}},
    "`responseFormat` `json_schema`": {
        "responseFormat": {"type": "json_schema", "jsonSchema": {"type": "object", "properties": {}}}
    },
}
FAILURES = [error for error in CODES if issubclass(error, errors.ProviderError)]


def adapter_of(provider: str) -> Adapter:
    found: Adapter = import_module(f"services.workers.{load_catalog()[provider].worker}.adapter").ADAPTER
    return found


def rows(heading: str) -> list[list[str]]:
    """Returns the cells of the tables below a heading, the heads of the tables among them."""
    section = re.split(r"^#{2,3} ", PAGE.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in section.splitlines()
        if line.startswith("| ") and not line.startswith("|---")
    ]


def table(heading: str) -> dict[str, list[str]]:
    """Returns the rows below a heading by their first cell."""
    return {first: rest for first, *rest in rows(heading)}


def in_code(text: str) -> set[str]:
    """Returns every word that is set as code."""
    return {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"\w+", code)}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


class TestProvidersAndKeys:
    TABLE = table("Providers and keys")

    def test_every_provider_has_a_row(self) -> None:
        assert self.TABLE.keys() - {"id"} == {f"`{provider}`" for provider in load_catalog()}

    @pytest.mark.parametrize("provider", load_catalog())
    def test_a_row_tells_the_model_and_the_key_test(self, provider: str) -> None:
        adapter = adapter_of(provider)
        *_, model, key_test = self.TABLE[f"`{provider}`"]
        asked, asked_of_a_model = (adapter.key_test_request(ProviderKey("a-key"), name) for name in ("", "some-model"))

        assert model == f"`{adapter.default_model}`"
        assert f"`{asked.method} {asked.path}`" in key_test
        assert f"`{asked_of_a_model.method} {asked_of_a_model.path.replace('some-model', '{model}')}`" in key_test


class TestOptions:
    TABLES = (rows("Sampling and length"), rows("Tools and form"))

    def cell(self, option: str, provider: str) -> str:
        (found,) = [row[head.index(f"`{provider}`")] for head, *body in self.TABLES for row in body if row[0] == option]
        return found

    def asked(self, provider: str, options: dict[str, Any]) -> ProviderRequest:
        request = chat_request({"messages": [{"role": "user", "content": "As JSON, please."}], "options": options})
        return adapter_of(provider).chat_request(request, MODELS[provider], CREDENTIAL, stream=False)

    @pytest.mark.parametrize("option", OPTIONS)
    @pytest.mark.parametrize("provider", MODELS)
    def test_a_cell_tells_what_becomes_of_the_option(self, provider: str, option: str) -> None:
        cell = self.cell(option, provider)
        if cell.startswith("refused") or "`false` is refused" in cell:
            with pytest.raises(InvalidRequest):
                self.asked(provider, OPTIONS[option])
            return
        sent = self.asked(provider, OPTIONS[option])
        if cell.startswith("left out"):
            assert {dropped.option for dropped in sent.dropped} == {f"options.{name}" for name in OPTIONS[option]}
            return
        assert not sent.dropped
        names = re.match(r"(?:mode )?`([^`]+)`(?:, `([^`]+)`)?", cell)
        assert names, f"neither sent nor left out nor refused: {cell}"
        if not cell.startswith("mode"):
            said = set(re.findall(r'"(\w+)":', sent.body.decode()))
            assert {name.rpartition(".")[2] for name in names.groups() if name} <= said
            return
        assert set(in_code(cell)) & set(re.findall(r'"mode":"(\w+)"', sent.body.decode()))

    def test_every_option_is_told(self) -> None:
        assert {field.json_name for field in chat.ChatOptions.DESCRIPTOR.fields} <= in_code(PAGE)
        assert set(EFFORTS) <= in_code(PAGE)

    @pytest.mark.parametrize("options", [{}, {"reasoningEffort": "high"}])
    def test_the_limit_that_anthropic_demands_is_told(self, options: dict[str, Any]) -> None:
        limit = orjson.loads(self.asked("anthropic", options).body)["max_tokens"]

        assert f" {limit:,}" in PAGE


class TestLimits:
    def test_are_told_as_they_are(self) -> None:
        told = table("How much a request may hold")

        assert told["`messages`"] == [f"{amounts.MAX_MESSAGES:,}"]
        assert told["`tools`"] == [f"{amounts.MAX_TOOLS:,}"]
        assert [f"{most:,}" for most in (amounts.MAX_PIECES, amounts.MAX_JSON_VALUES)] == [
            cell for first, (cell, *_) in told.items() if "together" in first and "arguments" not in first
        ]
        assert told["`arguments` of all tool calls together"] == [
            f"{json_text.MOST_CHARACTERS:,} characters, {json_text.MOST_BRACKETS:,} opening brackets `{{` and `[`"
        ]
        assert f"beyond {json_text.MOST_LEVELS} levels" in PAGE


class TestAnswers:
    def test_every_way_to_end_is_told(self) -> None:
        told = table("Reading answers")
        ours = {*OPENAI_WORDS.values(), *ANTHROPIC_WORDS.values()}

        assert {f"`{reason}`" for reason in ours} <= told.keys()
        for native, reason in ANTHROPIC_WORDS.items():
            assert f"`{native}`" in told[f"`{reason}`"][2]

    def test_every_count_and_every_fact_about_the_answer_is_told(self) -> None:
        kinds = (chat.Usage, chat.PromptTokensDetails, chat.CompletionTokensDetails, chat.AnswerMetadata)

        assert {field.json_name for kind in kinds for field in kind.DESCRIPTOR.fields} <= in_code(PAGE)


class TestErrors:
    TABLE = table("Errors")

    @pytest.mark.parametrize("error", FAILURES, ids=lambda error: error.__name__)
    def test_every_failure_of_a_provider_is_told(self, error: type[errors.ProviderError]) -> None:
        http, _, again, _ = self.TABLE[f"`{error.default_reason}`"]

        assert http == HTTP[CODES[error]]
        assert again.startswith("yes" if error.retryable else "no")

    def test_no_reason_is_made_up(self) -> None:
        told = {row.strip("`") for row in self.TABLE if re.fullmatch(r"`[A-Z_]+`", row)}

        assert told <= set(error_reason_pb2.ErrorReason.keys())


class TestExamples:
    def test_the_request_keeps_the_rules(self) -> None:
        (written,) = re.findall(r"first\.json\" <<'EOF'\n(.*?)^EOF", PAGE, re.MULTILINE | re.DOTALL)
        (came,) = [block for block in blocks("json") if '"role": "assistant"' in block]
        talk = json.loads(written)
        message = json.loads(came)
        del message["reasoning_content"]  # which Envoy passes over, as every field it does not know
        for call in message["tool_calls"]:
            del call["type"]
        talk["messages"] += [message, {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "21"}]
        request = chat_request(talk)
        unfold_tool_calls(request)

        check_chat_request(request, streaming=False)
        assert request.messages[1].tool_calls[0].extra_content.google.thought_signature

    def test_the_programs_can_be_read(self) -> None:
        programs = re.findall(r"\.py\" <<'EOF'\n(.*?)^EOF", PAGE, re.MULTILINE | re.DOTALL)

        assert len(programs) == 2
        for program in programs:
            ast.parse(program)

    def test_what_is_shown_is_json(self) -> None:
        for block in blocks("json"):
            json.loads(block if block.startswith("{") else f"{{{block}}}")
