"""What people have said: theirs alone, page by page, sealed at rest, and gone when it is erased."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import orjson
import psycopg
import pytest
from realmultillm.analytics.v1.chat_content_pb2 import ChatContent
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from realmultillm.chat.v1 import chat_service_pb2 as chat
from sqlalchemy import text, update

from libs.database import libpq_url
from libs.redaction import Secret
from services.analytics import history_repository
from services.analytics.history_rewrapping import HistoryRewrapping, Progress, version_of
from services.analytics.models import chat_contents
from tests.integration.analytics.deployment import NOW, Make
from tests.integration.analytics.past_chats import PastChats, new_person, running_history
from tests.support.postgres import PostgresServer
from tests.support.rpc import Identities, error_info, violations
from tests.support.vault import VaultServer

CANARY = "Die Katze tritt die Treppe krumm"
ALL = {"page_size": 500}


@pytest.fixture(scope="module")
def database_url(postgres: PostgresServer) -> Secret:
    return postgres.fresh_database("analytics")


@pytest.fixture(scope="module")
async def past(
    database_url: Secret, vault: VaultServer, identity: Identities, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[PastChats]:
    """The running services; the tests share them, each with people of its own."""
    async with running_history(database_url, vault, identity, tmp_path_factory.mktemp("audit")) as past:
        yield past


def said(question: str, answer: str = "") -> ChatContent:
    """A chat in the platform's own words."""
    content = ChatContent(messages=[chat.ChatMessage(role="user", content=question)])
    if answer:
        choice = content.completion.choices.add(index=0, finish_reason="stop")
        choice.message.role, choice.message.content = "assistant", answer
        content.completion.id = "chatcmpl-1"
    return content


async def kept(past: PastChats, record: Make, user_id: str, count: int, **fields: Any) -> list[str]:
    """Reports chats of a person, a minute apart, and returns their ids, those of the latest first."""
    records = [
        await past.seal(
            record(user_id=user_id, start_time=NOW - timedelta(minutes=1 + number), **fields), said(f"{number}?")
        )
        for number in range(count)
    ]
    await past.ingest(*records)
    return [each.id for each in records]


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


class TestRecords:
    async def test_tell_all_that_is_known_of_a_chat(self, past: PastChats, record: Make, user_id: str) -> None:
        sent = record(
            conversation_id="trip",
            request_id="request-7",
            cost_source=UsageRecord.PRICED,
            cost_picos=12_750_000_000,
            cache_write_tokens=3,
            estimated=True,
        )
        await past.ingest(await past.seal(sent, said(CANARY, "Krumm ist sie.")))
        person = await past.person(user_id)

        (listed,) = (await person.page()).records
        got = await person.get(sent.id)

        assert got == listed
        assert (got.id, got.conversation_id, got.provider, got.model) == (sent.id, "trip", "openai", "gpt-5.5")
        assert (got.status, got.cost_usd, got.request_id, got.missing) == ("completed", "0.01275", "request-7", "")
        assert got.create_time == sent.start_time
        assert [(each.role, each.content) for each in got.messages] == [("user", CANARY)]
        assert got.completion.choices[0].message.content == "Krumm ist sie."
        assert (got.completion.id, got.completion.object) == ("chatcmpl-1", "chat.completion")
        assert got.usage == chat.Usage(
            prompt_tokens=10,
            completion_tokens=20,
            total_tokens=30,
            prompt_tokens_details=chat.PromptTokensDetails(cached_tokens=4, cache_write_tokens=3),
            completion_tokens_details=chat.CompletionTokensDetails(reasoning_tokens=7),
            estimated=True,
        )

    async def test_of_a_failed_chat_have_no_answer_and_no_cost(
        self, past: PastChats, record: Make, user_id: str
    ) -> None:
        failed = record(end_state=UsageRecord.PROVIDER_ERROR_BEFORE_OUTPUT, error_reason="PROVIDER_UNAVAILABLE")
        await past.ingest(await past.seal(failed, said("Wer da?")))

        got = await (await past.person(user_id)).get(failed.id)

        assert (got.status, got.error_reason) == ("provider_error_before_output", "PROVIDER_UNAVAILABLE")
        assert not got.HasField("completion")
        assert not got.HasField("cost_usd")

    async def test_in_the_words_of_other_apis_are_told_in_ours(
        self, past: PastChats, record: Make, user_id: str
    ) -> None:
        openai = {
            "n": 2,
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Hear this"}, {"type": "input_audio"}]},
            ],
        }
        anthropic = {
            "system": "Be brief.",
            "tools": [{"type": "web_search_20260209", "name": "web_search"}],
            "messages": [
                {"role": "user", "content": "Which day?"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "day", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "Sunday"}]},
            ],
        }
        contents = [
            ChatContent(dialect="chat_completions", request=orjson.dumps(openai)),
            ChatContent(dialect="messages", request=orjson.dumps(anthropic)),
            ChatContent(dialect="chat_completions", request=b"{"),
            ChatContent(left_out=True),
        ]
        records = [record(start_time=NOW - timedelta(minutes=number + 1)) for number in range(len(contents))]
        await past.ingest(*[await past.seal(*pair) for pair in zip(records, contents, strict=True)])

        first, second, third, fourth = (await (await past.person(user_id)).page()).records

        assert [each.role for each in first.messages] == ["system", "user"]
        assert [part.text for part in first.messages[1].parts] == ["Hear this"]
        assert "not shown here" in first.missing
        assert [each.role for each in second.messages] == ["system", "user", "assistant", "tool"]
        assert (second.messages[2].tool_calls[0].name, second.messages[3].content) == ("day", "Sunday")
        assert second.missing == ""
        assert (len(third.messages), third.missing) == (
            0,
            "The conversation was sent in a form that cannot be shown here.",
        )
        assert (len(fourth.messages), fourth.missing) == (0, "The chat was too large to keep.")


