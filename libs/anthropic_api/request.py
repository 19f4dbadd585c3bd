"""Requests of Anthropic's Messages API in the hub's words, for providers that do not speak its dialect.

What the hub has no words for is refused where it would change what the answer means: tools that run at Anthropic, files
kept there, documents. Where it would not it is left out, and `Translated.dropped` tells of what might be missed.
https://platform.claude.com/docs/en/api/messages/create
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.chat.v1 import json_object_pb2

from libs.anthropic_api.json_amounts import JsonAmounts
from libs.anthropic_api.turns import Turns
from libs.errors import InvalidRequest, Violation, refuse_any
from libs.json_members import JsonMembers
from libs.worker.json_object import json_object
from libs.worker.request_amounts import MAX_TOOLS
from libs.worker.unsupported_options import UnsupportedOptions

_LARGEST_LIMIT = 2**31 - 1

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
# The largest budget for thinking that still is this effort, in tokens; all above is the last.
_BUDGETS = ((1_024, "minimal"), (4_096, "low"), (16_000, "medium"))
_LARGEST_EFFORT = "high"

# Members that Anthropic's own services stand behind.
_AT_ANTHROPIC = ("container", "mcp_servers")
# Members that change nothing of what the answer means.
_PASSED_OVER = frozenset(
    {
        *("model", "stream", "metadata", "service_tier", "cache_control", "inference_geo", "speed", "diagnostics"),
        *("user_profile_id", "workspace_id", "betas"),
    }
)
_READ = frozenset(
    {
        *("messages", "system", "max_tokens", "stop_sequences", "temperature", "top_p", "tools", "tool_choice"),
        *("thinking", "output_config", "output_format"),
    }
)
_ASK_ANTHROPIC = "is Anthropic's own; leave it out, or ask a model of Anthropic."


@dataclass(frozen=True, slots=True)
class Translated:
    """A request in the hub's words, and how its answer is wanted. `dropped` is what was left out."""

    request: chat.CreateChatCompletionRequest
    streamed: bool
    dropped: Sequence[chat.DroppedOption] = ()


def to_hub(members: JsonMembers, *, provider: str, model: str) -> Translated:
    """Puts a request into the hub's words, for this provider and model; the model of the body is not read.

    The rules of the hub itself are left to `check_amounts` and `check_chat_request`. Raises InvalidRequest with every
    violation of Anthropic's own, by Anthropic's names.
    """
    return _Translation(members).of(provider, model, limited=True)


def to_counted(members: JsonMembers, *, provider: str, model: str) -> chat.CreateChatCompletionRequest:
    """Puts a request for the count of its tokens into the hub's words; like `to_hub`, but it needs no `max_tokens`."""
    return _Translation(members).of(provider, model, limited=False).request


