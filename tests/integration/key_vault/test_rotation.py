"""Encryption keys are rotated while everything stays in use, and nothing that was stored is lost."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import hvac.exceptions
import psycopg
import pytest
from realmultillm.keyvault.v1 import encryption_key_service_pb2 as encryption_keys
from sqlalchemy import text

from libs.audit import AuditEvent
from libs.database import ROOT, Transactions, connect, libpq_url
from libs.errors import FailedPrecondition, Unavailable
from libs.provider_keys import ProviderKey
from libs.redaction import Secret
from services.key_vault import rotation_repository as repository
from services.key_vault.key_floor import check_floor
from services.key_vault.models import KeyRotationRow, RotationState
from services.key_vault.rewrapping import Rewrapping
from services.key_vault.rotations import Rotations
from services.key_vault.transit import Purpose, Transit
from tests.integration.key_vault.deployment import KeyAdmin, Replica, Worker, key_vault
from tests.support.rpc import Identities, error_info
from tests.support.stored_keys import context_of, insert_rows, key_of, store_sealed
from tests.support.vault import VaultServer
from tests.support.waiting import eventually, within_bound

State = encryption_keys.KeyRotation.State
PURPOSE = Purpose.PROVIDER_KEYS


def store_for(vault: VaultServer, database_url: Secret, user_ids: Sequence[str]) -> list[str]:
    """Stores a key for each account, sealed by this Vault, and returns the ciphertexts."""
    return store_sealed(vault.operator, vault.place.transit, database_url, user_ids)


def execute(database_url: Secret, statement: str) -> list[tuple[Any, ...]]:
    """Runs a statement as the service, and returns what it returns."""
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description is not None else []


async def ended(admin: KeyAdmin, purpose: str = PURPOSE) -> encryption_keys.EncryptionKey:
    """Waits until the rotation of a key has ended, and returns how the key stands."""
    return await eventually(lambda: admin.key(purpose), lambda key: key.rotation.state != State.RUNNING)


@dataclass
class Trail:
    """An audit trail that keeps what it is told."""

    events: list[AuditEvent] = field(default_factory=list)

    def check_writable(self) -> None:
        """Everything can be written down."""

    def record(self, event: AuditEvent) -> None:
        self.events.append(event)


class ObservedTransit:
    """Transit that counts the keys it is asked to seal anew; with `held` it answers when `goes_on` is set."""

    def __init__(self, transit: Transit, *, held: bool = False) -> None:
        self._transit = transit
        self.asked = 0
        self.holds = asyncio.Event()
        self.goes_on = asyncio.Event()
        if not held:
            self.goes_on.set()

    async def rewrap_keys(self, rows: Collection[Any]) -> list[str | None]:
        self.asked += len(rows)
        answers: list[str | None] = await self._transit.rewrap_keys(list(rows))
        self.holds.set()
        await self.goes_on.wait()
        return answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transit, name)


@pytest.fixture
async def transactions(database_url: Secret) -> AsyncIterator[Transactions]:
    """The database of the key vault."""
    async with connect(database_url) as transactions:
        yield transactions


@asynccontextmanager
async def rewrapping(
    transactions: Transactions, transit: Any, trail: Any, *, rows_per_second: int = 0
) -> AsyncIterator[Rewrapping]:
    """What a replica does beside its service."""
    work = Rewrapping(transactions, transit, trail, rows_per_second=rows_per_second, settle_seconds=0)
    async with work.going_on():
        yield work


def rotations_of(transactions: Transactions, transit: Any, trail: Any) -> Rotations:
    """What begins rotations, and carries out none."""
    return Rotations(transactions, transit, trail, begun=lambda: None)


async def begin(rotations: Rotations, purpose: Purpose = PURPOSE, *, rewrap_only: bool = False) -> KeyRotationRow:
    """Begins a rotation outside of any call."""
    return await rotations.begin(
        purpose,
        rewrap_only=rewrap_only,
        started_by="",
        describe=lambda action, *, resource, **details: AuditEvent(action, resource, details=details),
    )


class TestTenThousandKeys:
    async def test_are_sealed_anew_while_they_are_read_and_written(
        self, replica: Replica, database_url: Secret, vault: VaultServer
    ):
        people = [f"usr_{number:05}" for number in range(10_000)]
        old = await asyncio.to_thread(store_for, vault, database_url, people)
        admin, worker, ends = await replica.key_admin(), await replica.worker(), asyncio.Event()

        async def read(step: int) -> int:
            for count in itertools.count():
                somebody = people[count * step % len(people)]
                assert (await worker.credential(somebody)).api_key == key_of(somebody)
                if ends.is_set():
                    return count
            raise AssertionError

        async def write() -> int:
            for count in itertools.count():
                person = await replica.person(f"usr_writer_{count}")
                await person.store("sk-sandbox-written-meanwhile")
                if count % 2:
                    await person.delete()
                if ends.is_set():
                    return count
            raise AssertionError

        async with asyncio.TaskGroup() as tasks:
            others = [tasks.create_task(work) for work in (read(7), read(13), write())]
            begun = await admin.rotate()
            key = await ended(admin)
            ends.set()

        assert key.rotation.id == begun.id
        assert (key.rotation.state, key.rotation.message) == (State.COMPLETED, "")
        assert key.rotation.failed_count == key.outdated_count == 0
        # Those of writers who stored between the new version and the floor are among the outdated, or not.
        assert len(people) <= key.rotation.rewrapped_count == key.rotation.total_count
        assert key.min_decryption_version == key.latest_version == begun.target_version
        assert all(other.result() > 0 for other in others)
        versions = execute(database_url, "SELECT DISTINCT key_version FROM provider_configs")
        assert versions == [(begun.target_version,)]
        context = context_of(people[0])
        with pytest.raises(hvac.exceptions.InvalidRequest, match="too old"):
            vault.operator.secrets.transit.decrypt_data(
                PURPOSE, old[0], context=context, mount_point=vault.place.transit
            )
        assert (await worker.credential(people[0])).api_key == key_of(people[0])
        started, finished = await eventually(_rotation_events(replica), lambda events: len(events) == 2)
        assert (started.action, started.user_id) == ("encryption_key.rotation_started", "usr_admin")
        assert started.details["toVersion"] == finished.details["toVersion"] == str(begun.target_version)
        assert (finished.action, finished.user_id) == ("encryption_key.rotation_ended", "")
        assert finished.resource == "encryption-key/provider-keys"
        assert finished.details["state"] == "COMPLETED"


class TestInterruption:
    async def test_another_replica_goes_on_after_a_kill(
        self,
        database_url: Secret,
        vault: VaultServer,
        identity: Identities,
        pki_folder: Path,
        tmp_path: Path,
        workers: dict[str, str],
    ):
        people = [f"usr_{number:04}" for number in range(1_000)]
        await asyncio.to_thread(store_for, vault, database_url, people)
        process = await start_command(database_url, vault, pki_folder, tmp_path, rows_per_second=100)
        progress = "SELECT rewrapped FROM key_rotations"
        try:
            await eventually(
                lambda: asyncio.to_thread(execute, database_url, progress), lambda rows: bool(rows) and rows[0][0] > 0
            )
        finally:
            process.send_signal(signal.SIGKILL)
            await process.communicate()
        ((rewrapped,),) = execute(database_url, progress)
        assert 0 < rewrapped < len(people)
        # The lease of the killed one runs out, sooner than it would by itself.
        execute(database_url, "UPDATE key_rotations SET lease_until = now()")

        async with key_vault(database_url, vault, identity, workers) as replica:
            key = await ended(await replica.key_admin())
            worker = await replica.worker()
            opened = [(await worker.credential(user_id)).api_key for user_id in (people[0], people[-1])]

        assert key.rotation.state == State.COMPLETED
        assert key.rotation.rewrapped_count == key.rotation.total_count == len(people)  # none of them twice
        assert opened == [key_of(people[0]), key_of(people[-1])]

    async def test_one_that_was_frozen_changes_nothing_when_it_wakes(
        self, transactions: Transactions, transit: Transit, database_url: Secret, vault: VaultServer
    ):
        people = [f"usr_{number}" for number in range(450)]
        await asyncio.to_thread(store_for, vault, database_url, people)
        trail, frozen, awake = Trail(), ObservedTransit(transit, held=True), ObservedTransit(transit)
        rotations = rotations_of(transactions, transit, trail)
        rotation_id = (await begin(rotations)).id
        async with rewrapping(transactions, frozen, trail) as sleeper:
            await within_bound(frozen.holds.wait())
            # While it holds the lease, another leaves the rotation to it.
            async with transactions() as session:
                assert await repository.claim(session, uuid4(), seconds=1) is None
            execute(database_url, "UPDATE key_rotations SET lease_until = now()")
            async with rewrapping(transactions, awake, trail):
                finished = await eventually(lambda: rotations.get(rotation_id), _has_ended)
            before = execute(database_url, "SELECT user_id, ciphertext FROM provider_configs ORDER BY user_id")
            frozen.goes_on.set()
            sleeper.wake()
            await eventually(_looks_again(sleeper), bool)
            again = await rotations.get(rotation_id)

        assert (finished.state, finished.rewrapped, awake.asked) == (RotationState.COMPLETED, 450, 450)
        assert again.rewrapped == finished.rewrapped
        assert execute(database_url, "SELECT user_id, ciphertext FROM provider_configs ORDER BY user_id") == before
        assert [event.action for event in trail.events].count("encryption_key.rotation_ended") == 1

    async def test_two_replicas_do_not_do_the_work_twice(
        self, transactions: Transactions, transit: Transit, database_url: Secret, vault: VaultServer
    ):
        await asyncio.to_thread(store_for, vault, database_url, [f"usr_{number}" for number in range(1_000)])
        trail, one, other = Trail(), ObservedTransit(transit), ObservedTransit(transit)
        rotations = rotations_of(transactions, transit, trail)
        rotation_id = (await begin(rotations)).id

        async with rewrapping(transactions, one, trail), rewrapping(transactions, other, trail):
            finished = await eventually(lambda: rotations.get(rotation_id), _has_ended)

        assert finished.state == RotationState.COMPLETED
        assert one.asked + other.asked == finished.rewrapped == 1_000

    async def test_it_waits_for_a_sealed_vault_and_says_so(
        self, replica: Replica, transactions: Transactions, transit: Transit, database_url: Secret, vault: VaultServer
    ):
        await asyncio.to_thread(store_for, vault, database_url, ["usr_1"])
        admin = await replica.key_admin()
        rotation = await begin(rotations_of(transactions, transit, Trail()))
        await asyncio.to_thread(vault.seal)
        try:
            # Not what the database says, but what administrators are told.
            waiting = await eventually(admin.key, lambda key: key.rotation.message != "")
            await asyncio.to_thread(vault.unseal)
            finished = await ended(admin)
        finally:
            await asyncio.to_thread(vault.unseal)

        assert waiting.rotation.id == finished.rotation.id == str(rotation.id)
        assert waiting.rotation.state == State.RUNNING
        assert waiting.rotation.message.startswith("Waiting: ")
        assert (waiting.latest_version, waiting.min_decryption_version) == (0, 0)
        assert (waiting.sealed_count, waiting.outdated_count) == (1, 1)
        assert (finished.rotation.state, finished.rotation.message) == (State.COMPLETED, "")


class TestFloor:
    async def test_a_key_sealed_before_a_rotation_and_stored_after_it_opens(self, replica: Replica, worker: Worker):
        admin, person = await replica.key_admin(), await replica.person("usr_slow")
        worker.held_key = "sk-sandbox-sealed-early"
        storing = asyncio.create_task(person.store(worker.held_key))
        await within_bound(worker.held.wait())  # it is sealed by now, and tried
        await admin.rotate()
        key = await ended(admin)
        worker.goes_on.set()

        assert (await storing).success
        assert key.rotation.state == State.COMPLETED
        assert (await (await replica.worker()).credential("usr_slow")).api_key == "sk-sandbox-sealed-early"
        assert (await admin.key()).outdated_count == 0

    async def test_a_rotation_waits_for_a_key_that_is_being_stored(
        self, transactions: Transactions, transit: Transit, database_url: Secret
    ):
        key = ProviderKey("sk-sandbox-on-its-way")
        ciphertext = await transit.seal(key, user_id="usr_1", provider="openai")
        rotations = rotations_of(transactions, transit, Trail())
        async with transactions() as session:
            assert await check_floor(session, PURPOSE, ciphertext)
            beginning = asyncio.create_task(begin(rotations))
            blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            await eventually(lambda: asyncio.to_thread(execute, database_url, blocked), lambda rows: rows == [(1,)])
            await session.execute(_INSERT, {"ciphertext": ciphertext})
        rotation_id = (await beginning).id
        async with transactions() as session:
            assert not await check_floor(session, PURPOSE, ciphertext)
        async with rewrapping(transactions, transit, Trail()):
            finished = await eventually(lambda: rotations.get(rotation_id), _has_ended)

        assert (finished.state, finished.total, finished.rewrapped) == (RotationState.COMPLETED, 1, 1)
        ((fresh,),) = execute(database_url, "SELECT ciphertext FROM provider_configs")
        assert await transit.open(fresh, user_id="usr_1", provider="openai") == key

    async def test_a_version_more_than_the_floor_does_no_harm(self, replica: Replica, vault: VaultServer):
        admin, person = await replica.key_admin(), await replica.person("usr_1")
        await person.store("sk-sandbox-of-before")
        # As when a process dies after Vault's part of a rotation and before its own.
        await asyncio.to_thread(vault.rotate, PURPOSE)
        other = await replica.person("usr_2")
        await other.store("sk-sandbox-of-after")
        halfway = await admin.key()
        begun = await admin.rotate(rewrap_only=True)
        key = await ended(admin)

        assert (halfway.sealed_count, halfway.outdated_count) == (2, 1)
        assert begun.target_version == halfway.latest_version == key.latest_version == key.min_decryption_version
        assert (key.rotation.state, key.rotation.rewrapped_count) == (State.COMPLETED, 1)


class TestUnreadableKeys:
    async def test_leave_it_incomplete_until_they_are_gone(
        self, replica: Replica, database_url: Secret, vault: VaultServer
    ):
        admin = await replica.key_admin()
        (good, _) = await asyncio.to_thread(store_for, vault, database_url, ["usr_1", "usr_2"])
        # Of another account, and no ciphertext at all.
        insert_rows(database_url, {"usr_3": good, "usr_4": "not sealed by anything"})
        before = await admin.key()
        await admin.rotate()
        incomplete = await ended(admin)
        for somebody in ("usr_3", "usr_4"):
            await (await replica.person(somebody)).delete()
        again = await admin.rotate(rewrap_only=True)
        complete = await ended(admin)

        assert incomplete.rotation.state == State.INCOMPLETE
        assert (incomplete.rotation.rewrapped_count, incomplete.rotation.failed_count) == (2, 2)
        assert "rewrapOnly" in incomplete.rotation.message
        assert "vault:v" not in incomplete.rotation.message
        assert incomplete.min_decryption_version == before.min_decryption_version
        assert again.target_version == incomplete.latest_version == complete.latest_version
        assert (complete.rotation.state, complete.rotation.failed_count) == (State.COMPLETED, 0)
        assert complete.min_decryption_version == complete.latest_version

    async def test_the_command_says_so_with_its_status(
        self, database_url: Secret, vault: VaultServer, pki_folder: Path, tmp_path: Path
    ):
        insert_rows(database_url, {"usr_1": "vault:v1:bm90IHNlYWxlZCBieSBhbnl0aGluZyBhdCBhbGwgYW5kIGxvbmc="})

        process = await start_command(database_url, vault, pki_folder, tmp_path)
        said = await output_of(process)
        execute(database_url, "DELETE FROM provider_configs")
        again = await start_command(database_url, vault, pki_folder, tmp_path, "--rewrap-only")
        said_again = await output_of(again)

        assert (process.returncode, again.returncode) == (1, 0), said + said_again
        assert "incomplete" in said
        assert "rewrapOnly" in said
        assert "completed" in said_again
        assert "Traceback" not in said + said_again


class TestBeginning:
    async def test_a_second_one_is_refused_while_the_first_is_under_way(
        self, transactions: Transactions, transit: Transit, database_url: Secret, vault: VaultServer
    ):
        await asyncio.to_thread(store_for, vault, database_url, ["usr_1"])
        trail = Trail()
        rotations = rotations_of(transactions, transit, trail)
        # At once, so that none has noted itself when the others look.
        outcomes = await asyncio.gather(*(begin(rotations) for _ in range(3)), return_exceptions=True)
        with pytest.raises(FailedPrecondition) as refusal:
            await begin(rotations)

        (rotation,) = [outcome for outcome in outcomes if isinstance(outcome, KeyRotationRow)]
        # Vault itself does one at a time, and may say so.
        refused = [outcome for outcome in outcomes if isinstance(outcome, (FailedPrecondition, Unavailable))]
        assert len(refused) == 2, outcomes
        assert refusal.value.reason == "ROTATION_UNDER_WAY"
        assert [event.action for event in trail.events] == ["encryption_key.rotation_started"]
        async with rewrapping(transactions, transit, trail):
            finished = await eventually(lambda: rotations.get(rotation.id), _has_ended)
        assert finished.state == RotationState.COMPLETED

    async def test_an_unknown_key_is_not_found(self, replica: Replica):
        admin = await replica.key_admin()
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await admin.rotate("chat-histories")

        assert failure.value.code() is grpc.StatusCode.NOT_FOUND
        assert error_info(failure.value).metadata["purposes"] == "chat-history, provider-keys"

    async def test_keys_are_listed_in_pages(self, replica: Replica):
        admin = await replica.key_admin()
        first = await admin.keys(page_size=1)
        second = await admin.keys(page_size=1, page_token=first.next_page_token)

        assert [key.purpose for page in (first, second) for key in page.keys] == ["chat-history", "provider-keys"]
        assert second.next_page_token == ""
        assert not first.keys[0].HasField("rotation")


_INSERT = text(
    "INSERT INTO provider_configs (user_id, provider, ciphertext, key_hint, model, last_test_success, "
    "last_test_latency, last_test_message, last_test_reason, last_test_time) "
    "VALUES ('usr_1', 'openai', :ciphertext, '', '', true, 1, '', '', now())"
)


def _rotation_events(replica: Replica) -> Callable[[], Awaitable[list[AuditEvent]]]:
    async def events() -> list[AuditEvent]:
        return [event for event in replica.log.events if event.action.startswith("encryption_key.")]

    return events


def _looks_again(work: Rewrapping) -> Callable[[], Awaitable[bool]]:
    async def looks() -> bool:
        return not work._news.is_set()

    return looks


def _has_ended(rotation: KeyRotationRow) -> bool:
    return rotation.state != RotationState.RUNNING


async def start_command(
    database_url: Secret,
    vault: VaultServer,
    pki_folder: Path,
    folder: Path,
    *arguments: str,
    rows_per_second: int = 0,
) -> asyncio.subprocess.Process:
    """Starts the operators' command, with the settings of the service. No other service runs."""
    settings = {
        "LISTEN": "127.0.0.1:1",
        "TLS_DIR": str(pki_folder / "key-vault"),
        "DATABASE_URL": database_url.reveal(),
        "AUTH_ADDRESS": "127.0.0.1:1",
        "WORKERS": "openai=127.0.0.1:1",
        "DATA_DIR": str(folder),
        "REWRAP_ROWS_PER_SECOND": str(rows_per_second),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.key_vault.rotate_keys",
        *arguments,
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            **{f"KEY_VAULT_{name}": value for name, value in settings.items()},
            **vault.settings(),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def output_of(process: asyncio.subprocess.Process) -> str:
    """Waits until a process has ended, and returns what it said."""
    try:
        async with asyncio.timeout(40):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return output.decode()
