"""A chat as the body of `POST /messages`. https://platform.claude.com/docs/en/api/messages/create"""

from __future__ import annotations

from typing import Any

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.adapter import Credential
from libs.worker.json_object import plain
from libs.worker.unsupported_options import UnsupportedOptions
from services.workers.anthropic.model_rules import ModelRules
from services.workers.anthropic.schemas import closed, input_schema
from services.workers.anthropic.thinking import Thinking, thinking_of
from services.workers.anthropic.turns import Conversation

# The official SDKs refuse to wait for an answer without streaming when it may take more than ten minutes, and reckon
# with an hour for 128,000 tokens.
_LONGEST_UNSTREAMED = 128_000 * 600 // 3_600

_LEAST_TOP_P_THINKING = 0.95
_PENALTIES = (("presence_penalty", "options.presencePenalty"), ("frequency_penalty", "options.frequencyPenalty"))


def message_request(
    request: chat.CreateChatCompletionRequest,
    model: str,
    rules: ModelRules,
    credential: Credential,
    unsupported: UnsupportedOptions,
    *,
    stream: bool,
) -> dict[str, Any]:
    """Makes the body; what the model does not take is noted in `unsupported`."""
    options = request.options
    conversation = Conversation(request.messages, unsupported, bound_thoughts=rules.bound_thoughts)
    _check_conversation(conversation, model, rules, unsupported)
    limit = options.max_tokens if options.HasField("max_tokens") else credential.max_tokens
    thinking = thinking_of(options, model, rules, limit, unsupported, thoughts_missing=conversation.thoughts_missing)
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": thinking.usual_limit(rules) if limit is None else limit,
        "messages": conversation.turns,
    }
    if conversation.system:
        body["system"] = conversation.system
    if thinking.config is not None:
        body["thinking"] = thinking.config
    _add_output(body, options, model, rules, thinking, unsupported)
    _add_tools(body, options, model, rules, unsupported)
    _add_sampling(body, options, model, rules, credential, thinking, unsupported)
    if options.stop:
        if not all(text.strip() for text in options.stop):
            unsupported.refuse("options.stop", "must have no texts of white space alone for Anthropic; leave them out.")
        body["stop_sequences"] = list(options.stop)
    if options.HasField("seed"):
        unsupported.drop("options.seed", "Anthropic has no seed.")
    for name, option in _PENALTIES:
        if getattr(options, name):  # 0 is no penalty
            unsupported.drop(option, "Anthropic has no penalties.")
    if stream or body["max_tokens"] > _LONGEST_UNSTREAMED:
        body["stream"] = True
    return body


def _check_conversation(
    conversation: Conversation, model: str, rules: ModelRules, unsupported: UnsupportedOptions
) -> None:
    if not conversation.turns:
        unsupported.refuse("messages", "must say something beside what the system says; add a message of the user.")
    elif conversation.ends_with_assistant and not rules.prefill:
        unsupported.refuse("messages", f"{model} does not continue what it said; end with a message of another role.")


def _add_output(
    body: dict[str, Any],
    options: chat.ChatOptions,
    model: str,
    rules: ModelRules,
    thinking: Thinking,
    unsupported: UnsupportedOptions,
) -> None:
    output: dict[str, Any] = {}
    if thinking.effort:
        output["effort"] = thinking.effort
    form = options.response_format
    if form.type == "json_object":
        # Words in the prompt would mostly do it; who asks for this relies on always.
        unsupported.refuse("options.responseFormat.type", "Anthropic has no json_object; send a json_schema.")
    elif form.type == "json_schema":
        if not rules.schemas:
            unsupported.refuse("options.responseFormat.type", f"{model} has no json_schema; use a newer model.")
        output["format"] = {"type": "json_schema", "schema": closed(plain(form.json_schema))}
    if output:
        body["output_config"] = output


def _add_tools(
    body: dict[str, Any], options: chat.ChatOptions, model: str, rules: ModelRules, unsupported: UnsupportedOptions
) -> None:
    if not options.tools:
        return
    if not rules.schemas:
        for index, tool in enumerate(options.tools):
            if tool.strict:
                unsupported.refuse(
                    f"options.tools[{index}].strict", f"{model} cannot be held to a schema; use a newer model."
                )
    body["tools"] = [_tool(tool) for tool in options.tools]
    choice = _tool_choice(options.tool_choice)
    if choice["type"] in ("any", "tool") and not rules.forced_tools:
        unsupported.refuse(
            "options.toolChoice", f"{model} decides itself whether to call a tool; use auto, or another model."
        )
    if choice["type"] != "none" and options.HasField("parallel_tool_calls") and not options.parallel_tool_calls:
        choice["disable_parallel_tool_use"] = True
    if choice != {"type": "auto"}:
        body["tool_choice"] = choice


def _tool(tool: chat.Tool) -> dict[str, Any]:
    schema = input_schema(plain(tool.parameters))
    described: dict[str, Any] = {"name": tool.name}
    if tool.description:
        described["description"] = tool.description
    if tool.strict:
        # A tool without parameters takes an empty object, which can be said strictly.
        schema = closed({"properties": {}, **schema} if not tool.HasField("parameters") else schema)
        described["strict"] = True
    return {**described, "input_schema": schema}


def _tool_choice(choice: str) -> dict[str, Any]:
    match choice:
        case "" | "auto":
            return {"type": "auto"}
        case "none":
            return {"type": "none"}
        case "required":
            return {"type": "any"}
        case name:
            return {"type": "tool", "name": name}


def _add_sampling(
    body: dict[str, Any],
    options: chat.ChatOptions,
    model: str,
    rules: ModelRules,
    credential: Credential,
    thinking: Thinking,
    unsupported: UnsupportedOptions,
) -> None:
    """Adds temperature or top-p, of which Claude takes one, up to 1, and when it does not think."""
    own = options.HasField("temperature")
    temperature = options.temperature if own else credential.temperature
    option = "options.temperature" if own else "temperature"
    if temperature is not None:
        if not rules.sampling:
            unsupported.drop(option, f"{model} takes no temperature.")
            temperature = None
        elif thinking.on:
            unsupported.drop(option, f"{model} takes no temperature while it thinks.")
            temperature = None
        elif temperature > 1:
            unsupported.drop(option, "Anthropic takes no temperature above 1; 1 was used.")
            temperature = 1.0
    top_p = options.top_p if options.HasField("top_p") else None
    if top_p is not None:
        if not rules.sampling:
            unsupported.drop("options.topP", f"{model} takes no topP.")
            top_p = None
        elif temperature is not None:
            unsupported.drop("options.topP", f"{model} takes temperature or topP; the temperature was used.")
            top_p = None
        elif thinking.on and top_p < _LEAST_TOP_P_THINKING:
            unsupported.drop("options.topP", f"{model} takes no topP below {_LEAST_TOP_P_THINKING} while it thinks.")
            top_p = None
    if temperature is not None:
        body["temperature"] = temperature
    if top_p is not None:
        body["top_p"] = top_p