class _Translation:
    """Reads one request. Bounds first what it then looks at: a worker serves nobody else meanwhile."""

    def __init__(self, members: JsonMembers) -> None:
        self._amounts = JsonAmounts()
        try:
            self._body: dict[str, Any] = self._amounts.read(members.whole, "body")
        except ValueError:  # what was skipped so far is not all checked
            raise InvalidRequest([Violation("body", "must be valid JSON.")]) from None
        self._violations: list[Violation] = []
        self._dropped = UnsupportedOptions()
        self._wire = chat.CreateChatCompletionRequest()

    def of(self, provider: str, model: str, *, limited: bool) -> Translated:
        self._wire.provider, self._wire.model = provider, model
        for name in _AT_ANTHROPIC:
            if self._body.get(name):
                self._refuse(name, _ASK_ANTHROPIC)
        turns = Turns(self._wire.messages, self._violations, self._amounts)
        turns.read_system(self._body.get("system"))
        turns.read(self._body.get("messages"))
        self._read_limit(needed=limited)
        self._read_sampling()
        self._read_tools()
        self._read_tool_choice()
        self._read_thinking()
        self._read_format()
        streamed = self._body.get("stream")
        if streamed is not None and not isinstance(streamed, bool):
            self._refuse("stream", "must be true or false.")
        refuse_any(self._violations)
        for name in self._body.keys() - _READ - _PASSED_OVER - set(_AT_ANTHROPIC):
            self._dropped.drop(name[:64], "It means something to Anthropic only.")
        return Translated(self._wire, streamed is True, self._dropped.dropped)

    def _refuse(self, at: str, rule: str) -> None:
        self._violations.append(Violation(at, rule))

    def _read_limit(self, *, needed: bool) -> None:
        limit = self._body.get("max_tokens")
        if limit is None and not needed:
            return
        if isinstance(limit, int) and not isinstance(limit, bool) and 1 <= limit <= _LARGEST_LIMIT:
            self._wire.options.max_tokens = limit
        else:
            self._refuse("max_tokens", "must be a whole number of at least 1; it limits the answer.")

    def _read_sampling(self) -> None:
        options = self._wire.options
        for name in ("temperature", "top_p"):
            value = self._body.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
                setattr(options, name, value)
            elif value is not None:
                self._refuse(name, "must be a number from 0 to 1.")
        stops = self._body.get("stop_sequences")
        if isinstance(stops, list) and all(isinstance(stop, str) and stop for stop in stops):
            options.stop.extend(stops)
        elif stops is not None:
            self._refuse("stop_sequences", "must be a list of texts, none empty.")

    def _read_tools(self) -> None:
        tools = self._body.get("tools")
        if tools is None:
            return
        if not isinstance(tools, list):
            self._refuse("tools", "must be a list.")
            return
        if len(tools) > MAX_TOOLS:
            raise InvalidRequest([Violation("tools", f"must have at most {MAX_TOOLS} entries.")])
        for index, tool in enumerate(tools):
            self._read_tool(tool, f"tools.{index}")

    def _read_tool(self, tool: Any, at: str) -> None:
        if not isinstance(tool, dict):
            self._refuse(at, "must be an object.")
            return
        kind = tool.get("type")
        if kind not in (None, "custom"):
            named = f"`{kind[:64]}` " if isinstance(kind, str) else ""
            self._refuse(f"{at}.type", f"{named}{_ASK_ANTHROPIC}")
            return
        wire = self._wire.options.tools.add()
        name, description, strict = tool.get("name"), tool.get("description"), tool.get("strict")
        if isinstance(name, str):
            wire.name = name
        else:
            self._refuse(f"{at}.name", "must be a text.")
        if isinstance(description, str):
            wire.description = description
        elif description is not None:
            self._refuse(f"{at}.description", "must be a text.")
        if isinstance(strict, bool):
            wire.strict = strict
        self._read_schema(tool.get("input_schema"), f"{at}.input_schema", wire.parameters)

    def _read_tool_choice(self) -> None:
        choice = self._body.get("tool_choice")
        if choice is None:
            return
        options = self._wire.options
        match choice:
            case {"type": "tool", "name": str(name)} if name and name not in ("auto", "none", "required"):
                if name in (tool.name for tool in options.tools):
                    options.tool_choice = name
                else:
                    self._refuse("tool_choice.name", "must be the name of one of the tools.")
            case {"type": str(kind)} if kind in _CHOICES:
                options.tool_choice = _CHOICES[kind]
            case _:
                self._refuse("tool_choice", "must be of the type auto, any, none, or tool with the name of one.")
                return
        alone = choice.get("disable_parallel_tool_use")
        if alone is True:
            options.parallel_tool_calls = False
        elif alone not in (None, False):
            self._refuse("tool_choice.disable_parallel_tool_use", "must be true or false.")

    def _read_thinking(self) -> None:
        """Says how long to think by the effort, else by the budget; `adaptive` alone leaves it to the model."""
        thinking, output = self._body.get("thinking"), self._body.get("output_config")
        effort = ""
        match thinking:
            case None | {"type": "adaptive" | "between_tools"}:
                pass
            case {"type": "disabled"}:
                effort = "none"
            case {"type": "enabled", "budget_tokens": int(budget)} if budget > 0 and budget is not True:
                effort = next((name for most, name in _BUDGETS if budget <= most), _LARGEST_EFFORT)
            case _:
                self._refuse("thinking", "must be of the type adaptive, disabled, or enabled with budget_tokens.")
        if output is not None and not isinstance(output, dict):
            self._refuse("output_config", "must be an object.")
        elif output and output.get("effort") is not None:
            wanted = output["effort"]
            if wanted in _EFFORTS:
                effort = effort if effort == "none" else wanted
            else:
                self._refuse("output_config.effort", f"must be one of {', '.join(_EFFORTS)}.")
        self._wire.options.reasoning_effort = effort

    def _read_format(self) -> None:
        output = self._body.get("output_config")
        form, at = output.get("format") if isinstance(output, dict) else None, "output_config.format"
        if form is None:
            form, at = self._body.get("output_format"), "output_format"  # its name before it had a place of its own
        if form is None:
            return
        match form:
            case {"type": "json_schema", "schema": {**schema}}:
                wanted = self._wire.options.response_format
                wanted.type = "json_schema"
                # Anthropic always holds the answer to the schema; others to one that leaves nothing open.
                if self._read_schema(schema, f"{at}.schema", wanted.json_schema) and _leaves_nothing_open(schema):
                    wanted.strict = True
            case _:
                self._refuse(at, "must be of the type json_schema, with a schema.")

    def _read_schema(self, schema: Any, at: str, wire: json_object_pb2.JsonObject) -> bool:
        """Puts a schema into words; tells whether it could be."""
        if not isinstance(schema, dict):
            self._refuse(at, "must be a JSON schema.")
            return False
        self._amounts.use(schema, at)
        try:
            wire.CopyFrom(json_object(schema))
        except ValueError:
            self._refuse(at, "is too deep; make it simpler.")
            return False
        return True


def _leaves_nothing_open(schema: Any) -> bool:
    """Tells whether every object of a schema names all its properties and needs them: what `strict` asks for.

    https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
    """
    if isinstance(schema, list):
        return all(map(_leaves_nothing_open, schema))
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        required = schema.get("required")
        if schema.get("additionalProperties") is not False or not isinstance(required, list):
            return False
        if not isinstance(properties, dict) or set(map(str, required)) != properties.keys():
            return False
    return all(map(_leaves_nothing_open, schema.values()))
