"""Requests that are good but for one text, made from the protos: every text field of every method, however deep."""

from __future__ import annotations

import base64
import importlib
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from tests.architecture import descriptors
from tests.e2e.conftest import PASSWORD, Person

TEXTS = {
    "quote": "' OR 1=1 --",
    "nul": "\0",
    "wildcard": "%",
    "line end": "a\r\nset-cookie: rml_session=evil",
    "huge": "x" * 100_000,
}

# The provider that is configured for everybody; no test of this folder chats with it.
CONFIGURED = "openrouter"

METHODS = {descriptors.full_name(method): method for method in descriptors.methods()}
# Way to a field: field after field, each of the message before.
Path = tuple[FieldDescriptor, ...]
# Messages that hold others of their kind are followed this deep.
_DEEPEST = 5


def text_fields(message: Descriptor, way: Path = ()) -> Iterator[Path]:
    """Yields the way to every text in a message, those in lists, maps and messages inside it included."""
    for field in message.fields:
        if field.message_type is not None:
            again = [each.message_type for each in way].count(field.message_type)
            if len(way) < _DEEPEST and not again and not field.message_type.full_name.startswith("google."):
                yield from text_fields(field.message_type, (*way, field))
        elif field.type == FieldDescriptor.TYPE_STRING:
            yield (*way, field)


def written(way: Path) -> str:
    return ".".join(field.name for field in way)


def with_text(good: Message, way: Path, text: str) -> Message:
    """Returns a copy with a text put in the place of what is there; into the first of a list, or as the only one."""
    request = type(good)()
    request.CopyFrom(good)
    _put(request, way, text)
    return request


