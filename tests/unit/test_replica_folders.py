"""Replicas that share a volume: each has a folder of its own, and what one leaves behind the others send."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from libs import outbox as outbox_module
from libs.errors import Unavailable
from libs.outbox import Outbox, open_outbox
from libs.replica_folders import FolderInUse, claimed, held, same_of_others
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]


class TestClaims:
    def test_each_has_its_own(self, tmp_path: Path) -> None:
        with claimed(tmp_path) as first, claimed(tmp_path) as second, claimed(tmp_path) as third:
            assert [first.name, second.name, third.name] == ["replica-1", "replica-2", "replica-3"]

    def test_the_first_that_is_free_is_taken_with_what_is_in_it(self, tmp_path: Path) -> None:
        with ExitStack() as first, claimed(tmp_path):
            first.enter_context(claimed(tmp_path))
            with claimed(tmp_path):
                pass
        with claimed(tmp_path) as folder:
            (folder / "left").touch()
        with claimed(tmp_path) as folder:
            assert (folder / "left").exists()

    def test_one_that_is_held_is_not_to_be_had(self, tmp_path: Path) -> None:
        with claimed(tmp_path) as folder, pytest.raises(FolderInUse), held(folder):
            raise AssertionError("never reached")

    def test_death_gives_it_back(self, tmp_path: Path) -> None:
        program = textwrap.dedent("""
            import sys
            from pathlib import Path
            from libs.replica_folders import claimed

            with claimed(Path(sys.argv[1])) as folder:
                print(folder.name, flush=True)
                sys.stdin.read()
        """)
        command = [sys.executable, "-c", program, str(tmp_path)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:  # type: ignore[call-overload]
            assert process.stdout.readline() == "replica-1\n"
            with claimed(tmp_path) as meanwhile:
                assert meanwhile.name == "replica-2"
            process.send_signal(signal.SIGKILL)
            process.wait()

        with claimed(tmp_path) as folder:
            assert folder.name == "replica-1"

    def test_where_nothing_is_shared_there_are_no_others(self, tmp_path: Path) -> None:
        (tmp_path / "replica-1").mkdir()

        assert same_of_others(tmp_path / "outbox.sqlite3") == []


class TestWhatIsLeft:
    async def test_another_replica_sends_it(self, tmp_path: Path) -> None:
        leave(tmp_path / "replica-2" / "audit", b"one", b"two")
        taken: list[bytes] = []

        async with open_outbox(tmp_path / "replica-1" / "audit", receiver(taken)):
            await eventually(lambda: answer(taken), lambda seen: seen == [b"one", b"two"])

        assert backlog(tmp_path / "replica-2" / "audit") == 0

    async def test_what_somebody_has_is_theirs_to_send(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outbox_module, "_LEFT_SECONDS", 0.01)
        leave(tmp_path / "replica-2", b"theirs")
        leave(tmp_path / "replica-3", b"nobody's")
        taken: list[bytes] = []

        with ExitStack() as theirs:
            theirs.enter_context(held(tmp_path / "replica-2"))
            async with open_outbox(tmp_path / "replica-1", receiver(taken)):
                await eventually(lambda: answer(taken), lambda seen: seen == [b"nobody's"])
                assert backlog(tmp_path / "replica-2") == 1
                # Its process ends.
                theirs.close()
                await eventually(lambda: answer(taken), lambda seen: seen == [b"nobody's", b"theirs"])

    async def test_what_is_not_taken_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outbox_module, "_LEFT_SECONDS", 0.01)
        leave(tmp_path / "replica-2", b"one")
        taken: list[bytes] = []
        attempts: list[int] = []

        async def away_at_first(facts: Sequence[bytes]) -> None:
            attempts.append(len(facts))
            if len(attempts) < 3:
                raise Unavailable("away")
            taken.extend(facts)

        async with open_outbox(tmp_path / "replica-1", away_at_first):
            await eventually(lambda: answer(taken), lambda seen: seen == [b"one"])

        assert attempts == [1, 1, 1]


class TestRunner:
    @pytest.mark.parametrize(("said", "folders"), [("true", ["replica-1"]), ("false", []), ("", [])])
    def test_a_service_of_a_shared_volume_is_told_its_folder(
        self, tmp_path: Path, said: str, folders: list[str]
    ) -> None:
        """The folder is taken before the service reads its settings, which it finds wanting here."""
        assert started(tmp_path, said).returncode == os.EX_CONFIG
        assert [path.name for path in tmp_path.iterdir()] == folders

    def test_what_is_neither_yes_nor_no_is_refused(self, tmp_path: Path) -> None:
        refused = started(tmp_path, "yes")

        assert refused.returncode == 1
        assert refused.stderr == "REPLICAS_SHARE_VOLUME must be true or false, not 'yes'.\n"


def started(folder: Path, shared: str) -> subprocess.CompletedProcess[str]:
    environment = {"SERVICE": "auth", "AUTH_DATA_DIR": str(folder), "REPLICAS_SHARE_VOLUME": shared}
    return subprocess.run(
        [sys.executable, "-m", "services"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def leave(folder: Path, *facts: bytes) -> None:
    folder.mkdir(parents=True)
    with closing(Outbox(folder / "outbox.sqlite3")) as outbox:
        for fact in facts:
            outbox.append(fact)


def backlog(folder: Path) -> int:
    with closing(Outbox(folder / "outbox.sqlite3")) as outbox:
        return outbox.backlog()


def receiver(taken: list[bytes]) -> outbox_module.Send:
    async def take(facts: Sequence[bytes]) -> None:
        taken.extend(facts)

    return take


async def answer(taken: list[bytes]) -> list[bytes]:
    return list(taken)
