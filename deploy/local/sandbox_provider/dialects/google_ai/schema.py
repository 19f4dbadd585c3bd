"""The form of a generateContent request, and how Google reads JSON into it.

Names may be in lowerCamel or in snake_case, null is absence, enum values may be in lower case, and whatever the form
does not know is an error. Source: the API reference of `models.generateContent` and the types of the google-genai SDK.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.local.sandbox_provider.dialects.google_ai.errors import unparsable

_API = "type.googleapis.com/google.ai.generativelanguage.v1beta."
# Objects and lists within each other, as of the parser that Envoy's transcoder has in common with Google.
_MOST_LEVELS = 100
_UPPER = re.compile(r"(?<!^)([A-Z])")


@dataclass(frozen=True, slots=True)
class Enum:
    """One of a few names."""

    name: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class Message:
    """An object with known members."""

    name: str
    fields: Mapping[str, "Kind"]


@dataclass(frozen=True, slots=True)
class Repeated:
    """A list of one kind of values."""

    of: "Kind"


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value; `name` is what Google calls its type."""

    name: str


Kind = Scalar | Enum | Message | Repeated

STRING = Scalar("TYPE_STRING")
INT32 = Scalar("TYPE_INT32")
FLOAT = Scalar("TYPE_FLOAT")
BOOL = Scalar("TYPE_BOOL")
BYTES = Scalar("TYPE_BYTES")
STRUCT = Scalar("google.protobuf.Struct")
VALUE = Scalar("google.protobuf.Value")
"""Any JSON at all."""


def _enum(name: str, *values: str) -> Enum:
    return Enum(name, frozenset(values))


BLOB = Message("Blob", {"mimeType": STRING, "data": BYTES, "displayName": STRING})
_FILE = Message("FileData", {"mimeType": STRING, "fileUri": STRING, "displayName": STRING})
_FUNCTION_CALL = Message("FunctionCall", {"id": STRING, "name": STRING, "args": STRUCT})
_FUNCTION_RESPONSE = Message(
    "FunctionResponse",
    {
        "id": STRING,
        "name": STRING,
        "response": STRUCT,
        "parts": Repeated(Message("FunctionResponsePart", {"inlineData": BLOB, "fileData": _FILE})),
        "willContinue": BOOL,
        "scheduling": _enum("FunctionResponse.Scheduling", "SILENT", "WHEN_IDLE", "INTERRUPT"),
    },
)
_RESOLUTION = _enum(
    "MediaResolution",
    *("MEDIA_RESOLUTION_LOW", "MEDIA_RESOLUTION_MEDIUM", "MEDIA_RESOLUTION_HIGH", "MEDIA_RESOLUTION_ULTRA_HIGH"),
)
DATA_FIELDS = (
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
)
"""Of these a part has exactly one."""
_PART = Message(
    "Part",
    {
        "text": STRING,
        "thought": BOOL,
        "thoughtSignature": BYTES,
        "inlineData": BLOB,
        "fileData": _FILE,
        "functionCall": _FUNCTION_CALL,
        "functionResponse": _FUNCTION_RESPONSE,
        "executableCode": STRUCT,
        "codeExecutionResult": STRUCT,
        "videoMetadata": STRUCT,
        "partMetadata": STRUCT,
        "mediaResolution": Message("PartMediaResolution", {"level": _RESOLUTION, "numTokens": INT32}),
    },
)
_CONTENT = Message("Content", {"role": STRING, "parts": Repeated(_PART)})
_FUNCTION = Message(
    "FunctionDeclaration",
    {
        "name": STRING,
        "description": STRING,
        "parameters": STRUCT,
        "parametersJsonSchema": VALUE,
        "response": STRUCT,
        "responseJsonSchema": VALUE,
        "behavior": _enum("FunctionDeclaration.Behavior", "BLOCKING", "NON_BLOCKING"),
    },
)
_TOOL = Message(
    "Tool",
    {
        "functionDeclarations": Repeated(_FUNCTION),
        "googleSearch": STRUCT,
        "googleSearchRetrieval": STRUCT,
        "codeExecution": STRUCT,
        "urlContext": STRUCT,
        "computerUse": STRUCT,
        "fileSearch": STRUCT,
        "googleMaps": STRUCT,
    },
)
_FUNCTION_CALLING = Message(
    "FunctionCallingConfig",
    {
        "mode": _enum("FunctionCallingConfig.Mode", "AUTO", "ANY", "NONE", "VALIDATED"),
        "allowedFunctionNames": Repeated(STRING),
    },
)
_THINKING = Message(
    "ThinkingConfig",
    {
        "includeThoughts": BOOL,
        "thinkingBudget": INT32,
        "thinkingLevel": _enum("ThinkingConfig.ThinkingLevel", "MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"),
    },
)
_GENERATION = Message(
    "GenerationConfig",
    {
        "candidateCount": INT32,
        "stopSequences": Repeated(STRING),
        "maxOutputTokens": INT32,
        "temperature": FLOAT,
        "topP": FLOAT,
        "topK": INT32,
        "seed": INT32,
        "presencePenalty": FLOAT,
        "frequencyPenalty": FLOAT,
        "responseLogprobs": BOOL,
        "logprobs": INT32,
        "responseMimeType": STRING,
        "responseSchema": STRUCT,
        "responseJsonSchema": VALUE,
        "responseModalities": Repeated(_enum("GenerationConfig.Modality", "TEXT", "IMAGE", "AUDIO")),
        "speechConfig": STRUCT,
        "thinkingConfig": _THINKING,
        "imageConfig": STRUCT,
        "mediaResolution": _RESOLUTION,
        "enableEnhancedCivicAnswers": BOOL,
    },
)
REQUEST = Message(
    "GenerateContentRequest",
    {
        "model": STRING,
        "contents": Repeated(_CONTENT),
        "systemInstruction": _CONTENT,
        "tools": Repeated(_TOOL),
        "toolConfig": Message(
            "ToolConfig",
            {
                "functionCallingConfig": _FUNCTION_CALLING,
                "retrievalConfig": STRUCT,
                "includeServerSideToolInvocations": BOOL,
            },
        ),
        "safetySettings": Repeated(Message("SafetySetting", {"category": STRING, "threshold": STRING})),
        "generationConfig": _GENERATION,
        "cachedContent": STRING,
        "serviceTier": _enum("ServiceTier", "UNSPECIFIED", "STANDARD", "FLEX", "PRIORITY"),
        "store": BOOL,
        "continuationToken": BYTES,
    },
)


