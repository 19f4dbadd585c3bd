"""A key shows up nowhere but where it is used: not in logs, errors, the database, nor in Vault's own log."""

from __future__ import annotations

import contextlib

import grpc
import psycopg
import pytest

from libs.redaction import Secret
from tests.integration.key_vault.deployment import BREAKING_KEY, REFUSED_KEY, UNREACHABLE_KEY, Replica
from tests.support.postgres import PostgresServer
from tests.support.vault import VaultServer

CANARY = "canary-that-no-pattern-knows-4711"
MALFORMED = "canary with spaces"


class TestCanary:
    async def test_a_key_is_found_nowhere(
        self,
        replica: Replica,
        postgres: PostgresServer,
        database_url: Secret,
        vault: VaultServer,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        alice, worker = await replica.person("usr_alice"), await replica.worker()
        answers = []
        for key in (CANARY, UNREACHABLE_KEY, BREAKING_KEY, REFUSED_KEY, MALFORMED):
            for made in (alice.store(key), alice.test(api_key=key), alice.test()):
                try:
                    answers.append(str(await made))
                except grpc.aio.AioRpcError as error:
                    answers.append(repr(error))
        await alice.store(CANARY)
        assert (await worker.credential("usr_alice")).api_key == CANARY
        answers += [str(await alice.get()), str(await alice.list())]
        vault.seal()
        try:
            for call in (alice.store(CANARY), alice.test(api_key=CANARY), alice.test(), worker.credential("usr_alice")):
                with contextlib.suppress(grpc.aio.AioRpcError):
                    answers.append(repr(await call))
        finally:
            vault.unseal()

        events = str(await replica.log.holding(1))
        rows = await _dump(postgres.superuser_url(database_url))
        captured = capfd.readouterr()
        assert "usr_alice" in rows, "the dump sees the row"
        assert "call" in captured.out, "the capture sees the log"
        for text in (*answers, events, rows, captured.out, captured.err, vault.log()):
            for key in (CANARY, UNREACHABLE_KEY, BREAKING_KEY, REFUSED_KEY, MALFORMED):
                assert key not in text


async def _dump(superuser_url: str) -> str:
    """Returns every row of every table of the service, as text."""
    async with await psycopg.AsyncConnection.connect(superuser_url) as connection:
        tables = await (
            await connection.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname = 'key_vault'")
        ).fetchall()
        rows = []
        for table in tables:
            query = psycopg.sql.SQL("SELECT t::text FROM {} t").format(psycopg.sql.Identifier(*table))
            rows += await (await connection.execute(query)).fetchall()
        return "\n".join(text for (text,) in rows)
