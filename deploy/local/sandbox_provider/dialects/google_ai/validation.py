"""What Google refuses in a generateContent request that has the right form, in Google's words.

Source: refusals quoted by users in public issue threads, and the API's pages on function calling, thinking and
thought signatures.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deploy.local.sandbox_provider.dialects.google_ai.errors import invalid, invalid_field
from deploy.local.sandbox_provider.dialects.google_ai.models import Gemini
from deploy.local.sandbox_provider.dialects.google_ai.schema import DATA_FIELDS
from deploy.local.sandbox_provider.dialects.google_ai.signatures import was_given

_FUNCTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
_IMAGES = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif")
_MIME_TYPES = (*_IMAGES, "application/pdf", "text/plain", "audio/wav", "audio/mp3", "video/mp4")
_ANSWER_MIME_TYPES = ("text/plain", "application/json", "text/x.enum")
_MOST_STOP_SEQUENCES = 5

Content = Mapping[str, Any]


def check(request: Mapping[str, Any], name: str, model: Gemini) -> None:
    """Raises `Refusal` for the first thing wrong with a request in lowerCamel; `name` is the model's."""
    contents: Sequence[Content] = request.get("contents") or ()
    if not contents:
        raise invalid_field("contents", "contents is not specified")
    for index, content in enumerate(contents):
        _check_content(content, f"contents[{index}]")
        if content.get("role", "user") not in ("user", "model"):
            raise invalid("Please use a valid role: user, model.")
    if "systemInstruction" in request:
        _check_content(request["systemInstruction"], "system_instruction")
    declared = list(_check_tools(request.get("tools") or ()))
    _check_turns(contents)
    if model.wants_signatures:
        _check_signatures(contents)
    _check_function_calling((request.get("toolConfig") or {}).get("functionCallingConfig") or {}, declared)
    _check_generation(request.get("generationConfig") or {}, bool(declared), name, model)


def _check_content(content: Content, at: str) -> None:
    parts = content.get("parts") or ()
    if not parts:
        raise invalid_field(f"{at}.parts", "contents.parts must not be empty.")
    for index, part in enumerate(parts):
        place = f"{at}.parts[{index}]"
        given = [name for name in DATA_FIELDS if name in part]
        if not given:
            raise invalid_field(f"{place}.data", "required oneof field 'data' must have one initialized field")
        if len(given) > 1:
            raise invalid(f"Invalid value at '{place}': oneof field 'data' is already set. Cannot set '{given[1]}'.")
        if "thoughtSignature" in part and not was_given(part["thoughtSignature"]):
            raise invalid("Corrupted thought signature.")
        _check_data(given[0], part[given[0]], place)


def _check_data(kind: str, data: Any, at: str) -> None:
    match kind:
        case "inlineData":
            _check_blob(data, f"{at}.inline_data")
        case "fileData":
            if not data.get("fileUri", "").startswith(("https://", "gs://")):
                raise invalid(
                    f"Unsupported file URI type: {data.get('fileUri', '')}. File uri must be a File API or an https "
                    "URI."
                )
            if data.get("mimeType", "image/png") not in _MIME_TYPES:
                raise invalid(f"Unsupported MIME type: {data['mimeType']}")
        case "functionCall" | "functionResponse":
            if not data.get("name"):
                label = "function_call" if kind == "functionCall" else "function_response"
                raise invalid_field(f"{at}.{label}.name", "Name cannot be empty.")
            for index, part in enumerate(data.get("parts") or ()):
                _check_blob(part.get("inlineData") or {}, f"{at}.function_response.parts[{index}].inline_data")


def _check_blob(blob: Mapping[str, Any], at: str) -> None:
    if not blob.get("data"):
        raise invalid_field(f"{at}.data", "required field data is not set.")
    if blob.get("mimeType") not in _MIME_TYPES:
        raise invalid(f"Unsupported MIME type: {blob.get('mimeType', '')}")


def _check_turns(contents: Sequence[Content]) -> None:
    """Function calls follow a user or a function's turn, and the next turn answers each of them."""
    for index, content in enumerate(contents):
        calls, responses = _members(content, "functionCall"), _members(content, "functionResponse")
        before = contents[index - 1] if index else None
        asked = _members(before, "functionCall") if before is not None else []
        if calls and (before is None or before.get("role", "user") != "user"):
            raise invalid(
                "Please ensure that function call turn comes immediately after a user turn or after a function "
                "response turn."
            )
        if responses and not asked:
            raise invalid("Please ensure that function response turn comes immediately after a function call turn.")
        if len(responses) != len(asked):
            raise invalid(
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )
        if sorted(_identity(response) for response in responses) != sorted(_identity(call) for call in asked):
            raise invalid()
    if _members(contents[-1], "functionCall"):
        raise invalid("Please ensure that function response turn comes immediately after a function call turn.")


def _identity(function: Mapping[str, Any]) -> tuple[str, str]:
    return function["name"], function.get("id", "")


def _check_signatures(contents: Sequence[Content]) -> None:
    """The first call of each step since the user last spoke must bear its signature."""
    spoken = [index for index, content in enumerate(contents) if _is_spoken(content)]
    for index in range(spoken[-1] if spoken else 0, len(contents)):
        for place, part in enumerate(contents[index].get("parts") or ()):
            if "functionCall" not in part:
                continue
            if "thoughtSignature" not in part:
                raise invalid(
                    "Function call is missing a thought_signature in functionCall parts. This is required for tools "
                    "to work correctly, and missing thought_signature may lead to degraded model performance. "
                    f"Additional data, function call `default_api:{part['functionCall']['name']}` , position {place}. "
                    "Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
                )
            break


