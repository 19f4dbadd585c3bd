"""What Anthropic refuses in a request for a message, in the words in which it does.

Source: its API reference and guides, and errors quoted in public issue threads.
"""

import re
from collections.abc import Mapping
from typing import Any

from deploy.local.sandbox_provider.dialects.anthropic import models as models
from deploy.local.sandbox_provider.dialects.anthropic.content import check_messages, check_system
from deploy.local.sandbox_provider.dialects.anthropic.errors import expect, invalid, is_integer, unknown_model
from deploy.local.sandbox_provider.dialects.anthropic.models import Model
from deploy.local.sandbox_provider.dialects.anthropic.schemas import check_schema
from deploy.local.sandbox_provider.dialects.anthropic.thinking import check_seals
from deploy.local.sandbox_provider.dialects.anthropic.thinking_options import check_thinking
from deploy.local.sandbox_provider.dialects.anthropic.turns import check_turns

CURRENT_VERSION = "2026-10-21"
VERSIONS = ("2023-06-01", CURRENT_VERSION)

_SAMPLING = {"temperature": (0, 1), "top_p": (0, 1)}
_KNOWN = {
    *("model", "messages", "max_tokens", "system", "stream", "stop_sequences", "tools", "tool_choice", "thinking"),
    *("output_config", "metadata", "service_tier", "cache_control", "container", "inference_geo", "speed"),
    "diagnostics",
}
# https://platform.claude.com/docs/en/api/messages/count_tokens
_COUNTED = {
    *("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control", "speed"),
}
_TOOL_FIELDS = {"name", "description", "input_schema", "strict", "type", "cache_control", "eager_input_streaming"}
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_CHOICES = ("auto", "any", "tool", "none")


def check_version(version: str | None) -> str:
    """Returns the version of the API that a request names. Raises `Refusal` when it names none that exists."""
    if version is None:
        raise invalid("anthropic-version: header is required")
    if version not in VERSIONS:
        raise invalid(f'anthropic-version: "{version}" is not a valid version')
    return version


def check(request: Any, version: str) -> Model:
    """Returns the model of a valid request. Raises `Refusal` for the first thing wrong with it."""
    if not isinstance(request, dict):
        raise invalid("The request body is not valid JSON: expected value at line 1 column 1")
    for name in ("model", "messages", "max_tokens"):
        expect(name in request, f"{name}: Field required")
    sampling = _SAMPLING.keys() | {"top_k"} if version != CURRENT_VERSION else set()
    for name in request:
        expect(name in _KNOWN or name in sampling, f"{name}: Extra inputs are not permitted")
    expect(isinstance(request["model"], str), "model: Input should be a valid string")
    _check_numbers(request)
    check_system(request.get("system"))
    check_messages(request["messages"])
    _check_stops(request.get("stop_sequences"))
    _check_tools(request)
    model = models.find(request["model"])
    if model is None:
        raise unknown_model(request["model"])
    _check_limits(request, model)
    _check_output(request.get("output_config"), model)
    check_thinking(request, model)
    check_turns(request, model)
    check_seals(request, model)
    return model


def check_count(request: Any, version: str) -> None:
    """Raises `Refusal` for the first thing wrong with a request for a count, which sets no limit on an answer."""
    if isinstance(request, dict):
        for name in request:
            expect(name in _COUNTED, f"{name}: Extra inputs are not permitted")
        model = models.find(request["model"]) if isinstance(request.get("model"), str) else None
        request = {**request, "max_tokens": 1 if model is None else model.max_tokens}
    check(request, version)


def _check_numbers(request: Mapping[str, Any]) -> None:
    limit = request["max_tokens"]
    expect(is_integer(limit), "max_tokens: Input should be a valid integer")
    expect(limit >= 1, "max_tokens: Input should be greater than or equal to 1")
    for name, (least, most) in _SAMPLING.items():
        value = request.get(name)
        if value is not None:
            expect(is_integer(value) or isinstance(value, float), f"{name}: Input should be a valid number")
            expect(least <= value <= most, f"{name}: range: {least}..{most}")
    expect(isinstance(request.get("stream", False), bool), "stream: Input should be a valid boolean")


