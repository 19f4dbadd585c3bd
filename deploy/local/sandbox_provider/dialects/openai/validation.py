"""What OpenAI refuses in a chat request, in the order and the words in which it does."""

from collections.abc import Collection, Mapping
from typing import Any

from deploy.local.sandbox_provider.dialects.openai.errors import invalid, unknown_model
from deploy.local.sandbox_provider.dialects.openai.models import REASONING_TOKENS, reasons, snapshot

_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_PART_TYPES = ("text", "image_url", "input_audio", "refusal", "audio", "file")

_NUMBERS: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
_INTEGERS: dict[str, tuple[int, int | None]] = {
    "max_tokens": (1, None),
    "max_completion_tokens": (1, None),
    "n": (1, 1),  # more than one choice is beyond the sandbox
    "top_logprobs": (0, 20),
    "seed": (-(2**63), 2**63 - 1),
}
_BOOLEANS = {"stream", "store", "parallel_tool_calls", "logprobs"}
_OBJECTS = {"stream_options", "response_format", "metadata", "logit_bias", "audio", "prediction"}
_STRINGS = {"user", "service_tier", "reasoning_effort", "verbosity", "prompt_cache_key", "safety_identifier"}
_OTHERS = {
    "model",
    "messages",
    "stop",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "modalities",
    "moderation",
    "prompt_cache_options",
    "prompt_cache_retention",
    "web_search_options",
}
_KNOWN = {*_NUMBERS, *_INTEGERS, *_BOOLEANS, *_OBJECTS, *_STRINGS, *_OTHERS}

_DEFAULTS_ONLY_WHEN_REASONING = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}