def parse(payload: Any) -> dict[str, Any]:
    """Reads a request; names come back in lowerCamel, without those that are null. Raises `Refusal`."""
    if not isinstance(payload, dict):
        raise unparsable([("", "Invalid JSON payload received. Expected a value.\n\n^")])
    if (key := _key_too_deep(payload)) is not None:
        text = f"Invalid JSON payload received. Message too deep. Max recursion depth reached for key '{key}'"
        raise unparsable([("", text)])
    reader = _Reader()
    request = reader.message(REQUEST, payload, "")
    if reader.violations:
        raise unparsable(reader.violations)
    return request


def _key_too_deep(payload: dict[str, Any]) -> str | None:
    """Finds a key below which there are more levels than Google's parser goes down; None when there is none."""
    level: list[tuple[str, Any]] = [("", payload)]
    for _ in range(_MOST_LEVELS):
        level = [
            (name or key, member)
            for key, value in level
            for name, member in (value.items() if isinstance(value, dict) else (("", member) for member in value))
            if isinstance(member, dict | list)
        ]
    return level[0][0] if level else None


class _Reader:
    """Reads all of a payload, so that everything wrong with it is told at once, as Google does."""

    def __init__(self) -> None:
        self.violations: list[tuple[str, str]] = []

    def message(self, kind: Message, value: Any, at: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._wrong(at, f"{_API}{kind.name}", value)
            return {}
        known = {**{_snake(name): name for name in kind.fields}, **{name: name for name in kind.fields}}
        read: dict[str, Any] = {}
        for given, member in value.items():
            name = known.get(given)
            if name is None:
                place = f" at '{at}'" if at else ""
                text = f'Invalid JSON payload received. Unknown name "{given}"{place}: Cannot find field.'
                self.violations.append((at, text))
            elif member is not None:
                read[name] = self._value(kind.fields[name], member, f"{at}.{_snake(name)}".lstrip("."))
        return read

    def _value(self, kind: Kind, value: Any, at: str) -> Any:
        match kind:
            case Repeated():
                listed = value if isinstance(value, list) else [value]  # Google takes one value for a list of one
                return [self._value(kind.of, member, f"{at}[{index}]") for index, member in enumerate(listed)]
            case Message():
                return self.message(kind, value, at)
            case Enum():
                if isinstance(value, str) and value.upper() in kind.values:
                    return value.upper()
                self._wrong(at, f"{_API}{kind.name}", value)
                return None
            case Scalar():
                if not _fits(kind, value):
                    self._wrong(at, kind.name, value)
                return value

    def _wrong(self, at: str, kind: str, value: Any) -> None:
        shown = f'"{value}"' if isinstance(value, str) else str(value)
        self.violations.append((at, f"Invalid value at '{at}' ({kind}), {shown}"))


def _fits(kind: Scalar, value: Any) -> bool:
    if kind is VALUE:
        return True
    if kind is STRUCT:
        return isinstance(value, dict)
    if kind is BOOL:
        return isinstance(value, bool)
    if kind is FLOAT:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is INT32:
        whole = isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
        return whole and -(2**31) <= value < 2**31
    if not isinstance(value, str):
        return False
    return kind is STRING or _is_base64(value)


def _is_base64(text: str) -> bool:
    plain = text.replace("-", "+").replace("_", "/")
    try:
        base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        return False
    return True


def _snake(name: str) -> str:
    return _UPPER.sub(r"_\1", name).lower()