class TestOwners:
    async def test_nobody_reaches_another_persons_chats(self, past: PastChats, record: Make, user_id: str) -> None:
        other_id = new_person()
        (mine,) = await kept(past, record, user_id, 1)
        (theirs, *_) = await kept(past, record, other_id, 3, conversation_id="theirs")
        person, other = await past.person(user_id), await past.person(other_id)
        their_page = await other.page(page_size=1)

        for call in (person.get(theirs), person.erase(theirs)):
            error = await refusal(call)
            assert (error.code(), error_info(error).reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
        assert await person.ids(conversation_id="theirs") == []
        error = await refusal(person.page(page_size=1, page_token=their_page.next_page_token))
        assert violations(error) == ["pageToken"]
        assert await person.erase_all() == 1
        assert await person.ids() == []
        assert mine not in await other.ids()
        assert theirs in await other.ids()

    async def test_a_row_moved_to_another_person_or_record_does_not_open(
        self, past: PastChats, record: Make, user_id: str
    ) -> None:
        thief_id = new_person()
        first, second = await kept(past, record, user_id, 2)
        (stolen,) = await kept(past, record, thief_id, 1)
        at = chat_contents.c
        async with past.transactions() as session:
            row = (await session.execute(chat_contents.select().where(at.id == first))).one()
            moved = {"sealed": row.sealed, "wrapped_key": row.wrapped_key}
            await session.execute(update(chat_contents).where(at.id.in_([stolen, second])).values(moved))

        thief, owner = await past.person(thief_id), await past.person(user_id)
        for got in (await thief.get(stolen), await owner.get(second)):
            assert "do not open" in got.missing
            assert not got.messages
        assert [bool(each.messages) for each in (await owner.page()).records] == [True, False]

    async def test_a_token_without_the_scope_reads_nothing_and_one_that_reads_erases_nothing(
        self, past: PastChats, record: Make, user_id: str
    ) -> None:
        (record_id,) = await kept(past, record, user_id, 1)
        chatting = await past.person(user_id, scopes={"chat"})
        reading = await past.person(user_id, scopes={"analytics:read"})

        for call in (chatting.page(), chatting.get(record_id), reading.erase(record_id), reading.erase_all()):
            assert (await refusal(call)).code() is grpc.StatusCode.PERMISSION_DENIED
        assert (await reading.get(record_id)).messages
        assert await chatting.erase(record_id)


class TestPages:
    async def test_are_the_latest_first_each_once_whatever_comes_in_between(
        self, past: PastChats, record: Make, user_id: str
    ) -> None:
        expected = await kept(past, record, user_id, 7)
        # As old as one that is there: the ids decide.
        twins = [
            await past.seal(record(id=identity, start_time=NOW - timedelta(minutes=3)), said("?"))
            for identity in (str(uuid4()), str(uuid4()))
        ]
        await past.ingest(*twins)
        expected[2:3] = sorted([expected[2], *(twin.id for twin in twins)], reverse=True)
        person = await past.person(user_id)

        found, token = [], ""
        while True:
            page = await person.page(page_size=2, page_token=token)
            found += [each.id for each in page.records]
            token = page.next_page_token
            if not token:
                break
            assert len(page.records) == 2
            await past.ingest(await past.seal(record(start_time=NOW - timedelta(seconds=1)), said("new")))

        assert found == expected

    async def test_end_earlier_when_much_was_said(self, past: PastChats, record: Make, user_id: str) -> None:
        for number in range(4):
            long = await past.seal(record(start_time=NOW - timedelta(minutes=number)), said("x" * 900_000))
            await past.ingest(long)
        person = await past.person(user_id)

        first = await person.page()
        second = await person.page(page_token=first.next_page_token)

        assert [len(first.records), len(second.records)] == [2, 2]
        assert second.next_page_token == ""

    async def test_hold_what_agrees_with_all_filters(self, past: PastChats, record: Make, user_id: str) -> None:
        wanted = {"conversation_id": "c", "model_requested": "gpt-5.5", "start_time": NOW - timedelta(hours=2)}
        chats = {
            "right": wanted,
            "conversation": wanted | {"conversation_id": "d"},
            "model": wanted | {"model_requested": "gpt-5"},
            "early": wanted | {"start_time": NOW - timedelta(hours=2, microseconds=1)},
            "late": wanted | {"start_time": NOW - timedelta(hours=1)},
        }
        ids = {}
        for name, fields in chats.items():
            sealed = await past.seal(record(**fields), said(name))
            await past.ingest(sealed)
            ids[name] = sealed.id
        person = await past.person(user_id)
        span = {"from": NOW - timedelta(hours=2), "to": NOW - timedelta(hours=1)}

        assert await person.ids(model="gpt-5.5", conversation_id="c", provider="openai", **span) == [ids["right"]]
        assert set(await person.ids(**span)) == {ids[name] for name in ("right", "conversation", "model")}
        assert await person.ids(model="gpt-5") == [ids["model"]]
        assert await person.ids(provider="grok") == []
        assert await person.ids(conversation_id="c\0") == []

    async def test_what_cannot_be_asked_is_told_at_once(self, past: PastChats, user_id: str) -> None:
        person = await past.person(user_id)

        error = await refusal(person.page(page_size=-1, page_token="?", **{"from": NOW, "to": NOW}))

        assert set(violations(error)) == {"pageSize", "pageToken", "from"}
        assert (await refusal(person.get("17"))).code() is grpc.StatusCode.NOT_FOUND


class TestErasure:
    async def test_one_is_gone_and_does_not_come_back_with_its_record(
        self, past: PastChats, record: Make, user_id: str
    ) -> None:
        sent = await past.seal(record(), said("?"))
        await past.ingest(sent)
        person = await past.person(user_id)

        assert await person.erase(sent.id)

        await past.ingest(sent)
        assert await person.ids() == []
        for call in (person.get(sent.id), person.erase(sent.id)):
            assert (await refusal(call)).code() is grpc.StatusCode.NOT_FOUND

    async def test_all_up_to_now_are_gone_also_those_on_their_way(
        self, past: PastChats, record: Make, user_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.analytics.history._ERASED_AT_ONCE", 2)
        await kept(past, record, user_id, 5)
        on_its_way = await past.seal(record(start_time=NOW - timedelta(seconds=1)), said("late"))
        after = await past.seal(record(start_time=NOW), said("after"))
        person = await past.person(user_id)

        assert await person.erase_all() == 5
        await past.ingest(on_its_way, after)

        assert await person.ids() == [after.id]
        assert await person.erase_all() == 0  # nothing new: it is still the same moment
        count = sum(event.user_id == user_id for event in past.log.events)
        events = [
            event for event in await past.log.holding(len(past.log.events) + 2 - count) if event.user_id == user_id
        ]
        assert {(event.action, event.resource) for event in events} == {
            ("chat_history.erased", f"chat-history/{user_id}")
        }

    async def test_one_that_was_broken_off_shows_nothing_and_is_ended_later(
        self, past: PastChats, record: Make, user_id: str
    ) -> None:
        (record_id, *_) = await kept(past, record, user_id, 3)
        async with past.transactions() as session:
            await history_repository.note_erasure(session, user_id, NOW)
        person = await past.person(user_id)

        assert await person.ids() == []
        assert (await refusal(person.get(record_id))).code() is grpc.StatusCode.NOT_FOUND
        await past.history.finish_erasures()

        async with past.transactions() as session:
            left = text("SELECT count(*) FROM chat_contents WHERE user_id = :user_id")
            assert await session.scalar(left, {"user_id": user_id}) == 0

    async def test_is_forgotten_once_it_holds_for_nothing(self, past: PastChats, user_id: str) -> None:
        other_id = new_person()
        oldest = NOW.replace(hour=0) - timedelta(days=90)
        async with past.transactions() as session:
            await history_repository.note_erasure(session, user_id, oldest)
            await history_repository.note_erasure(session, other_id, oldest + timedelta(microseconds=1))

        await past.history.finish_erasures()

        async with past.transactions() as session:
            assert await history_repository.erased_before(session, user_id) is None
            assert await history_repository.erased_before(session, other_id) is not None


class TestKeys:
    async def test_what_was_said_is_nowhere_in_the_database(
        self, past: PastChats, record: Make, user_id: str, database_url: Secret
    ) -> None:
        sent = await past.seal(record(), said(CANARY, CANARY))
        await past.ingest(sent)

        async with await psycopg.AsyncConnection.connect(libpq_url(database_url)) as connection:
            rows = await (
                await connection.execute("SELECT * FROM chat_contents WHERE user_id = %s", (user_id,))
            ).fetchall()
            facts = await (
                await connection.execute("SELECT * FROM usage_records WHERE user_id = %s", (user_id,))
            ).fetchall()

        (key, _) = await past.data_key(user_id)
        assert (len(rows), len(facts)) == (1, 1)
        for value in (*rows[0], *facts[0]):
            stored = value if isinstance(value, bytes) else str(value).encode()
            assert CANARY.encode() not in stored
            assert key not in stored
        assert (await (await past.person(user_id)).get(sent.id)).messages[0].content == CANARY

    async def test_are_opened_once_for_all_pages_of_a_minute(self, past: PastChats, record: Make, user_id: str) -> None:
        await kept(past, record, user_id, 4)
        person = await past.person(user_id)
        before = past.keys.misses

        page = await person.page(page_size=2)
        await person.page(page_size=2, page_token=page.next_page_token)

        assert past.keys.misses - before == 1

    async def test_that_cannot_be_one_do_not_keep_others_from_opening(
        self, past: PastChats, record: Make, user_id: str
    ) -> None:
        good = await past.seal(record(), said("?"))
        bad = record()
        bad.content.sealed, bad.content.wrapped_key = good.content.sealed, "no key at all"
        await past.ingest(good, bad)

        found = {each.id: bool(each.messages) for each in (await (await past.person(user_id)).page()).records}

        assert found == {good.id: True, bad.id: False}

    async def test_while_vault_is_away_what_is_not_at_hand_is_asked_for_later(
        self, past: PastChats, record: Make, user_id: str, vault: VaultServer
    ) -> None:
        other_id = new_person()
        (mine,) = await kept(past, record, user_id, 1)
        await kept(past, record, other_id, 1)
        person, other = await past.person(user_id), await past.person(other_id)
        await person.get(mine)
        vault.seal()
        try:
            assert (await person.get(mine)).messages  # its key was opened just now
            error = await refusal(other.page())
            assert await other.erase_all() == 1
        finally:
            vault.unseal()

        assert (error.code(), error_info(error).reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
        assert "cannot be opened at this moment" in (error.details() or "")


class TestRewrapping:
    async def test_all_are_of_the_latest_version_and_open_when_earlier_ones_are_refused(
        self, postgres: PostgresServer, vault: VaultServer, identity: Identities, record: Make, tmp_path: Path
    ) -> None:
        url = postgres.fresh_database("analytics")
        async with running_history(url, vault, identity, tmp_path) as past:
            people = [new_person() for _ in range(3)]
            expected = {each: await kept(past, record, each, 4) for each in people}
            old = await past.seal(record(user_id=people[0], start_time=NOW - timedelta(days=3)), said("old"))
            foreign = record(user_id=people[1])
            foreign.content.sealed, foreign.content.wrapped_key = b"?", "vault:v1:AAAA"
            await past.ingest(old, foreign)
            vault.rotate("chat-history")
            _, newest = await past.data_key(people[2], new=True)
            target = version_of(newest)

            async with past.rewrap() as rewrap:
                first = await _last(HistoryRewrapping(past.transactions, rewrap))
                second = await _last(HistoryRewrapping(past.transactions, rewrap))

            assert (first.target, first.total, first.rewrapped, first.failed) == (target, 14, 13, 1)
            assert (second.total, second.rewrapped, second.failed) == (1, 0, 1)
            place = {"mount_point": vault.place.transit}
            keys = vault.operator.secrets.transit
            keys.update_key_configuration("chat-history", min_decryption_version=target, **place)
            try:
                for each in people:
                    records = (await (await past.person(each)).page()).records
                    opened = {found.id for found in records if found.messages}
                    assert opened >= set(expected[each])
                assert len(opened) == 4
            finally:
                keys.update_key_configuration("chat-history", min_decryption_version=1, **place)

    async def test_without_any_content_there_is_nothing_to_do(
        self, postgres: PostgresServer, past: PastChats, vault: VaultServer, identity: Identities, tmp_path: Path
    ) -> None:
        url = postgres.fresh_database("analytics")
        async with running_history(url, vault, identity, tmp_path) as empty, empty.rewrap() as rewrap:
            progress = await _last(HistoryRewrapping(empty.transactions, rewrap))

        assert (progress.target, progress.total) == (0, 0)


async def _last(rewrapping: HistoryRewrapping) -> Progress:
    return [progress async for progress in rewrapping.run()][-1]