def check(request: Any) -> None:
    """Raises `Refusal` for the first thing wrong with a chat request."""
    if not isinstance(request, dict):
        raise invalid(
            "We could not parse the JSON body of your request. (HINT: This likely means you "
            "aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, "
            "but what was sent was not valid JSON. If you have trouble figuring out how to fix "
            "this, please contact us through our help center at help.openai.com.)"
        )
    if not request.get("model"):
        raise invalid("you must provide a model parameter")
    _expect(isinstance(request["model"], str), "model", "a string", request["model"])
    for name in request:
        if name not in _KNOWN:
            raise invalid(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    _check_messages(request)
    _check_parameters({name: value for name, value in request.items() if value is not None})
    if snapshot(request["model"]) is None:
        raise unknown_model(request["model"])
    _check_reasoning(request)


def _check_messages(request: Mapping[str, Any]) -> None:
    if "messages" not in request:
        raise invalid("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    messages = request["messages"]
    _expect(isinstance(messages, list), "messages", "an array of objects", messages)
    if not messages:
        raise invalid(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            "messages",
            "empty_array",
        )
    awaited: list[str] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        _expect(isinstance(message, dict), where, "an object", message)
        _check_message(message, where)
        if message["role"] == "tool":
            if message.get("tool_call_id") not in awaited:
                raise invalid(
                    "Invalid parameter: messages with role 'tool' must be a response to a "
                    "preceeding message with 'tool_calls'.",
                    f"messages.[{index}].role",
                )
            awaited.remove(message["tool_call_id"])
            continue
        _check_all_answered(awaited, index)
        awaited = [call["id"] for call in message.get("tool_calls") or ()]
    _check_all_answered(awaited, len(messages))


def _check_all_answered(awaited: list[str], index: int) -> None:
    if awaited:
        raise invalid(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            "'tool_call_id'. The following tool_call_ids did not have response messages: " + ", ".join(awaited),
            f"messages.[{index}].role",
        )


def _check_message(message: Mapping[str, Any], where: str) -> None:
    if "role" not in message:
        raise _missing(f"{where}.role")
    _one_of(message["role"], _ROLES, f"{where}.role")
    calls = message.get("tool_calls")
    if calls is not None:
        _check_tool_calls(calls, f"{where}.tool_calls")
    content = message.get("content")
    if isinstance(content, list):
        for index, part in enumerate(content):
            _check_part(part, f"{where}.content[{index}]")
    elif content is None and message["role"] == "assistant" and calls:
        return
    else:
        _expect(isinstance(content, str), f"{where}.content", "one of a string or array of objects", content)


def _check_tool_calls(calls: Any, where: str) -> None:
    _expect(isinstance(calls, list), where, "an array of objects", calls)
    for index, call in enumerate(calls):
        place = f"{where}[{index}]"
        _expect(isinstance(call, dict), place, "an object", call)
        for name in ("id", "type", "function"):
            if name not in call:
                raise _missing(f"{place}.{name}")
        _expect(isinstance(call["function"], dict), f"{place}.function", "an object", call["function"])
        for name in ("name", "arguments"):
            if name not in call["function"]:
                raise _missing(f"{place}.function.{name}")
            value = call["function"][name]
            _expect(isinstance(value, str), f"{place}.function.{name}", "a string", value)


def _check_part(part: Any, where: str) -> None:
    _expect(isinstance(part, dict), where, "an object", part)
    if "type" not in part:
        raise _missing(f"{where}.type")
    _one_of(part["type"], _PART_TYPES, f"{where}.type")
    if part["type"] == "text":
        _expect(isinstance(part.get("text"), str), f"{where}.text", "a string", part.get("text"))
    elif part["type"] == "image_url":
        image = part.get("image_url")
        _expect(isinstance(image, dict), f"{where}.image_url", "an object", image)
        if "url" not in image:
            raise _missing(f"{where}.image_url.url")
        _expect(isinstance(image["url"], str), f"{where}.image_url.url", "a string", image["url"])
        if not image["url"].startswith(("http://", "https://", "data:image/")):
            raise invalid(
                f"Invalid '{where}.image_url.url'. Expected a valid URL, but got a value with an invalid format.",
                f"{where}.image_url.url",
                "invalid_image_url",
            )


def _check_parameters(request: Mapping[str, Any]) -> None:
    for name, value in request.items():
        if name in _NUMBERS:
            _expect(_is_number(value), name, "a decimal", value)
            _within(value, *_NUMBERS[name], name, "decimal")
        elif name in _INTEGERS:
            _expect(_is_number(value) and isinstance(value, int), name, "an integer", value)
            _within(value, *_INTEGERS[name], name, "integer")
        elif name in _BOOLEANS:
            _expect(isinstance(value, bool), name, "a boolean", value)
        elif name in _OBJECTS:
            _expect(isinstance(value, dict), name, "an object", value)
        elif name in _STRINGS:
            _expect(isinstance(value, str), name, "a string", value)
    _check_stop(request.get("stop"))
    if "stream_options" in request and not request.get("stream"):
        raise invalid("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    if "max_tokens" in request and "max_completion_tokens" in request:
        raise invalid(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
        )
    _check_tools(request)
    _check_response_format(request)


def _check_stop(stop: Any) -> None:
    if stop is None or isinstance(stop, str):
        return
    _expect(
        isinstance(stop, list) and all(isinstance(sequence, str) for sequence in stop),
        "stop",
        "one of a string or array of strings",
        stop,
    )
    if len(stop) > 4:
        raise invalid(
            "Invalid 'stop': array too long. Expected an array with maximum length 4, but got "
            f"an array with length {len(stop)} instead.",
            "stop",
            "array_above_max_length",
        )


def _check_tools(request: Mapping[str, Any]) -> None:
    tools = request.get("tools", [])
    _expect(isinstance(tools, list), "tools", "an array of objects", tools)
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        _expect(isinstance(tool, dict), where, "an object", tool)
        if "type" not in tool:
            raise _missing(f"{where}.type")
        _one_of(tool["type"], ("function", "custom"), f"{where}.type")
        if tool["type"] == "function":
            function = tool.get("function")
            if not isinstance(function, dict):
                raise _missing(f"{where}.function")
            if "name" not in function:
                raise _missing(f"{where}.function.name")
            parameters = function.get("parameters", {})
            _expect(isinstance(parameters, dict), f"{where}.function.parameters", "an object", parameters)
    choice = request.get("tool_choice")
    if choice is None:
        return
    if not tools:
        raise invalid("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    if isinstance(choice, str):
        _one_of(choice, ("none", "auto", "required"), "tool_choice")
        return
    _expect(isinstance(choice, dict), "tool_choice", "one of a string or object", choice)
    named = choice.get("function")
    if not isinstance(named, dict) or "name" not in named:
        raise _missing("tool_choice.function")
    if named["name"] not in [tool["function"]["name"] for tool in tools if "function" in tool]:
        raise invalid("Tool choice 'function' not found in 'tools' parameter.", "tool_choice")


def _check_response_format(request: Mapping[str, Any]) -> None:
    wanted = request.get("response_format", {"type": "text"})
    if "type" not in wanted:
        raise _missing("response_format.type")
    _one_of(wanted["type"], ("json_object", "json_schema", "text"), "response_format.type")
    if wanted["type"] == "json_schema":
        schema = wanted.get("json_schema")
        if not isinstance(schema, dict):
            raise _missing("response_format.json_schema")
        if "name" not in schema:
            raise _missing("response_format.json_schema.name")
    elif wanted["type"] == "json_object" and "json" not in str(request["messages"]).lower():
        raise invalid(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            "messages",
        )


def _check_reasoning(request: Mapping[str, Any]) -> None:
    effort = request.get("reasoning_effort")
    if not reasons(request["model"]):
        if effort is not None:
            raise invalid("Unrecognized request argument supplied: reasoning_effort")
        return
    if effort is not None:
        _one_of(effort, tuple(REASONING_TOKENS), "reasoning_effort")
    if request.get("max_tokens") is not None:
        raise invalid(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            "max_tokens",
            "unsupported_parameter",
        )
    if effort == "none":
        return
    for name, default in _DEFAULTS_ONLY_WHEN_REASONING.items():
        value = request.get(name)
        if value is not None and value != default:
            raise invalid(
                f"Unsupported value: '{name}' does not support {value} with this model. Only the default "
                f"({default}) value is supported.",
                name,
                "unsupported_value",
            )
    if request.get("stop") is not None:
        raise invalid(
            "Unsupported parameter: 'stop' is not supported with this model.", "stop", "unsupported_parameter"
        )


def _missing(param: str) -> Exception:
    return invalid(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def _one_of(value: Any, supported: Collection[str], param: str) -> None:
    if value not in supported:
        *most, last = (f"'{name}'" for name in supported)
        raise invalid(
            f"Invalid value: '{value}'. Supported values are: {', '.join(most)}, and {last}.",
            param,
            "invalid_value",
        )


def _within(value: float, least: float, most: float | None, param: str, kind: str) -> None:
    if value < least:
        side, sign, bound = "below minimum", ">=", least
        code = f"{kind}_below_min_value"
    elif most is not None and value > most:
        side, sign, bound = "above maximum", "<=", most
        code = f"{kind}_above_max_value"
    else:
        return
    raise invalid(
        f"Invalid '{param}': {kind} {side} value. Expected a value {sign} {bound}, but got {value} instead.",
        param,
        code,
    )


def _expect(valid: bool, param: str, expected: str, value: Any) -> None:
    if not valid:
        raise invalid(
            f"Invalid type for '{param}': expected {expected}, but got {_kind(value)} instead.",
            param,
            "invalid_type",
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
