"""What people do with the platform, as administrators find it in the audit log."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

import httpx
import psycopg

from libs.database import libpq_url
from libs.redaction import Secret
from tests.e2e.conftest import PASSWORD, Platform
from tests.e2e.people import administrator, api_token, signed_in
from tests.support.waiting import eventually

CLAIMED = {"x-forwarded-for": "203.0.113.9", "x-envoy-external-address": "203.0.113.9", "user-agent": "a test/1.0"}


async def entries(http: httpx.AsyncClient, user_id: str, **query: Any) -> list[dict]:
    """Returns what an administrator finds of a person, the oldest first."""
    answer = await http.get("/api/admin/audit-logs", params={"userId": user_id, "pageSize": 500, **query})
    assert answer.status_code == 200, answer.text
    found: list[dict] = answer.json()["logs"]
    return found[::-1]


class TestAuditLog:
    async def test_a_life_with_the_platform(self, platform: Platform) -> None:
        async with administrator(platform) as admin, platform.person(with_key=False) as person:
            person.http.headers.update(CLAIMED)
            provider, key = "/api/provider-config/openai", {"apiKey": person.key}
            # Before it is stored: a change of the configuration makes the worker forget what it holds.
            assert (await person.http.post("/api/provider-config/test", json={"provider": "openai", **key})).is_success
            assert (await person.http.post(provider, json=key)).is_success
            assert (await person.chat()).is_success
            token = await api_token(person.http, "chat")
            assert (await person.http.get("/api/admin/users")).status_code == 403
            assert (await person.http.delete(provider)).is_success
            body = {"email": person.email, "password": "not the password at all"}
            assert (await person.http.post("/api/auth/signin", json=body)).status_code == 401
            again = await signed_in(platform, person)
            assert (await person.http.post("/api/auth/signout")).is_success

            expected = {
                ("auth", "auth.sign_up"): 1,
                ("auth", "auth.api_token_created"): 1,
                ("auth", "access.denied"): 1,
                ("auth", "auth.sign_in"): 1,
                ("auth", "auth.sign_out"): 1,
                ("key-vault", "provider_config.tested"): 1,
                ("key-vault", "provider_config.set"): 1,
                ("key-vault", "provider_key.revealed"): 1,
                ("key-vault", "provider_config.deleted"): 1,
            }

            async def found() -> list[dict]:
                return await entries(admin.http, person.user_id)

            def complete(logs: list[dict]) -> bool:
                return set(expected) <= {(log["service"], log["action"]) for log in logs}

            logs = await eventually(found, complete)

            assert Counter((log["service"], log["action"]) for log in logs) == expected
            for log in logs:
                assert log["requestId"]
                # A worker asks for a key without the person; everything else came through the front door.
                assert log["ipAddress"] == ("" if log["action"] == "provider_key.revealed" else "127.0.0.1"), log
            by_action = {log["action"]: log for log in logs}
            assert by_action["provider_key.revealed"]["details"] == {"to": "worker-openai", "key": "own"}
            assert by_action["auth.api_token_created"]["userAgent"] == CLAIMED["user-agent"]
            # Nobody was signed in, so it is nobody's.
            failed = await entries(admin.http, "", action="auth.sign_in_failed")
            assert f"user/{person.user_id}" in {each["resource"] for each in failed}

            with psycopg.connect(database_url(platform)) as connection:
                everything = str(connection.execute("SELECT audit_logs::text FROM audit_logs").fetchall())
            for secret in (PASSWORD, body["password"], person.token, again, token, person.key, person.email):
                assert secret not in everything

    async def test_is_verified_from_outside(self, platform: Platform) -> None:
        async with administrator(platform) as admin:
            answer = (await admin.http.get("/api/admin/audit-logs/verify")).json()
            assert answer["valid"]
            assert answer["checked"] == int(answer["headId"]) > 0
            noted = {"pageToken": f"{answer['headId']}:{answer['headHash']}"}
            assert (await admin.http.get("/api/admin/audit-logs/verify", params=noted)).json()["valid"]
            noted = {"pageToken": f"{answer['headId']}:{'0' * 64}"}
            other = (await admin.http.get("/api/admin/audit-logs/verify", params=noted)).json()
            assert (other["valid"], other["firstInvalidId"]) == (False, answer["headId"])

    async def test_pages_and_spans_of_time(self, platform: Platform) -> None:
        async with administrator(platform) as admin, platform.person(with_key=False) as person:
            for _ in range(3):
                await api_token(person.http, "chat")
            logs = await entries(admin.http, person.user_id)
            assert len(logs) == 4
            query = {"userId": person.user_id, "pageSize": "3"}
            first = (await admin.http.get("/api/admin/audit-logs", params=query)).json()
            query["pageToken"] = first["nextPageToken"]
            second = (await admin.http.get("/api/admin/audit-logs", params=query)).json()
            assert first["logs"] + second["logs"] == logs[::-1]
            assert second["nextPageToken"] == ""
            span = {"from": logs[1]["timestamp"], "to": logs[3]["timestamp"]}
            assert await entries(admin.http, person.user_id, **span) == logs[1:3]
            assert await entries(admin.http, f"usr_{uuid.uuid4().hex}") == []


def database_url(platform: Platform) -> str:
    return libpq_url(Secret(platform.stack.layout.database_url("auth").read_text()))
