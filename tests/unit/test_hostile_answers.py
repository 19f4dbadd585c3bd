"""Answers and refusals in a provider's format, with nonsense in the place of a fact: of every provider."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs import errors
from libs.errors import ProviderError
from libs.worker.adapter import NOT_UNDERSTOOD, Adapter, AnswerReader
from services.workers.anthropic.adapter import ADAPTER as ANTHROPIC
from services.workers.google_ai.adapter import ADAPTER as GOOGLE_AI
from services.workers.grok.adapter import ADAPTER as GROK
from services.workers.openai.adapter import ADAPTER as OPENAI
from services.workers.openrouter.adapter import ADAPTER as OPENROUTER
from tests.support.wire import read_events

ROOT = Path(__file__).parents[2]

Json = dict[str, Any]


def _openai(texts: list[str], usage: Any, reason: Any) -> Json:
    choice = {"index": 0, "message": {"content": "".join(texts)}, "finish_reason": reason}
    return {"id": "1", "model": "m", "choices": [choice], "usage": usage}


def _openai_events(whole: Json) -> list[Json]:
    (choice,) = whole["choices"]
    said = {"index": 0, "delta": choice["message"]}
    ending = {name: value for name, value in choice.items() if name != "message"} | {"delta": {}}
    return [{**whole, "usage": None, "choices": [said]}, {**whole, "choices": [ending]}]


def _anthropic(texts: list[str], usage: Any, reason: Any) -> Json:
    content = [{"type": "text", "text": text} for text in texts]
    return {"id": "1", "model": "m", "content": content, "stop_reason": reason, "usage": usage}


def _anthropic_events(whole: Json) -> list[Json]:
    told: list[Json] = [{"type": "message_start", "message": {**whole, "content": []}}]
    for index, block in enumerate(whole["content"]):
        told += [
            {"type": "content_block_start", "index": index, "content_block": block},
            {"type": "content_block_stop", "index": index},
        ]
    delta = {"stop_reason": whole["stop_reason"]}
    return [*told, {"type": "message_delta", "delta": delta, "usage": whole["usage"]}, {"type": "message_stop"}]


def _google(texts: list[str], usage: Any, reason: Any) -> Json:
    candidate = {"content": {"parts": [{"text": text} for text in texts]}, "finishReason": reason}
    return {"responseId": "1", "modelVersion": "m", "candidates": [candidate], "usageMetadata": usage}


@dataclass(frozen=True)
class Format:
    """How a provider writes an answer: whole, and in events; and what it calls what was sent and received."""

    adapter: Adapter
    whole: Callable[[list[str], Any, Any], Json]
    events: Callable[[Json], list[Json]]
    counts: tuple[str, str]
    reason: str

    def both(self, texts: list[str], usage: Any, reason: Any = None, **members: Any) -> tuple["Both", "Both"]:
        """Has an answer read whole and as a stream."""
        answer = self.whole(texts, usage, self.reason if reason is None else reason) | members
        completion = self.adapter.read_answer(orjson.dumps(answer))
        said, reader = read_events(self.adapter, *map(orjson.dumps, self.events(answer)))
        usage = completion.usage if completion.HasField("usage") else None
        return Both(completion.choices[0].message.content, usage), Both(said.content, reader.usage(), reader)


@dataclass(frozen=True)
class Both:
    """What was read."""

    content: str
    usage: chat.Usage | None
    reader: AnswerReader | None = None


_COUNTS = ("prompt_tokens", "completion_tokens")
FORMATS = [
    Format(OPENAI, _openai, _openai_events, _COUNTS, "stop"),
    Format(OPENROUTER, _openai, _openai_events, _COUNTS, "stop"),
    Format(GROK, _openai, _openai_events, _COUNTS, "stop"),
    Format(ANTHROPIC, _anthropic, _anthropic_events, ("input_tokens", "output_tokens"), "end_turn"),
    Format(GOOGLE_AI, _google, lambda whole: [whole], ("promptTokenCount", "candidatesTokenCount"), "STOP"),
]
OF_OPENAI = FORMATS[:3]


@pytest.fixture(params=FORMATS, ids=lambda form: form.adapter.provider)
def form(request: pytest.FixtureRequest) -> Format:
    found: Format = request.param
    return found


@pytest.fixture(params=OF_OPENAI, ids=lambda form: form.adapter.provider)
def openai_form(request: pytest.FixtureRequest) -> Format:
    found: Format = request.param
    return found


class TestUsage:
    def test_that_makes_sense_is_taken(self, form: Format) -> None:
        for read in form.both(["Hi."], dict(zip(form.counts, (40, 12), strict=True))):
            assert read.usage is not None
            assert (read.usage.prompt_tokens, read.usage.completion_tokens, read.usage.estimated) == (40, 12, False)

    @pytest.mark.parametrize("nonsense", [None, -5, "40", True, [40], {"a": 40}, 2**40, 1e300])
    def test_without_a_count_is_none_to_be_estimated(self, form: Format, nonsense: Any) -> None:
        """Zeros that the worker took for true would make the chat free of charge."""
        for read in form.both(["Hi."], dict.fromkeys(form.counts, nonsense)):
            assert read.content == "Hi."
            assert read.usage is None

    @pytest.mark.parametrize("nonsense", ["lots", 5, [1], True, {}, {"other": 7}])
    def test_of_another_shape_is_none_and_costs_no_answer(self, form: Format, nonsense: Any) -> None:
        for read in form.both(["Hi."], nonsense):
            assert read.content == "Hi."
            assert read.usage is None

    @pytest.mark.parametrize("nonsense", [None, -5, "12"])
    def test_of_claude_that_does_not_tell_the_output_is_not_final(self, nonsense: Any) -> None:
        (form,) = (each for each in FORMATS if each.adapter is ANTHROPIC)
        for read in form.both(["Hi."], {"input_tokens": 40, "output_tokens": nonsense}):
            assert read.usage is not None
            assert (read.usage.prompt_tokens, read.usage.estimated) == (40, True)


NO_TEXTS: list[Any] = [7, 1.5, True, {"a": 1}, ["stop"]]


class TestFacts:
    @pytest.mark.parametrize("reason", NO_TEXTS)
    def test_a_reason_that_is_no_text_is_not_understood(self, form: Format, reason: Any) -> None:
        answer = form.whole(["Hi."], None, reason)
        with pytest.raises(NOT_UNDERSTOOD):
            form.adapter.read_answer(orjson.dumps(answer))
        with pytest.raises(NOT_UNDERSTOOD):
            read_events(form.adapter, *map(orjson.dumps, form.events(answer)))

    @pytest.mark.parametrize("name", ["id", "model"])
    @pytest.mark.parametrize("value", NO_TEXTS)
    def test_neither_is_a_name_that_is_none(self, form: Format, name: str, value: Any) -> None:
        member = {"id": "responseId", "model": "modelVersion"}[name] if form.adapter is GOOGLE_AI else name
        answer = form.whole(["Hi."], None, form.reason) | {member: value}
        with pytest.raises(NOT_UNDERSTOOD):
            form.adapter.read_answer(orjson.dumps(answer))
        with pytest.raises(NOT_UNDERSTOOD):
            read_events(form.adapter, *map(orjson.dumps, form.events(answer)))

    @pytest.mark.parametrize("value", NO_TEXTS)
    def test_what_an_answer_can_do_without_is_left_out(self, openai_form: Format, value: Any) -> None:
        answer = openai_form.whole(["Hi."], None, "stop") | {"service_tier": value, "provider": value}
        answer["choices"][0]["native_finish_reason"] = value
        completion = openai_form.adapter.read_answer(orjson.dumps(answer))
        _, reader = read_events(openai_form.adapter, *map(orjson.dumps, openai_form.events(answer)))
        assert completion.choices[0].native_finish_reason == reader.native_finish_reason == "stop"
        assert not completion.HasField("service_tier")
        assert not completion.metadata.upstream_provider
        assert (reader.service_tier, reader.upstream_provider) == ("", "")

    @pytest.mark.parametrize("value", NO_TEXTS)
    def test_so_is_the_class_of_service_of_claude(self, value: Any) -> None:
        answer = _anthropic(["Hi."], {"input_tokens": 1, "output_tokens": 1, "service_tier": value}, "end_turn")
        assert not ANTHROPIC.read_answer(orjson.dumps(answer)).HasField("service_tier")

    @pytest.mark.parametrize("value", [7, {"a": 1}])
    def test_a_seal_that_is_no_text_is_not_understood(self, value: Any) -> None:
        blocks: list[Json] = [
            {"type": "redacted_thinking", "data": value},
            {"type": "thinking", "thinking": "Hm.", "signature": value},
        ]
        for block in blocks:
            answer = _anthropic(["Hi."], None, "end_turn")
            answer["content"].insert(0, block)
            with pytest.raises(NOT_UNDERSTOOD):
                ANTHROPIC.read_answer(orjson.dumps(answer))
        sealed = _google(["Hi."], None, "STOP")
        sealed["candidates"][0]["content"]["parts"][0]["thoughtSignature"] = value
        with pytest.raises(NOT_UNDERSTOOD):
            GOOGLE_AI.read_answer(orjson.dumps(sealed))


def calls(count: int) -> Json:
    """Makes an event with fragments of two calls, which change in the middle."""
    half = count // 2
    places = [0] * half + [1] * (count - half)
    fragments = [{"index": place, "function": {"arguments": str(place)}} for place in places]
    return {"choices": [{"delta": {"tool_calls": fragments}}]}


MANY = 10_000

_GROWING = """
import resource
import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat
from services.workers.anthropic.adapter import ADAPTER as ANTHROPIC
from services.workers.google_ai.adapter import ADAPTER as GOOGLE_AI
from services.workers.openai.adapter import ADAPTER as OPENAI

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
words = "some words, " * 50
for thought in (False, True):
    parts = [{"text": words, "thought": thought}] * 1_000
    event = orjson.dumps({"candidates": [{"content": {"parts": parts}}]})
    GOOGLE_AI.answer_reader().read(b"", event, chat.ChatCompletionChunk())
