"""Google's Gemini API: generateContent and streamGenerateContent, as its reference and its own SDK describe them."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from deploy.local.sandbox_provider import tokens
from deploy.local.sandbox_provider.answering import Answer, Question, Tool, ToolCall, wants_tools
from deploy.local.sandbox_provider.control_messages import Behaviour
from deploy.local.sandbox_provider.dialects.dialect import Call, Refusal, Reply, Transcript
from deploy.local.sandbox_provider.dialects.google_ai.embeddings import embed
from deploy.local.sandbox_provider.dialects.google_ai.errors import (
    bad_day,
    error_reply,
    invalid,
    refuse_key,
    refuse_key_in_url,
    refuse_missing_key,
    refuse_other_credentials,
    unknown_model,
)
from deploy.local.sandbox_provider.dialects.google_ai.models import (
    ALIASES,
    CATALOGUE,
    THOUGHT_TOKENS,
    Gemini,
    description,
    find,
)
from deploy.local.sandbox_provider.dialects.google_ai.schema import parse
from deploy.local.sandbox_provider.dialects.google_ai.signatures import sign
from deploy.local.sandbox_provider.dialects.google_ai.validation import check

TOKENS_PER_MESSAGE = 1
TOKENS_PER_IMAGE = 258

_PAGE_SIZE = 50
_LARGEST_PAGE = 1_000
_ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}}
_NOT_FOUND = b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n"
_FINISH_REASONS = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
_UNSAFE = [{"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True}]


class GoogleAI:
    """Serves `models` with `generateContent`, `streamGenerateContent`, `countTokens` and `batchEmbedContents`."""

    mount = "/google-ai/v1beta"
    key_prefix = "AIza-sandbox"

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Finds the key in its header; the one in the URL, which Google takes too, is refused here."""
        return headers.get("x-goog-api-key") or None

    def model(self, path: str, payload: Any) -> str | None:  # noqa: ARG002 - other dialects have it in the body
        """Finds the model in the path."""
        kind, _, rest = path.partition("/")
        return rest.partition(":")[0] or None if kind == "models" else None

    def receive(self, call: Call, key: str | None) -> "Reply | GenerateContent":
        """Checks the key, then the path, then the body."""
        if "key" in call.query:
            raise refuse_key_in_url()
        if key is None:
            raise refuse_missing_key()
        if "authorization" in call.headers:
            raise refuse_other_credentials()
        if not key.startswith(self.key_prefix):
            raise refuse_key()
        kind, _, rest = call.path.partition("/")
        name, _, verb = rest.partition(":")
        match call.method, kind, verb:
            case "GET", "models", "" if not rest:
                return _page(call.query)
            case "GET", "models", "":
                if find(name) is None:
                    raise unknown_model(f"models/{name}", "getModel")
                return _success(description(name))
            case "POST", "models", "batchEmbedContents":
                return _success(embed(name, call.payload))
            case "POST", "models", "generateContent" | "streamGenerateContent":
                return GenerateContent.from_call(call, name, verb)
            case "POST", "models", "countTokens":
                return _count(call.payload, name)
            case _:
                raise Refusal(Reply(404, _NOT_FOUND, {"content-type": "text/html; charset=UTF-8"}))

    def failure(self, status: int) -> Reply:
        """Says what Google says with this status."""
        return error_reply(status, bad_day(status))

    def stream_failure(self) -> bytes:
        """Makes the event Google sends when it fails after the headers."""
        return _event(bad_day(503))


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateContent:
    """A valid request for an answer."""

    question: Question
    streamed: bool
    model: Gemini
    as_events: bool
    include_thoughts: bool

    @classmethod
    def from_call(cls, call: Call, name: str, verb: str) -> "GenerateContent":
        """Checks a request and reads it."""
        found = find(name)
        if found is None or "generateContent" not in found[1].methods:
            raise unknown_model(f"models/{name}", verb)
        own_name, model = found
        request = parse(call.payload)
        check(request, own_name, model)
        config: dict[str, Any] = request.get("generationConfig") or {}
        thinking: dict[str, Any] = config.get("thinkingConfig") or {}
        return cls(
            question=Question(
                digest=blake2b(call.body, digest_size=16).hexdigest(),
                model=own_name,
                last_message=_text(request["contents"][-1]),
                prompt_tokens=_prompt_tokens(request),
                max_tokens=config.get("maxOutputTokens"),
                stop=tuple(config.get("stopSequences") or ()),
                reasoning_tokens=_thought_tokens(thinking, model),
                tools=_tools_to_call(request),
                json_schema=_json_schema(config),
            ),
            streamed=verb == "streamGenerateContent",
            model=model,
            as_events=call.query.get("alt") == "sse",
            include_thoughts=bool(thinking.get("includeThoughts")),
        )

    def whole(self, answer: Answer, behaviour: Behaviour) -> Reply:
        """Puts the answer into one GenerateContentResponse."""
        if behaviour.block_prompt:
            return _success(self._blocked_prompt(answer, behaviour))
        parts = [*self._thoughts(answer), *self._calls(answer)]
        if answer.text or not parts:
            parts.append({"text": answer.text, **self._text_signature(answer)})
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
        if answer.finish_reason == "content_filter":
            candidate = {"safetyRatings": _UNSAFE}
        candidate |= {"finishReason": _FINISH_REASONS[answer.finish_reason], "index": 0}
        usage = self._usage(answer, answer.usage.completion - answer.usage.reasoning)
        return _success(self._response(answer, behaviour, [candidate], usage | _overlay(usage, behaviour)))

    def stream(self, answer: Answer, behaviour: Behaviour) -> Transcript:
        """Puts the answer into partial responses, with the usage so far in each; nothing follows the finish reason."""
        if behaviour.block_prompt:
            return self._transcript([], self._blocked_prompt(answer, behaviour))
        pieces = [*self._thoughts(answer), *self._calls(answer), *({"text": text} for text in answer.chunks)]
        spent = 0
        responses = []
        for piece in pieces:
            spent += 0 if piece.get("thought") else _tokens_of(piece)
            candidate = {"content": {"parts": [piece], "role": "model"}, "index": 0}
            responses.append(self._response(answer, behaviour, [candidate], self._usage(answer, spent)))
        last: dict[str, Any] = {"content": {"parts": [{"text": "", **self._text_signature(answer)}], "role": "model"}}
        if answer.finish_reason == "content_filter":
            last = {"safetyRatings": _UNSAFE}
        last |= {"finishReason": _FINISH_REASONS[answer.finish_reason], "index": 0}
        usage = self._usage(answer, answer.usage.completion - answer.usage.reasoning)
        closing = self._response(answer, behaviour, [last], usage | _overlay(usage, behaviour))
        return self._transcript(responses, closing)

    def _transcript(self, responses: list[dict[str, Any]], closing: dict[str, Any]) -> Transcript:
        """Without `alt=sse` the stream is one JSON array, which opens before its first and closes after its last."""
        if self.as_events:
            return Transcript(
                opening=b"",
                chunks=tuple(_event(response) for response in responses),
                closing=_event(closing),
                done=b"",
                headers={"content-type": "text/event-stream"},
            )
        encoded = [orjson.dumps(response) for response in responses]
        return Transcript(
            opening=b"[",
            chunks=tuple(response + b"\n,\n" for response in encoded),
            closing=orjson.dumps(closing) + b"\n]\n",
            done=b"",
            headers={"content-type": "application/json; charset=UTF-8"},
        )

    def _thoughts(self, answer: Answer) -> list[dict[str, Any]]:
        return [{"text": answer.reasoning, "thought": True}] if answer.reasoning and self.include_thoughts else []

    def _calls(self, answer: Answer) -> Iterator[dict[str, Any]]:
        """Puts each call into a part; the first of those made at the same time bears the signature.

        A call that the token limit cut off is not told. Models before Gemini 3 give calls no id.
        """
        for place, call in enumerate(_whole_calls(answer)):
            function: dict[str, Any] = {"name": call.name, "args": orjson.loads(call.arguments)}
            if self.model.wants_signatures:
                function = {"id": call.id, **function}
            part: dict[str, Any] = {"functionCall": function}
            if place == 0 and self.model.thinks:
                part["thoughtSignature"] = sign(f"{answer.digest} call")
            yield part

    def _text_signature(self, answer: Answer) -> dict[str, str]:
        if answer.tool_calls or not self.model.wants_signatures:
            return {}
        return {"thoughtSignature": sign(f"{answer.digest} text")}

    def _blocked_prompt(self, answer: Answer, behaviour: Behaviour) -> dict[str, Any]:
        usage = {"promptTokenCount": answer.usage.prompt, "totalTokenCount": answer.usage.prompt}
        feedback = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
        told = {} if behaviour.omit_usage else usage | _overlay(usage, behaviour)
        return feedback | self._response(answer, behaviour, [], told)

    def _response(
        self, answer: Answer, behaviour: Behaviour, candidates: list[dict[str, Any]], usage: Mapping[str, Any]
    ) -> dict[str, Any]:
        response: dict[str, Any] = {"candidates": candidates} if candidates else {}
        if usage and not behaviour.omit_usage:
            response["usageMetadata"] = usage
        response |= {"modelVersion": answer.model, "responseId": answer.digest[:22]}
        return response | behaviour.extra_fields

    def _usage(self, answer: Answer, spent: int) -> dict[str, Any]:
        """Counts what has been said so far; thoughts are apart from what is said."""
        usage: dict[str, Any] = {"promptTokenCount": answer.usage.prompt}
        if spent:
            usage["candidatesTokenCount"] = spent
        usage["totalTokenCount"] = answer.usage.prompt + spent + answer.usage.reasoning
        usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": answer.usage.prompt}]
        if answer.usage.reasoning:
            usage["thoughtsTokenCount"] = answer.usage.reasoning
        return usage


