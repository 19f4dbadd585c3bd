"""The outbox: what was written down arrives, at least once, in order, whatever dies in between."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from libs import outbox as outbox_module
from libs.errors import InvalidRequest, PermissionDenied, Unavailable, Violation
from libs.outbox import Outbox, open_outbox
from tests.support.waiting import BOUND_SECONDS, eventually, within_bound


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LINGER_SECONDS", "_FIRST_DELAY", "_MAX_DELAY"):
        monkeypatch.setattr(outbox_module, name, 0.001)


class Receiver:
    """The service at the other end: takes facts, refuses poison, fails as often as it is told."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.batches: list[list[bytes]] = []
        self.failures: list[Exception] = []
        self.loses_acknowledgement = 0
        self._news = asyncio.Condition()

    async def send(self, facts: Sequence[bytes]) -> None:
        self.batches.append(list(facts))
        async with self._news:
            self._news.notify_all()
        if self.failures:
            raise self.failures.pop(0)
        if any(fact.startswith(b"poison") for fact in facts):
            raise InvalidRequest([Violation("records[0].id", "must be a UUID.")])
        self.taken += facts
        if self.loses_acknowledgement:
            self.loses_acknowledgement -= 1
            raise Unavailable("lost on the way back")
        async with self._news:
            self._news.notify_all()

    async def until(self, count: int) -> None:
        async with self._news:
            await within_bound(self._news.wait_for(lambda: len(self.taken) >= count))

    async def until_batches(self, count: int) -> None:
        async with self._news:
            await within_bound(self._news.wait_for(lambda: len(self.batches) >= count))


def refused(folder: Path) -> list[tuple[bytes, str]]:
    database = sqlite3.connect(folder / "outbox.sqlite3")
    rows = database.execute("SELECT fact, reason FROM refused ORDER BY id").fetchall()
    database.close()
    return rows


def facts(count: int) -> list[bytes]:
    return [b"fact %d" % number for number in range(count)]


async def never(_: Sequence[bytes]) -> None:
    raise Unavailable("analytics is away")


class TestDelivery:
    async def test_facts_arrive_in_order_and_are_forgotten(self, tmp_path: Path) -> None:
        receiver = Receiver()
        async with open_outbox(tmp_path, receiver.send) as outbox:
            for fact in facts(1203):
                outbox.append(fact)
            await receiver.until(1203)
            assert receiver.taken == facts(1203)
        assert max(map(len, receiver.batches)) <= 500
        again = Outbox(tmp_path / "outbox.sqlite3")
        assert again.backlog() == 0
        again.close()

    async def test_facts_of_any_bytes_arrive_as_they_were(self, tmp_path: Path) -> None:
        receiver, fact = Receiver(), bytes(range(256)) * 1000
        async with open_outbox(tmp_path, receiver.send) as outbox:
            outbox.append(fact)
            outbox.append(b"")
            await receiver.until(2)
        assert receiver.taken == [fact, b""]

    async def test_facts_that_arrive_while_others_travel_follow(self, tmp_path: Path) -> None:
        receiver, on_the_way, go = Receiver(), asyncio.Event(), asyncio.Event()

        async def slow(batch: Sequence[bytes]) -> None:
            on_the_way.set()
            await go.wait()
            await receiver.send(batch)

        async with open_outbox(tmp_path, slow) as outbox:
            outbox.append(b"first")
            await within_bound(on_the_way.wait())
            outbox.append(b"second")
            go.set()
            await receiver.until(2)
        assert receiver.batches == [[b"first"], [b"second"]]

    async def test_is_sent_again_until_it_is_taken(self, tmp_path: Path) -> None:
        receiver = Receiver()
        receiver.failures = [Unavailable("away") for _ in range(5)]
        async with open_outbox(tmp_path, receiver.send) as outbox:
            outbox.append(b"a")
            await receiver.until(1)
        assert receiver.taken == [b"a"]
        assert len(receiver.batches) == 6

    async def test_a_lost_acknowledgement_means_twice_and_never_not_at_all(self, tmp_path: Path) -> None:
        receiver = Receiver()
        receiver.loses_acknowledgement = 1
        async with open_outbox(tmp_path, receiver.send) as outbox:
            outbox.append(b"a")
            await receiver.until(2)
        assert receiver.taken == [b"a", b"a"]

    async def test_a_bug_in_sending_does_not_end_the_forwarding(self, tmp_path: Path) -> None:
        receiver = Receiver()
        receiver.failures = [ValueError("cannot decode")]
        with capture_logs() as logs:
            async with open_outbox(tmp_path, receiver.send) as outbox:
                outbox.append(b"a")
                await receiver.until(1)
        assert [line["log_level"] for line in logs] == ["error"]