fragments = [{"index": 0, "function": {"arguments": words}}] * 1_000
event = orjson.dumps({"choices": [{"delta": {"tool_calls": fragments}}]})
OPENAI.answer_reader().read(b"", event, chat.ChatCompletionChunk())
blocks = [{"type": "text", "text": words}] * 1_000
ANTHROPIC.read_answer(orjson.dumps({"id": "1", "model": "m", "content": blocks, "stop_reason": "end_turn"}))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


class TestPieces:
    def test_of_one_event_are_one_text(self, form: Format) -> None:
        letters = [chr(ord("a") + number % 26) for number in range(1_000)]
        for read in form.both(letters, None):
            assert read.content == "".join(letters)

    def test_of_calls_go_to_their_calls(self) -> None:
        merged, _ = read_events(OPENAI, orjson.dumps(calls(1_000)))
        assert [call.arguments for call in merged.tool_calls] == ["0" * 500, "1" * 500]

    def test_thoughts_and_texts_of_one_event_stay_apart(self) -> None:
        parts = [{"text": text, "thought": text.isupper()} for text in "aBcDeF"]
        merged, _ = read_events(GOOGLE_AI, orjson.dumps({"candidates": [{"content": {"parts": parts}}]}))
        assert (merged.content, merged.reasoning_content) == ("ace", "BDF")

    def test_cost_about_their_size(self) -> None:
        """A text that grows in its message is copied for every piece, and protobuf keeps all copies."""
        command = [sys.executable, "-c", _GROWING]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        assert int(done.stdout) < 64  # MiB, of 0.6 MiB of text each; the copies are 300 MiB each

    def test_more_than_make_sense_are_not_understood(self) -> None:
        events: list[tuple[Adapter, Json]] = [
            (GOOGLE_AI, {"candidates": [{"content": {"parts": [{"text": "a"}] * (MANY + 1)}}]}),
            (OPENAI, calls(MANY + 1)),
        ]
        for adapter, event in events:
            with pytest.raises(NOT_UNDERSTOOD):
                read_events(adapter, orjson.dumps(event))
        read_events(OPENAI, orjson.dumps(calls(MANY)))

    def test_more_than_make_sense_in_a_whole_answer_are_not_understood(self) -> None:
        call = {"id": "c", "function": {"name": "f"}}
        openai = _openai(["Hi."], None, "stop")
        openai["choices"][0]["message"]["tool_calls"] = [call] * (MANY + 1)
        bodies: list[tuple[Adapter, Json]] = [
            (ANTHROPIC, _anthropic(["a"] * (MANY + 1), None, "end_turn")),
            (GOOGLE_AI, _google(["a"] * (MANY + 1), None, "STOP")),
            (OPENAI, openai),
        ]
        for adapter, body in bodies:
            with pytest.raises(NOT_UNDERSTOOD):
                adapter.read_answer(orjson.dumps(body))

    def test_choices_nobody_asked_for_are_not_read(self) -> None:
        others = [{"delta": {"content": "no"}}] * 3
        choices = [{"delta": {"content": "yes"}}, *others]
        assert read_events(OPENAI, orjson.dumps({"choices": choices}))[0].content == "yes"
        candidates = [{"content": {"parts": [{"text": text}]}} for text in ("yes", "no", "no")]
        assert read_events(GOOGLE_AI, orjson.dumps({"candidates": candidates}))[0].content == "yes"