def _put(message: Any, way: Path, text: str) -> None:
    field, *rest = way
    if _is_map(field):
        entries = getattr(message, field.name)
        entries[text if rest[0].name == "key" else "key"] = text if rest[0].name == "value" else "value"
    elif not rest and field.is_repeated:
        del getattr(message, field.name)[:]
        getattr(message, field.name).append(text)
    elif not rest:
        setattr(message, field.name, text)
    elif field.is_repeated:
        inner = getattr(message, field.name)
        _put(inner[0] if len(inner) else inner.add(), tuple(rest), text)
    else:
        _put(getattr(message, field.name), tuple(rest), text)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def good_request(method: str, person: Person, *, peer: str) -> Message:
    """Makes a request of a method that is taken. `peer` is the service that sends it."""
    message = METHODS[method].input_type
    service, _, name = method.rpartition(".")[2].partition("/")
    make = GOOD.get(f"{service}/{name}") or GOOD[name]
    generated = importlib.import_module(message.file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
    request: Message = getattr(generated, message.name)()
    return ParseDict(make(person, peer.removeprefix("worker-")), request)


def _chat(_person: Person, _provider: str) -> dict[str, Any]:
    return {"provider": "openai", "messages": [{"role": "user", "content": "Hello"}]}


def _in_other_words(**body: Any) -> Callable[[Person, str], dict[str, Any]]:
    data = base64.b64encode(json.dumps({"model": "openai/gpt-4o", **body}).encode()).decode()
    return lambda _person, _provider: {
        "provider": "openai",
        "model": "gpt-4o",
        "body": {"contentType": "application/json", "data": data},
    }


def _comparison(_person: Person, _provider: str) -> dict[str, Any]:
    targets = [{"provider": "openai", "model": model} for model in ("gpt-4o", "gpt-4o-mini")]
    return {"messages": [{"role": "user", "content": "Hello"}], "targets": targets}


def _page(_person: Person, _provider: str) -> dict[str, Any]:
    return {"pageSize": 3}


def _id(_person: Person, _provider: str) -> dict[str, Any]:
    return {"id": "ses_00000000000000000000000000000000"}


# What has to be in a request of a method by its name, for a person and the provider of a worker that sends it.
GOOD: dict[str, Callable[[Person, str], dict[str, Any]]] = {
    "SignUp": lambda _person, _: {"email": f"{uuid.uuid4().hex}@example.com", "password": PASSWORD, "name": "N"},
    "SignIn": lambda person, _: {"email": person.email, "password": PASSWORD},
    "ChangePassword": lambda _person, _: {"currentPassword": PASSWORD, "newPassword": "quite another pass phrase"},
    "ListSessions": _page,
    "DeleteSession": _id,
    "CreateApiToken": lambda _person, _: {"name": "N", "scopes": ["chat"]},
    "ListApiTokens": _page,
    "DeleteApiToken": _id,
    "ListUsers": _page,
    "GetUser": lambda person, _: {"id": person.user_id},
    "UpdateUser": lambda person, _: {"id": person.user_id, "role": "user"},
    "ListAuditLogs": _page,
    "VerifyAuditLogs": lambda _person, _: {},
    "IngestAuditEvents": lambda person, _: {
        "events": [
            {
                "id": str(uuid.uuid4()),
                "userId": person.user_id,
                "action": "access.denied",
                "timestamp": "2026-01-01T00:00:00Z",
            }
        ]
    },
    "GetProviderConfig": lambda _person, _: {"provider": "openai"},
    "ListProviderConfigs": _page,
    "ListProviderStates": _page,
    "SetProviderConfig": lambda person, _: {"provider": "openai", "apiKey": person.key},
    "UpdateProviderConfig": lambda person, _: {"provider": "openai", "apiKey": person.key},
    "DeleteProviderConfig": lambda _person, _: {"provider": "openai"},
    "TestProviderConfig": lambda person, _: {"provider": "openai", "apiKey": person.key},
    "GetCredential": lambda person, provider: {"userId": person.user_id, "provider": provider},
    "WatchCredentials": lambda _person, provider: {"provider": provider},
    "ListPlatformConfigs": _page,
    "SetPlatformConfig": lambda _person, _: {"provider": CONFIGURED, "defaultModel": "m"},
    "ListEncryptionKeys": _page,
    "RotateEncryptionKey": lambda _person, _: {"purpose": "chat-history"},
    "GenerateDataKey": lambda person, _: {"userId": person.user_id},
    "UnwrapDataKeys": lambda _person, _: {"wrappedKeys": ["vault:v1:AAAA"]},
    "RewrapDataKeys": lambda person, _: {"keys": [{"userId": person.user_id, "wrappedKey": "vault:v1:AAAA"}]},
    "IngestUsage": lambda person, provider: {
        "records": [
            {
                "id": str(uuid.uuid4()),
                "userId": person.user_id,
                "provider": provider,
                "modelRequested": "m",
                "endState": "COMPLETED",
                "attempts": 1,
                "startTime": "2026-01-01T00:00:00Z",
            }
        ]
    },
    **dict.fromkeys(("GetUsage", "GetCosts", "GetPerformance", "GetPlatformAnalytics"), lambda _person, _: {}),
    **dict.fromkeys(("ExportAnalytics", "ExportPlatformAnalytics"), lambda _person, _: {"report": "usage"}),
    "ListChatRecords": _page,
    **dict.fromkeys(("GetChatRecord", "DeleteChatRecord"), lambda _person, _: {"id": str(uuid.uuid4())}),
    "CreateChatCompletion": _chat,
    "StreamChatCompletion": _chat,
    "CompareChatCompletions": _comparison,
    "StreamChatComparison": _comparison,
    "ChatCompletionService/CreateChatCompletion": _in_other_words(messages=[{"role": "user", "content": "Hello"}]),
    "CreateEmbedding": _in_other_words(input="Hello"),
    "CreateMessage": _in_other_words(messages=[{"role": "user", "content": "Hello"}], max_tokens=100),
    "CountMessageTokens": _in_other_words(messages=[{"role": "user", "content": "Hello"}]),
    "GetModels": lambda _person, _: {"provider": "openai"},
    "GetModel": lambda _person, _: {"model": "openai/gpt-4o"},
    "CompareModels": lambda _person, _: {"models": ["openai/gpt-4o", "openai/gpt-4o-mini"]},
    "ListProviders": _page,
    "ListModels": _page,
    "ModelService/ListModels": lambda _person, _: {"provider": "openai", "pageSize": 3},
    "TestKey": lambda person, _: {"apiKey": person.key},
}