def _is_spoken(content: Content) -> bool:
    return content.get("role", "user") == "user" and not _members(content, "functionResponse")


def _members(content: Content | None, kind: str) -> list[Mapping[str, Any]]:
    return [part[kind] for part in (content or {}).get("parts") or () if kind in part]


def _check_tools(tools: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    declared: set[str] = set()
    for index, tool in enumerate(tools):
        for place, function in enumerate(tool.get("functionDeclarations") or ()):
            at = f"tools[{index}].function_declarations[{place}]"
            name = function.get("name", "")
            if not _FUNCTION_NAME.fullmatch(name):
                raise invalid_field(
                    f"{at}.name",
                    "[FIELD_INVALID] Invalid function name. Must start with a letter or an underscore. Must be "
                    "alphanumeric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a "
                    "maximum length of 128.",
                )
            if name in declared:
                raise invalid(f"Duplicate function declaration found: {name}")
            if "parameters" in function and "parametersJsonSchema" in function:
                raise invalid_field(at, "only one of parameters and parameters_json_schema may be set.")
            declared.add(name)
            yield name


def _check_function_calling(config: Mapping[str, Any], declared: Sequence[str]) -> None:
    allowed = config.get("allowedFunctionNames") or ()
    if config.get("mode") == "ANY" and not declared:
        raise invalid("Function calling config is set without function_declarations.")
    if allowed and config.get("mode") not in ("ANY", "VALIDATED"):
        raise invalid("Please set allowed_function_names only when function calling mode is ANY.")
    if not set(allowed) <= set(declared):
        raise invalid("allowed_function_names should be a subset of function_declarations.")


def _check_generation(config: Mapping[str, Any], has_functions: bool, name: str, model: Gemini) -> None:
    for field, (low, high) in {"temperature": (0, 2), "topP": (0, 1)}.items():
        if not low <= config.get(field, low) <= high:
            label = "top_p" if field == "topP" else field
            raise invalid_field(f"generation_config.{label}", f"{label} must be in the range [{low}.0, {high}.0].")
    if config.get("candidateCount", 1) != 1:  # more than one candidate is beyond the sandbox
        raise invalid("Multiple candidates is not enabled for this model")
    if not 1 <= config.get("maxOutputTokens", 1) <= model.output_tokens:
        raise invalid(
            f"Unable to submit request because it has a maxOutputTokens value of {config['maxOutputTokens']} but the "
            f"supported range is from 1 (inclusive) to {model.output_tokens + 1} (exclusive). Update the value and "
            "try again."
        )
    stops = config.get("stopSequences") or ()
    if len(stops) > _MOST_STOP_SEQUENCES:
        raise invalid_field("generation_config.stop_sequences", f"must have at most {_MOST_STOP_SEQUENCES} entries.")
    if not all(stops):
        raise invalid_field("generation_config.stop_sequences", "stop sequence must not be empty.")
    if "presencePenalty" in config or "frequencyPenalty" in config:
        raise invalid(f"Penalty is not enabled for models/{name}")
    _check_thinking(config.get("thinkingConfig") or {}, model)
    _check_form(config, has_functions, model)


def _check_thinking(config: Mapping[str, Any], model: Gemini) -> None:
    if not config:
        return
    if not model.thinks:
        raise invalid("Thinking is not enabled for this model")
    level, budget = config.get("thinkingLevel"), config.get("thinkingBudget")
    if level is not None and budget is not None:
        raise invalid("You can only set only one of thinking budget and thinking level.")
    if level is not None:
        if not model.levels:
            raise invalid("Thinking level is not supported for this model.")
        if level not in model.levels:
            raise invalid(
                f"'{level.lower()}' is not a supported thinking level for this model. Allowed values are: "
                f"{', '.join(allowed.lower() for allowed in model.levels)}."
            )
    if budget is None or budget == -1:
        return
    low, high = model.budget or (128, 32_768)
    if budget == 0 and not model.can_rest:
        raise invalid("Budget 0 is invalid. This model only works in thinking mode.")
    if budget and not low <= budget <= high:
        raise invalid(f"The thinking budget {budget} is invalid. Please choose a value between {low} and {high}.")


def _check_form(config: Mapping[str, Any], has_functions: bool, model: Gemini) -> None:
    form = config.get("responseMimeType", "text/plain")
    if form not in _ANSWER_MIME_TYPES:
        raise invalid_field(
            "generation_config.response_mime_type",
            "allowed mimetypes are `text/plain`, `application/json`, `application/xml`, `application/yaml` and "
            "`text/x.enum`.",
        )
    schemas = [name for name in ("responseSchema", "responseJsonSchema") if name in config]
    if len(schemas) > 1:
        raise invalid_field(
            "generation_config.response_schema", "only one of response_schema and response_json_schema may be set."
        )
    if schemas and form == "text/plain":
        raise invalid_field(
            "generation_config.response_mime_type", "a response schema needs the mime type `application/json`."
        )
    if form == "application/json" and has_functions and not model.wants_signatures:
        raise invalid("Function calling with a response mime type: 'application/json' is unsupported")