_DEEP = b"[" * 1_000 + b"]" * 1_000
_HERE = "deep JSON goes here"


def _deepened(value: Json) -> bytes:
    return orjson.dumps(value).replace(orjson.dumps(_HERE), _DEEP)


# Everything any of the readers looks at.
_ERROR: Json = {
    **dict.fromkeys(("message", "code", "type", "status", "param"), _HERE),
    "details": [
        {"@type": _HERE},
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": _HERE},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": _HERE},
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": _HERE, "quotaValue": _HERE}],
        },
        {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": _HERE}]},
    ],
    "metadata": {"error_type": _HERE, "retry_after_seconds": _HERE},
    "availability": {"retry_after": _HERE, "retryable": _HERE},
}
_BODIES: dict[str, Json] = {
    "every member": {"type": "error", "error": _ERROR},
    "details": {"error": {"details": {"error_code": _HERE}}},
    "the error": {"error": _HERE},
    "a code beside": {"error": "words", "code": _HERE},
}
_STATUSES = (302, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 503, 529)


class TestRefusal:
    @pytest.mark.parametrize("body", _BODIES.values(), ids=_BODIES)
    def test_with_deep_json_for_words_is_one(self, form: Format, body: Json) -> None:
        for status in _STATUSES:
            error = form.adapter.read_error(status, lambda _: None, _deepened(body))
            assert isinstance(error, ProviderError)

    def test_with_deep_json_for_words_inside_an_answer_is_one(self, form: Format) -> None:
        body = _deepened(_BODIES["every member"])
        with pytest.raises(ProviderError):
            form.adapter.read_answer(body)
        with pytest.raises(ProviderError):
            read_events(form.adapter, body)

    @pytest.mark.parametrize(
        ("adapter", "status", "words", "kind"),
        [
            (OPENAI, 400, "prompt is too long", errors.ContextLengthExceeded),
            (OPENROUTER, 400, "foo is not a valid model ID", errors.ModelNotFound),
            (GROK, 400, "Incorrect API key", errors.ProviderKeyRejected),
            (ANTHROPIC, 400, "prompt is too long", errors.ContextLengthExceeded),
            (GOOGLE_AI, 400, "API key not valid", errors.ProviderKeyRejected),
        ],
        ids=lambda value: getattr(value, "provider", None),
    )
    def test_is_looked_through_at_its_head_only(
        self, adapter: Adapter, status: int, words: str, kind: type[ProviderError]
    ) -> None:
        """However long the text is, the patterns have no more than 4 KiB of it to search."""

        def read(message: str) -> ProviderError:
            return adapter.read_error(status, lambda _: None, orjson.dumps({"error": {"message": message}}))

        assert type(read(" " * (4_096 - len(words)) + words)) is kind
        assert type(read(" " * (4_097 - len(words)) + words)) is errors.ProviderRejectedRequest

    def test_of_a_quota_of_nothing_is_known_however_it_is_written(self) -> None:
        for nothing in ("0", 0):
            violations = [{"quotaId": "x", "quotaValue": nothing}]
            detail = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}
            body = orjson.dumps({"error": {"details": [detail]}})
            assert type(GOOGLE_AI.read_error(429, lambda _: None, body)) is errors.ProviderQuotaExhausted