class TestReaders:
    async def test_one_who_reads_the_file_does_not_hold_appends_up(self, tmp_path: Path) -> None:
        async with open_outbox(tmp_path, never) as outbox:
            reader = sqlite3.connect(tmp_path / "outbox.sqlite3", isolation_level=None)
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
            outbox._database.execute("PRAGMA busy_timeout = 0")
            outbox.append(b"a")
            assert outbox.backlog() == 1
            reader.close()


class TestPoison:
    async def test_is_set_aside_and_reported_and_the_rest_passes_in_order(self, tmp_path: Path) -> None:
        receiver = Receiver()
        with capture_logs() as logs:
            async with open_outbox(tmp_path, receiver.send) as outbox:
                for fact in (b"a", b"poison 1", b"b", b"poison 2", b"c"):
                    outbox.append(fact)
                await receiver.until(3)
                assert outbox.backlog() == 0
        assert receiver.taken == [b"a", b"b", b"c"]
        assert refused(tmp_path) == [
            (b"poison 1", "records[0].id: must be a UUID."),
            (b"poison 2", "records[0].id: must be a UUID."),
        ]
        assert [line["event"] for line in logs if line["log_level"] == "error"] == ["fact refused; set aside"] * 2

    async def test_an_outage_in_the_middle_loses_and_reorders_nothing(self, tmp_path: Path) -> None:
        receiver = Receiver()
        async with open_outbox(tmp_path, receiver.send) as outbox:
            outbox.append(b"a")
            outbox.append(b"poison")
            outbox.append(b"b")
            await receiver.until_batches(1)  # refused as a whole; now one by one
            receiver.failures = [Unavailable("away")]
            await receiver.until(2)
        assert receiver.taken == [b"a", b"b"]
        assert len(refused(tmp_path)) == 1


