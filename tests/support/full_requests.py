"""Requests that together say everything a chat request can say, to hold against a provider's own types."""

from typing import Any

from realmultillm.chat.v1 import chat_service_pb2 as chat

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "Tells it.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}

CONVERSATION: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "parts": [
                {"text": "What is this?"},
                {"imageUrl": {"url": "data:image/png;base64,AAAA", "detail": "high"}},
                {"imageUrl": {"url": "https://pictures.example/1.png"}},
            ],
        },
        {
            "role": "assistant",
            "toolCalls": [
                {"id": "call_1", "name": "weather", "arguments": '{"city":"Rome"}'},
                {"id": "call_2", "name": "clock", "arguments": "{}"},
            ],
        },
        {"role": "tool", "toolCallId": "call_1", "content": "Rain."},
        {"role": "tool", "toolCallId": "call_2", "content": "Noon."},
        {"role": "assistant", "content": "It rains."},
        {"role": "user", "content": "And the answer in JSON?"},
    ],
    "options": {"tools": [WEATHER, {"name": "clock"}]},
}

# Each option alone; the values are such that every model takes or drops them.
OPTIONS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.5},
    {"maxTokens": 50},
    {"topP": 0.5},
    {"stop": ["END"]},
    {"seed": 7},
    {"presencePenalty": 0.5},
    {"frequencyPenalty": 0.5},
    {"stream": False},
    {"tools": [WEATHER]},
    {"tools": [WEATHER], "toolChoice": "required"},
    {"tools": [WEATHER], "toolChoice": "weather"},
    {"tools": [WEATHER], "parallelToolCalls": False},
    {"responseFormat": {"type": "json_object"}},
    {"responseFormat": {"type": "json_schema", "jsonSchema": WEATHER["parameters"], "strict": True}},
    {"reasoningEffort": "low"},
)


def uncovered() -> set[str]:
    """Returns the options that OPTIONS leaves out."""
    known = {field.json_name for field in chat.ChatOptions.DESCRIPTOR.fields}
    return known - {name for options in OPTIONS for name in options}
