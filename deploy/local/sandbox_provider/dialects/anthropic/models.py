"""Anthropic's models, as far as the sandbox knows them.

Source: Anthropic's model pages and its guides to thinking, effort and migration, as of November 2026.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

_LOW_TO_HIGH = ("low", "medium", "high")
_WITH_MAX = (*_LOW_TO_HIGH, "max")
_ALL_EFFORTS = (*_LOW_TO_HIGH, "xhigh", "max")

EFFORTS = _ALL_EFFORTS
THINKING_TYPES = ("enabled", "disabled", "between_tools", "adaptive")

THINKING_TOKENS = {"low": 16, "medium": 64, "high": 256, "xhigh": 512, "max": 1024}
"""Tokens the sandbox spends on thinking, by effort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What one model takes.

    `thinking` are the types of thinking it accepts, `bound` whether its thinking blocks are good in one conversation
    only, `forced_tools` whether a tool can be demanded, `prefill` whether it continues an assistant turn.
    """

    id: str
    name: str
    released: str
    thinking: tuple[str, ...]
    efforts: tuple[str, ...] = _ALL_EFFORTS
    sampling: bool = False
    forced_tools: bool = True
    prefill: bool = False
    bound: bool = False
    shows_thinking: bool = False
    context: int = 1_000_000
    max_tokens: int = 128_000

    def described(self) -> dict[str, Any]:
        """Describes it as the list of models does."""
        efforts: dict[str, JsonValue] = {effort: _supported(effort in self.efforts) for effort in EFFORTS}
        types: dict[str, JsonValue] = {
            kind: _supported(kind in self.thinking) for kind in ("adaptive", "between_tools", "disabled", "enabled")
        }
        return {
            "type": "model",
            "id": self.id,
            "display_name": self.name,
            "created_at": f"{self.released}T00:00:00Z",
            "lifecycle": "active",
            "deprecated_at": None,
            "retires_at": None,
            "line": self.name.split()[1].lower(),
            "max_input_tokens": self.context,
            "max_tokens": self.max_tokens,
            "capabilities": {
                "batch": _supported(True),
                "citations": _supported(True),
                "code_execution": _supported(True),
                "context_management": {"supported": True},
                "effort": {"supported": bool(self.efforts), **efforts},
                "image_input": _supported(True),
                "pdf_input": _supported(True),
                "server_tools": {
                    "supported": True,
                    "web_search": _supported(True),
                    "code_execution": _supported(True),
                },
                "structured_outputs": _supported(True),
                "thinking": {"supported": True, "types": types},
            },
        }


def _supported(yes: bool) -> dict[str, JsonValue]:
    return {"supported": yes}


_MANUAL: dict[str, Any] = {
    "thinking": ("enabled", "disabled"),
    "efforts": (),
    "sampling": True,
    "prefill": True,
    "shows_thinking": True,
    "context": 200_000,
    "max_tokens": 64_000,
}
_BOTH: dict[str, Any] = {
    "thinking": ("adaptive", "enabled", "disabled"),
    "efforts": _WITH_MAX,
    "sampling": True,
    "shows_thinking": True,
}
_ADAPTIVE: dict[str, Any] = {"thinking": ("adaptive", "disabled")}
_ALWAYS: dict[str, Any] = {"thinking": ("adaptive",)}
_ALWAYS_BOUND: dict[str, Any] = {**_ALWAYS, "forced_tools": False, "bound": True}

MODELS = (
    Model(id="claude-fable-5-2", name="Claude Fable 5.2", released="2026-11-03", **_ALWAYS_BOUND),
    Model(id="claude-mythos-5-2", name="Claude Mythos 5.2", released="2026-11-03", **_ALWAYS_BOUND),
    Model(id="claude-haiku-5-5", name="Claude Haiku 5.5", released="2026-10-07", **_ADAPTIVE, bound=True),
    Model(
        id="claude-sonnet-5-5",
        name="Claude Sonnet 5.5",
        released="2026-09-28",
        thinking=("adaptive", "between_tools"),
        forced_tools=False,
        bound=True,
    ),
    Model(id="claude-opus-5-5", name="Claude Opus 5.5", released="2026-09-22", **_ALWAYS_BOUND),
    Model(id="claude-fable-5-1", name="Claude Fable 5.1", released="2026-09-01", **_ALWAYS_BOUND),
    Model(id="claude-mythos-5-1", name="Claude Mythos 5.1", released="2026-09-01", **_ALWAYS_BOUND),
    Model(id="claude-opus-5", name="Claude Opus 5", released="2026-07-24", **_ADAPTIVE),
    Model(id="claude-sonnet-5", name="Claude Sonnet 5", released="2026-06-30", **_ADAPTIVE),
    Model(id="claude-fable-5", name="Claude Fable 5", released="2026-06-09", **_ALWAYS),
    Model(id="claude-mythos-5", name="Claude Mythos 5", released="2026-06-09", **_ALWAYS),
    Model(id="claude-opus-4-8", name="Claude Opus 4.8", released="2026-05-28", **_ADAPTIVE),
    Model(id="claude-opus-4-7", name="Claude Opus 4.7", released="2026-04-16", **_ADAPTIVE),
    Model(id="claude-sonnet-4-6", name="Claude Sonnet 4.6", released="2026-02-17", **_BOTH),
    Model(id="claude-opus-4-6", name="Claude Opus 4.6", released="2026-02-05", **_BOTH),
    Model(
        id="claude-opus-4-5-20251101",
        name="Claude Opus 4.5",
        released="2025-11-01",
        **{**_MANUAL, "efforts": _LOW_TO_HIGH},
    ),
    Model(id="claude-haiku-4-5-20251001", name="Claude Haiku 4.5", released="2025-10-01", **_MANUAL),
    Model(id="claude-sonnet-4-5-20250929", name="Claude Sonnet 4.5", released="2025-09-29", **_MANUAL),
)
"""Newest first, as the list of models has them."""

_ALIASES = {"claude-opus-4-5": 15, "claude-haiku-4-5": 16, "claude-sonnet-4-5": 17}
_BY_NAME = {model.id: model for model in MODELS} | {name: MODELS[place] for name, place in _ALIASES.items()}


def find(name: str) -> Model | None:
    """Finds a model by its id or alias; the answer names the id."""
    return _BY_NAME.get(name)
