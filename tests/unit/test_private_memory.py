"""Processes that hold keys leave no core when they crash, and do not show their memory to others of their user."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.rpc import Identities

ROOT = Path(__file__).parents[2]
# Root's processes run in it, to tell what belongs to them from what belongs to root because it is not shown.
_OTHER_GROUP = 65534
_CRASH = "import os, signal, sys; os.kill(os.getpid(), getattr(signal, sys.argv[1]))"


# Lifts the limit on cores as far as it may be, and changes the group. In processes of their own, and not between fork
# and exec in here: what other tests have loaded into this process, gRPC above all, does not live through a fork.
UNLIMITED = ("sh", "-c", 'ulimit -S -c "$(ulimit -H -c)" && exec "$@"', "sh")
_JOIN = "import os, sys; os.setgid(int(sys.argv[1])); os.execvp(sys.argv[2], sys.argv[2:])"
OTHER_GROUP = (sys.executable, "-c", _JOIN, str(_OTHER_GROUP)) if os.geteuid() == 0 else ()


@contextmanager
def started(folder: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Starts Python in an empty folder, where a core would be. It has ended when the block has."""
    process = subprocess.Popen(
        [*OTHER_GROUP, *UNLIMITED, sys.executable, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'libs' / 'gen'}", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


class TestWorker:
    """A worker as it runs, from the moment it serves; it needs nobody else for that."""

    @pytest.mark.parametrize("end", [signal.SIGSEGV, signal.SIGABRT], ids=lambda end: end.name)
    def test_leaves_no_core(
        self, folder: Path, tmp_path: Path, identity: Identities, pki_folder: Path, end: signal.Signals
    ) -> None:
        identity("worker-openai")
        addresses = {f"WORKER_{name}_ADDRESS": "127.0.0.1:1" for name in ("AUTH", "KEY_VAULT", "ANALYTICS")}
        with started(
            folder,
            *("-m", "services.workers.openai"),
            WORKER_LISTEN="127.0.0.1:0",
            WORKER_TLS_DIR=str(pki_folder / "worker-openai"),
            WORKER_DATA_DIR=str(tmp_path / "data"),
            **addresses,
        ) as worker:
            assert worker.stderr is not None
            for line in worker.stderr:
                if '"serving"' in line:
                    break
            limits = Path(f"/proc/{worker.pid}/limits")
            if limits.exists():
                (cores,) = (line for line in limits.read_text().splitlines() if line.startswith("Max core file size"))
                assert cores.split()[4:6] == ["0", "0"]
                # What the system shows of it is its own user's and group's, unless it is not dumpable.
                shown = Path(f"/proc/{worker.pid}/environ").stat()
                assert (shown.st_uid, shown.st_gid) == (0, 0)
            worker.send_signal(end)
            assert worker.wait(30) == -end
        assert list(folder.iterdir()) == []

    def test_that_has_no_settings_has_no_core_either(self, folder: Path) -> None:
        """The memory is private before the settings are read, which may hold secrets too."""
        with started(folder, "-m", "services.workers.openai") as worker:
            assert worker.wait(30) == os.EX_CONFIG


class TestPrivateMemory:
    @pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
    def test_belongs_to_root_alone(self, folder: Path) -> None:
        code = "import ctypes, sys; from libs.private_memory import keep_memory_private; keep_memory_private(); "
        code += "sys.exit(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
        with started(folder, "-c", code) as process:
            assert process.wait(30) == 0

    def test_is_what_keeps_a_core_from_being_written(self, folder: Path) -> None:
        """Shows that the crash above would have left one here, where the system writes cores to the working folder."""
        pattern = Path("/proc/sys/kernel/core_pattern")
        if not pattern.exists() or pattern.read_text().startswith(("/", "|")):
            pytest.skip("this system does not write cores to the working folder")
        if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
            pytest.skip("cores are switched off for good here")
        with started(folder, "-c", _CRASH, "SIGABRT") as process:
            process.wait(30)
        assert [file.name.startswith("core") for file in folder.iterdir()] == [True]