def _overlay(usage: Mapping[str, Any], behaviour: Behaviour) -> dict[str, Any]:
    """Lays the wanted usage over the last one; the total stays the sum of its parts unless it is wanted otherwise."""
    if not behaviour.usage:
        return {}
    laid = {**usage, **behaviour.usage}
    parts = ("promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    counts = [laid.get(name, 0) for name in parts]
    total = sum(count for count in counts if isinstance(count, int))
    return {"totalTokenCount": total, **behaviour.usage}


def _whole_calls(answer: Answer) -> Iterator[ToolCall]:
    for call in answer.tool_calls:
        try:
            orjson.loads(call.arguments)
        except orjson.JSONDecodeError:
            return
        yield call


def _tokens_of(piece: Mapping[str, Any]) -> int:
    if "text" in piece:
        return tokens.count(piece["text"])
    function = piece["functionCall"]
    return tokens.count(function["name"]) + tokens.count(orjson.dumps(function["args"]).decode())


def _thought_tokens(thinking: Mapping[str, Any], model: Gemini) -> int:
    if not model.thinks:
        return 0
    budget = thinking.get("thinkingBudget", model.default_budget)
    if budget >= 0:
        return int(min(budget, THOUGHT_TOKENS["HIGH"]))
    return THOUGHT_TOKENS[thinking.get("thinkingLevel", model.default_level)]


def _tools_to_call(request: Mapping[str, Any]) -> tuple[Tool, ...]:
    """Calls each function offered, or those the caller allows."""
    config = (request.get("toolConfig") or {}).get("functionCallingConfig") or {}
    offered = [
        Tool(function["name"], _parameters(function))
        for tool in request.get("tools") or ()
        for function in tool.get("functionDeclarations") or ()
    ]
    if allowed := config.get("allowedFunctionNames"):
        offered = [tool for tool in offered if tool.name in allowed]
    choice = {"ANY": "required", "NONE": "none"}.get(config.get("mode", "AUTO"), "auto")
    last = request["contents"][-1]
    spoken = not any("functionResponse" in part for part in last["parts"])
    return tuple(offered) if wants_tools(choice, _text(last) if spoken else None) else ()


def _parameters(function: Mapping[str, Any]) -> Mapping[str, Any]:
    schema = function.get("parametersJsonSchema") or _plain_schema(function.get("parameters"))
    return schema if isinstance(schema, dict) and schema else {"type": "object"}


def _json_schema(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if config.get("responseMimeType") != "application/json":
        return None
    schema = config.get("responseJsonSchema") or _plain_schema(config.get("responseSchema"))
    return schema if isinstance(schema, dict) and schema else _ANY_OBJECT


def _plain_schema(schema: Any) -> Any:
    """Turns Google's own form of a schema, whose types are in capitals, into JSON schema."""
    if isinstance(schema, list):
        return [_plain_schema(member) for member in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: member.lower() if name == "type" and isinstance(member, str) else _plain_schema(member)
        for name, member in schema.items()
    }


def _text(content: Mapping[str, Any]) -> str:
    said = []
    for part in content["parts"]:
        if "text" in part:
            said.append(part["text"])
        elif "functionResponse" in part:
            response = part["functionResponse"].get("response") or {}
            result = response.get("result")
            said.append(result if isinstance(result, str) else orjson.dumps(response).decode())
    return " ".join(said)


def _prompt_tokens(request: Mapping[str, Any]) -> int:
    """Counts the text of all turns, tools and instructions, and flat rates for turns and pictures."""
    total = 0
    for content in (*request["contents"], *([request["systemInstruction"]] if "systemInstruction" in request else ())):
        total += TOKENS_PER_MESSAGE + tokens.count(_text(content))
        for part in content["parts"]:
            if "inlineData" in part or "fileData" in part:
                total += TOKENS_PER_IMAGE
            if "functionCall" in part:
                call = part["functionCall"]
                total += tokens.count(call["name"]) + tokens.count(orjson.dumps(call.get("args") or {}).decode())
    if request.get("tools"):
        total += tokens.count(orjson.dumps(request["tools"]).decode())
    return total


def _count(payload: Any, name: str) -> Reply:
    """Counts the prompt of a whole request, which must name the model again, or of turns alone.

    https://ai.google.dev/api/tokens#method:-models.counttokens
    """
    found = find(name)
    if found is None or "countTokens" not in found[1].methods:
        raise unknown_model(f"models/{name}", "countTokens")
    counted = payload if isinstance(payload, dict) else {}
    whole = counted.get("generateContentRequest")
    if isinstance(whole, dict):
        if counted.keys() != {"generateContentRequest"}:
            raise invalid("Only one of 'contents' and 'generate_content_request' may be set.")
        if whole.get("model") != f"models/{name}":
            raise invalid("The model of 'generate_content_request' must be that of the URL.")
        counted = {member: value for member, value in whole.items() if member != "model"}
    request = parse(counted)
    check(request, *found)
    total = _prompt_tokens(request)
    return _success({"totalTokens": total, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}]})


def _page(query: Mapping[str, str]) -> Reply:
    size = query.get("pageSize", "0")
    if not size.isdecimal():
        raise invalid(f"Invalid value at 'page_size' (TYPE_INT32), \"{size}\"")
    try:
        start = int(base64.urlsafe_b64decode(query.get("pageToken", "") or b"MA=="))
    except (binascii.Error, ValueError):
        raise invalid() from None
    names = [*CATALOGUE, *ALIASES]
    end = start + (min(int(size), _LARGEST_PAGE) or _PAGE_SIZE)
    listed: dict[str, Any] = {"models": [description(name) for name in names[start:end]]}
    if end < len(names):
        listed["nextPageToken"] = base64.urlsafe_b64encode(str(end).encode()).decode()
    return _success(listed)


def _success(body: Mapping[str, Any]) -> Reply:
    encoded = orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return Reply(200, encoded, {"content-type": "application/json; charset=UTF-8"})


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"