class TestDamage:
    """The file after an accident: a disk that lied, a file that was copied half."""

    @pytest.mark.parametrize("damage", [lambda file: b"x" * len(file), lambda file: file[:3000]], ids=["noise", "half"])
    async def test_is_set_aside_and_new_facts_arrive(self, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
        receiver = Receiver()
        path = tmp_path / "outbox.sqlite3"
        old = Outbox(path)
        for fact in facts(200):
            old.append(fact)
        old.close()
        damaged = damage(path.read_bytes())
        path.write_bytes(damaged)

        with capture_logs() as logs:
            async with open_outbox(tmp_path, receiver.send) as outbox:
                outbox.append(b"new")
                await receiver.until(1)

        assert receiver.taken == [b"new"]
        assert [line["log_level"] for line in logs] == ["error"]
        assert Path(logs[0]["aside"]).read_bytes() == damaged

    async def test_a_file_that_cannot_be_opened_is_nobodys_to_move(self, tmp_path: Path) -> None:
        receiver = Receiver()
        (tmp_path / "outbox.sqlite3").mkdir()
        with pytest.raises(sqlite3.OperationalError):
            async with open_outbox(tmp_path, receiver.send):
                pass


class TestFullDisk:
    """`max_page_count` makes SQLite say what it says when the disk is full."""

    async def test_is_told_before_anything_is_begun_and_forgotten_when_there_is_room(self, tmp_path: Path) -> None:
        outbox = Outbox(tmp_path / "outbox.sqlite3")
        outbox.check_writable()
        outbox._database.execute("PRAGMA max_page_count = 1")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            outbox.append(b"x" * 100_000)
        with pytest.raises(Unavailable) as told:
            outbox.check_writable()
        assert told.value.retry_after
        outbox._database.execute("PRAGMA max_page_count = 1000000")
        outbox.check_writable()
        outbox.append(b"a")
        outbox.close()
        receiver = Receiver()
        async with open_outbox(tmp_path, receiver.send):
            await receiver.until(1)
        assert receiver.taken == [b"a"]


class TestRoom:
    async def test_a_delivery_has_so_many_bytes_at_most_and_a_large_fact_travels_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox_module, "_BATCH_BYTES", 100)
        receiver = Receiver()
        sizes = [40, 40, 40, 250, 10, 90, 1]
        async with open_outbox(tmp_path, receiver.send) as outbox:
            for size in sizes:
                outbox.append(b"x" * size)
            await receiver.until(len(sizes))
            assert (outbox.backlog(), outbox.size_bytes) == (0, 0)
        assert [[len(fact) for fact in batch] for batch in receiver.batches] == [[40, 40], [40], [250], [10, 90], [1]]

    async def test_says_when_it_is_nearly_full_and_begins_nothing_at_its_limit(self, tmp_path: Path) -> None:
        outbox = Outbox(tmp_path / "outbox.sqlite3", limit_bytes=1000)
        outbox.append(b"x" * 799)
        assert not outbox.nearly_full
        outbox.append(b"x")
        assert outbox.nearly_full
        outbox.check_writable()
        outbox.append(b"x" * 200)
        with pytest.raises(Unavailable, match="no room") as told:
            outbox.check_writable()
        assert told.value.retry_after
        outbox.append(b"of what was begun before")
        outbox.close()

        receiver = Receiver()
        async with open_outbox(tmp_path, receiver.send, limit_bytes=1000) as outbox:
            with pytest.raises(Unavailable, match="no room"):
                outbox.check_writable()
            await receiver.until(4)
            await eventually(lambda: _done(outbox.backlog()), lambda left: left == 0)
            outbox.check_writable()
            assert not outbox.nearly_full
        assert receiver.taken[-1] == b"of what was begun before"

    async def test_begins_nothing_on_a_disk_that_is_nearly_full(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outbox = Outbox(tmp_path / "outbox.sqlite3")
        outbox.look_at_disk()
        outbox.check_writable()
        monkeypatch.setattr(outbox_module, "_FREE_DISK_BYTES", 2**63)
        with capture_logs() as logs:
            outbox.look_at_disk()
            outbox.look_at_disk()
        assert [line["log_level"] for line in logs] == ["error"]
        assert outbox.nearly_full
        with pytest.raises(Unavailable, match="no room"):
            outbox.check_writable()
        monkeypatch.undo()
        outbox.look_at_disk()
        outbox.check_writable()
        outbox.close()

    async def test_the_file_gets_small_again(self, tmp_path: Path) -> None:
        receiver = Receiver()
        path = tmp_path / "outbox.sqlite3"
        outbox = Outbox(path)
        for _ in range(100):
            outbox.append(b"x" * 100_000)
        outbox.close()
        large = path.stat().st_size
        assert large > 10_000_000

        async with open_outbox(tmp_path, receiver.send) as outbox:
            await receiver.until(100)
            await eventually(lambda: _done(outbox.backlog()), lambda left: left == 0)
            for _ in range(10):
                outbox.give_back()
        assert path.stat().st_size < large / 4

    async def test_also_one_of_before_that_could_not(self, tmp_path: Path) -> None:
        path = tmp_path / "outbox.sqlite3"
        database = sqlite3.connect(path, isolation_level=None)
        database.executescript(outbox_module._SCHEMA.replace("PRAGMA auto_vacuum = INCREMENTAL;", ""))
        database.execute("INSERT INTO refused (fact, reason) VALUES (x'00', 'kept')")
        database.close()

        outbox = Outbox(path)
        assert outbox._database.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert outbox.refused == 1
        outbox.close()

    async def test_tells_the_age_of_the_first_that_is_still_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        allowed: list[bytes] = []

        async def some(facts: Sequence[bytes]) -> None:
            if any(fact not in allowed for fact in facts):
                raise Unavailable("away")

        outbox = Outbox(tmp_path / "outbox.sqlite3")
        assert outbox.oldest_seconds() == 0
        for fact in (b"a", b"b", b"c"):
            outbox.append(fact)
            now += 10
        assert outbox.oldest_seconds() == 30
        outbox._gone([(1, b"a"), (2, b"b")])
        assert outbox.oldest_seconds() == 10
        outbox._gone([(3, b"c")])
        assert outbox.oldest_seconds() == 0
        outbox.close()
        again = Outbox(tmp_path / "outbox.sqlite3")
        now += 5
        assert again.oldest_seconds() == 5
        again.close()


class TestDenial:
    async def test_of_some_facts_sets_them_aside(self, tmp_path: Path) -> None:
        """As of a provider that another worker serves by now."""
        taken: list[bytes] = []

        async def own_only(facts: Sequence[bytes]) -> None:
            if any(fact.startswith(b"foreign") for fact in facts):
                raise PermissionDenied("Another worker's.")
            taken.extend(facts)

        async with open_outbox(tmp_path, own_only) as outbox:
            for fact in (b"foreign 1", b"a", b"foreign 2", b"b"):
                outbox.append(fact)
            await eventually(lambda: _done(outbox.backlog()), lambda left: left == 0)
            assert outbox.refused == 2
        assert taken == [b"a", b"b"]
        assert [fact for fact, _ in refused(tmp_path)] == [b"foreign 1", b"foreign 2"]

    @pytest.mark.parametrize("count", [1, 30])
    async def test_of_all_facts_keeps_them_until_that_is_mended(self, tmp_path: Path, count: int) -> None:
        """As when the certificate is not the worker's."""
        receiver = Receiver()
        denied = 0

        async def deny(facts: Sequence[bytes]) -> None:
            nonlocal denied
            denied += 1
            if denied <= 63:
                raise PermissionDenied("Not you.")
            await receiver.send(facts)

        with capture_logs() as logs:
            async with open_outbox(tmp_path, deny) as outbox:
                for fact in facts(count):
                    outbox.append(fact)
                await receiver.until(count)
                assert outbox.refused == 0
        assert receiver.taken == facts(count)
        assert {line["event"] for line in logs} == {"facts denied; sending again"}


async def _done(value: int) -> int:
    return value


class TestEnd:
    async def test_what_is_left_is_flushed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outbox_module, "_LINGER_SECONDS", 3600)
        receiver = Receiver()
        async with open_outbox(tmp_path, receiver.send) as outbox:
            outbox.append(b"a")
            assert receiver.taken == []
        assert receiver.taken == [b"a"]

    async def test_what_is_not_taken_stays_for_the_next_process(self, tmp_path: Path) -> None:
        async with open_outbox(tmp_path, never) as outbox:
            outbox.append(b"a")
            outbox.append(b"b")
        receiver = Receiver()
        async with open_outbox(tmp_path, receiver.send):
            await receiver.until(2)
        assert receiver.taken == [b"a", b"b"]

    async def test_a_receiver_that_hangs_does_not_hold_the_end_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox_module, "_FLUSH_SECONDS", 0.01)

        async def hang(_: Sequence[bytes]) -> None:
            await asyncio.Event().wait()

        async with asyncio.timeout(BOUND_SECONDS), open_outbox(tmp_path, hang) as outbox:
            outbox.append(b"a")
        again = Outbox(tmp_path / "outbox.sqlite3")
        assert again.backlog() == 1
        again.close()

    async def test_a_bug_in_the_last_sending_still_closes_the_file(self, tmp_path: Path) -> None:
        async def broken(_: Sequence[bytes]) -> None:
            raise ValueError("a bug")

        with pytest.raises(ValueError, match="a bug"):
            async with open_outbox(tmp_path, broken) as outbox:
                outbox.append(b"a")
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            outbox.append(b"b")

    async def test_nothing_runs_on(self, tmp_path: Path) -> None:
        before = asyncio.all_tasks()
        async with open_outbox(tmp_path, never):
            pass
        started = asyncio.all_tasks() - before
        assert not {"outbox forward", "outbox checkpoint"} & {task.get_name() for task in started}


