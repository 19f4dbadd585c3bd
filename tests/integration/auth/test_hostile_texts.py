"""Whatever is written into the text fields of the methods for people: it is refused or taken, and nothing breaks."""

from __future__ import annotations

from uuid import uuid4

import grpc
import psycopg
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from realmultillm.auth.v1 import api_token_service_pb2, auth_service_pb2

from libs.redaction import Secret
from tests.integration.auth.replica import HANGING, PASSWORD, Auth
from tests.support.rpc import bearer

TEXTS = {
    "quote": "' OR '1'='1",
    "statement": "'; DROP TABLE sessions; --",
    "union": "x' UNION SELECT token_sha256 FROM sessions --",
    "dollar": "$$; SELECT pg_sleep(60); $$",
    "placeholder": "%s %(subject)s :user_id {0}",
    "wildcard": "%_%",
    "escape": "\\'; SELECT 1; --",
    "nul": "ses_\0",
    "nul in an id": "tok_0123456789abcdef0123456789abcd\0f",
    "noncharacter": "\uffff\U0010ffff",
    "direction": "\u202egnirts",
    "line ends": "a\r\nset-cookie: rml_session=evil\u2028",
    "huge": "x" * 1_000_000,
    "huge and composed": "ﷺ" * 100_000,
}

_SERVICES = (
    auth_service_pb2.DESCRIPTOR.services_by_name["AuthService"],
    api_token_service_pb2.DESCRIPTOR.services_by_name["ApiTokenService"],
)
# What a caller can be told of such a text.
_ANSWERS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


FIELDS = [
    (GetMessageClass(method.input_type), field.name)
    for service in _SERVICES
    for method in service.methods
    for field in method.input_type.fields
    if field.type == FieldDescriptor.TYPE_STRING
]


def filled(kind: type[Message], field: str, text: str) -> Message:
    """Makes a request that is good but for one field."""
    request = kind()
    for name, good in {
        "email": f"{uuid4().hex}@example.com",
        "password": PASSWORD,
        "current_password": PASSWORD,
        "new_password": "nine green kettles",
        "name": "Nobody",
        field: text,
    }.items():
        if name in kind.DESCRIPTOR.fields_by_name:
            if isinstance(getattr(request, name), str):
                setattr(request, name, good)
            else:
                getattr(request, name).append(good)
    return request


class TestTexts:
    @pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
    @pytest.mark.parametrize(("kind", "field"), FIELDS, ids=lambda part: getattr(part, "__name__", part))
    async def test_is_refused_or_taken(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection, kind: type[Message], field: str, text: str
    ) -> None:
        opened = await auth.sign_up(email)
        call = await auth.call(filled(kind, field, text), opened.token)
        assert await call.code() in _ANSWERS, await call.details()
        cursor = await database.execute("SELECT count(*) FROM sessions WHERE user_id = %s", [opened.user.id])
        assert await cursor.fetchone() == (1,)
        await auth.session(opened.token)

    @pytest.mark.parametrize("method", ["AuthService/DeleteSession", "ApiTokenService/DeleteApiToken"])
    async def test_what_is_no_text_is_refused(self, auth: Auth, email: str, method: str) -> None:
        opened = await auth.sign_up(email)
        surrogate = b"\xed\xa0\x80"
        call = (await auth.channel("envoy")).unary_unary(f"/realmultillm.auth.v1.{method}")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"\x0a\x03" + surrogate, metadata=bearer(Secret(opened.token)), timeout=HANGING)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