def _check_stops(stops: Any) -> None:
    if stops is None:
        return
    expect(
        isinstance(stops, list) and all(isinstance(stop, str) for stop in stops),
        "stop_sequences: Input should be a valid list",
    )
    expect(all(stop.strip() for stop in stops), "stop_sequences: each stop sequence must contain non-whitespace")


def _check_tools(request: Mapping[str, Any]) -> None:
    tools = request.get("tools")
    names: list[str] = []
    expect(tools is None or isinstance(tools, list), "tools: Input should be a valid list")
    for index, tool in enumerate(tools or ()):
        at = f"tools.{index}.custom"
        expect(isinstance(tool, dict), f"tools.{index}: Input should be a valid dictionary")
        for name in ("name", "input_schema"):
            expect(name in tool, f"{at}.{name}: Field required")
        for name in tool:
            expect(name in _TOOL_FIELDS, f"{at}.{name}: Extra inputs are not permitted")
        expect(
            _TOOL_NAME.fullmatch(tool["name"]) is not None,
            f"{at}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'",
        )
        expect("type" in tool["input_schema"], f"{at}.input_schema.type: Field required")
        expect(tool["input_schema"]["type"] == "object", f"{at}.input_schema.type: Input should be 'object'")
        if tool.get("strict"):
            check_schema(tool["input_schema"], at)
        names.append(tool["name"])
    expect(len(set(names)) == len(names), "tools: Tool names must be unique.")
    choice = request.get("tool_choice")
    if choice is None:
        return
    expect(isinstance(choice, dict), "tool_choice: Input should be a valid dictionary")
    kind = choice.get("type")
    expect(
        kind in _CHOICES,
        f"tool_choice: Input tag '{kind}' found using 'type' does not match any of the expected tags: 'auto', 'any', "
        "'tool', 'none'",
    )
    expect(bool(tools), "tool_choice: tool_choice may only be specified while providing tools.")
    allowed = {"type"} if kind == "none" else {"type", "disable_parallel_tool_use"}
    for name in choice:
        expect(
            name in allowed or (kind == "tool" and name == "name"),
            f"tool_choice.{kind}.{name}: Extra inputs are not permitted",
        )
    if kind == "tool":
        expect("name" in choice, "tool_choice.tool.name: Field required")
        expect(choice["name"] in names, f"Tool '{choice['name']}' not found in provided tools")


def _check_limits(request: Mapping[str, Any], model: Model) -> None:
    limit = request["max_tokens"]
    expect(
        limit <= model.max_tokens,
        f"max_tokens: {limit} > {model.max_tokens}, which is the maximum allowed number of output tokens for "
        f"{request['model']}",
    )
    given = [name for name in ("temperature", "top_p", "top_k") if request.get(name) is not None]
    if not model.sampling:
        for name in given:
            expect(request[name] == 1, f"`{name}` is deprecated for this model.")
    expect(
        not {"temperature", "top_p"} <= set(given) or "4-6" in model.id,
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
    )


def _check_output(output: Any, model: Model) -> None:
    if output is None:
        return
    expect(isinstance(output, dict), "output_config: Input should be a valid dictionary")
    for name in output:
        expect(name in ("effort", "format"), f"output_config.{name}: Extra inputs are not permitted")
    effort = output.get("effort")
    if effort is not None:
        expect(
            effort in models.EFFORTS,
            "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'",
        )
        expect(bool(model.efforts), "This model does not support the effort parameter.")
        expect(
            effort in model.efforts,
            f"This model does not support effort level '{effort}'. Supported levels: {', '.join(model.efforts)}.",
        )
    form = output.get("format")
    if form is not None:
        expect(isinstance(form, dict), "output_config.format: Input should be a valid dictionary")
        expect(form.get("type") == "json_schema", "output_config.format.type: Input should be 'json_schema'")
        expect(isinstance(form.get("schema"), dict), "output_config.format.schema: Field required")
        for name in form:
            expect(name in ("type", "schema"), f"output_config.format.{name}: Extra inputs are not permitted")
        check_schema(form["schema"], "output_config.format.schema")