class TestOwnership:
    async def test_one_process_at_a_time(self, tmp_path: Path) -> None:
        async with open_outbox(tmp_path, never):
            with pytest.raises(outbox_module.OutboxInUse, match="in use by another process"):
                async with open_outbox(tmp_path, never):
                    pass

    async def test_the_next_may_have_it_at_once(self, tmp_path: Path) -> None:
        for _ in range(2):
            async with open_outbox(tmp_path / "new folder", never):
                pass

    async def test_a_folder_it_makes_is_closed_to_others(self, tmp_path: Path) -> None:
        async with open_outbox(tmp_path / "data", never):
            assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


_APPEND_FOREVER = """
    import asyncio, sys
    from pathlib import Path
    from libs.errors import Unavailable
    from libs.outbox import open_outbox

    async def never(facts):
        raise Unavailable("away")

    async def main():
        async with open_outbox(Path(sys.argv[1]), never) as outbox:
            number = 0
            while True:
                outbox.append(b"fact %d" % number)
                print(number, flush=True)  # the answer's end is seen only after its record is safe
                number += 1
                if number % 50 == 0:
                    await asyncio.sleep(0)

    asyncio.run(main())
"""


def kill_while_appending(folder: Path) -> int:
    """Runs a process that appends facts, kills it with SIGKILL, and returns the last number it told of."""
    program = [sys.executable, "-c", textwrap.dedent(_APPEND_FOREVER), str(folder)]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        while int(line := child.stdout.readline()) < 300:
            pass
        with pytest.raises(outbox_module.OutboxInUse, match="in use by another process"), outbox_module._owned(folder):
            pass
        child.send_signal(signal.SIGKILL)
        last = (child.stdout.read().splitlines() or [line])[-1]
    assert child.returncode == -signal.SIGKILL
    return int(last)


class TestSudden:
    async def test_a_killed_process_loses_nothing_it_had_written_down(self, tmp_path: Path) -> None:
        seen = kill_while_appending(tmp_path)
        receiver = Receiver()
        async with open_outbox(tmp_path, receiver.send) as outbox:
            outbox.append(b"after")
            await receiver.until(seen + 2)
        assert receiver.taken[: seen + 1] == facts(seen + 1)
        assert receiver.taken[-1] == b"after"
        assert len(receiver.taken) in (seen + 2, seen + 3)  # one may have been written down and not yet told

    async def test_the_log_is_moved_into_the_file_while_facts_arrive(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox_module, "_CHECKPOINT_SECONDS", 0.001)
        monkeypatch.setattr(outbox_module, "_CHECKPOINT_BYTES", 0)
        receiver, arriving = Receiver(), facts(200)

        async def size() -> int:
            return (tmp_path / "outbox.sqlite3").stat().st_size

        async with open_outbox(tmp_path, receiver.send) as outbox:
            empty = await size()
            for fact in arriving:
                outbox.append(fact * 50)
                await asyncio.sleep(0)
            await eventually(size, lambda now: now > empty)
            await receiver.until(len(arriving))
        assert receiver.taken == [fact * 50 for fact in arriving]
