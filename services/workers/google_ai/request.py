"""A chat request in the words of generateContent."""

from __future__ import annotations

import re
from typing import Any

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.adapter import Credential
from libs.worker.json_object import plain
from libs.worker.reasoning_effort import settle
from libs.worker.seeds import fits_32_bits
from libs.worker.unsupported_options import UnsupportedOptions
from services.workers.google_ai.contents import Contents
from services.workers.google_ai.model_rules import ModelRules

_MOST_STOPS = 5
_FUNCTION_NAME = re.compile(r"[A-Za-z_].*")

_SAMPLING = (("temperature", "temperature"), ("top_p", "topP"))
_PENALTIES = (("presence_penalty", "options.presencePenalty"), ("frequency_penalty", "options.frequencyPenalty"))
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


def generate_content(
    request: chat.CreateChatCompletionRequest,
    model: str,
    rules: ModelRules,
    credential: Credential,
    unsupported: UnsupportedOptions,
) -> dict[str, Any]:
    """Returns the body; what the model does not take is noted in `unsupported`."""
    contents = Contents(request.messages, model, rules, unsupported)
    options = request.options
    body: dict[str, Any] = {"contents": contents.turns}
    if contents.system:
        body["systemInstruction"] = {"parts": contents.system}
    _add_tools(body, options, unsupported)
    config = _sampling(options, credential, unsupported)
    if options.HasField("response_format"):
        config |= _form(options, model, rules, unsupported)
    if options.reasoning_effort:
        config |= _thinking(options.reasoning_effort, model, rules, unsupported)
    if config:
        body["generationConfig"] = config
    return body


def _add_tools(body: dict[str, Any], options: chat.ChatOptions, unsupported: UnsupportedOptions) -> None:
    if not options.tools:
        return
    for index, tool in enumerate(options.tools):
        if not _FUNCTION_NAME.fullmatch(tool.name):
            unsupported.refuse(
                f"options.tools[{index}].name", "must begin with a letter or _ for Google AI; rename the tool."
            )
    body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in options.tools]}]
    calling = _function_calling(options)
    if calling:
        body["toolConfig"] = {"functionCallingConfig": calling}
    if options.HasField("parallel_tool_calls") and not options.parallel_tool_calls:
        unsupported.refuse(
            "options.parallelToolCalls", "cannot be false for Google AI; leave it out and take several calls."
        )


def _declaration(tool: chat.Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.HasField("parameters"):
        function["parametersJsonSchema"] = plain(tool.parameters)
    return function


def _function_calling(options: chat.ChatOptions) -> dict[str, Any]:
    choice = options.tool_choice
    if choice and choice not in _MODES:
        return {"mode": "ANY", "allowedFunctionNames": [choice]}
    mode = _MODES.get(choice, "")
    if mode in ("", "AUTO") and any(tool.strict for tool in options.tools):
        mode = "VALIDATED"  # like AUTO, but arguments fit their schema; of ANY that is true anyway
    return {"mode": mode} if mode else {}


def _sampling(options: chat.ChatOptions, credential: Credential, unsupported: UnsupportedOptions) -> dict[str, Any]:
    config: dict[str, Any] = {own: getattr(options, name) for name, own in _SAMPLING if options.HasField(name)}
    if credential.temperature is not None:
        config.setdefault("temperature", credential.temperature)
    for name, path in _PENALTIES:
        if getattr(options, name):  # 0 is no penalty
            unsupported.drop(path, "Google AI has no penalties.")
    if options.HasField("seed") and fits_32_bits(options.seed, "Google AI", unsupported):
        config["seed"] = options.seed
    limit = options.max_tokens if options.HasField("max_tokens") else credential.max_tokens
    if limit is not None:
        config["maxOutputTokens"] = limit
    if len(options.stop) > _MOST_STOPS:
        unsupported.refuse("options.stop", f"must have at most {_MOST_STOPS} texts for Google AI; send fewer.")
    if options.stop:
        config["stopSequences"] = list(options.stop)
    return config


def _form(options: chat.ChatOptions, model: str, rules: ModelRules, unsupported: UnsupportedOptions) -> dict[str, Any]:
    wanted = options.response_format
    if wanted.type == "text":
        return {}
    if options.tools and not rules.signs_calls:
        unsupported.refuse(
            "options.responseFormat",
            f"cannot be JSON together with tools for {model}; leave one of them out or use Gemini 3 or later.",
        )
    form: dict[str, Any] = {"responseMimeType": "application/json"}
    if wanted.type == "json_schema":
        form["responseJsonSchema"] = plain(wanted.json_schema)
    return form


def _thinking(effort: str, model: str, rules: ModelRules, unsupported: UnsupportedOptions) -> dict[str, Any]:
    """Asks for an effort, and to be told the thoughts, which stay unsaid otherwise."""
    taken = settle(effort, rules.efforts, model, unsupported)
    if not taken:
        return {}
    thinking: dict[str, Any] = (
        {"thinkingLevel": taken.upper()} if rules.budgets is None else {"thinkingBudget": rules.budgets[taken]}
    )
    if effort != "none":
        thinking["includeThoughts"] = True
    return {"thinkingConfig": thinking}
