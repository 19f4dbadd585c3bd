"""However the runner or its supervisor dies, nothing of the stack outlives it, and the next start just works."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.local.infrastructure import ROOT
from deploy.local.stack import LocalStack
from tests.support.waiting import eventually

INFRASTRUCTURE = {"postgres", "vault", "redis", "sandbox"}

# A runner: starts the stack in its own process, tells that it is up, and stays.
_RUNNER = """
import asyncio, sys
from pathlib import Path
from deploy.local.stack import LocalStack

async def main():
    stack = LocalStack(Path(sys.argv[1]), only=sys.argv[2].split(","))
    await stack.start()
    print("up", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def runner(state: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs a stack from a process of its own, and yields that process when the stack is up."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _RUNNER, str(state), ",".join(sorted(INFRASTRUCTURE))),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"up\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def processes_of(state: Path) -> set[int]:
    """Returns the processes whose command line or working directory names a folder. Zombies have neither."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                if str(state) in command or str((entry / "cwd").readlink()).startswith(str(state)):
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


async def supervisor_of(state: Path) -> int:
    """Returns the process id of the supervisor of a stack."""
    for pid in processes_of(state):
        if "supervisord" in Path(f"/proc/{pid}/cmdline").read_text():
            return pid
    pytest.fail("no supervisor runs")


class TestKilled:
    @pytest.mark.parametrize("victim", ["runner", "supervisor", "both"])
    async def test_nothing_is_left_and_the_next_start_works(self, tmp_path: Path, victim: str):
        state = tmp_path / "state"
        async with runner(state) as process:
            supervisor = await supervisor_of(state)
            assert len(processes_of(state)) > len(INFRASTRUCTURE)
            if victim in ("supervisor", "both"):
                os.kill(supervisor, signal.SIGKILL)
            if victim in ("runner", "both"):
                process.kill()
                await process.wait()

            async def left() -> set[int]:
                return processes_of(state) - {process.pid}

            await eventually(left, lambda pids: not pids)
        async with LocalStack(state, only=INFRASTRUCTURE) as stack:
            assert {name for name, each in (await stack.states()).items() if each.pid} == INFRASTRUCTURE
        assert processes_of(state) == set()


class TestRestart:
    @pytest.mark.parametrize("name", ["postgres", "vault", "redis"])
    async def test_what_dies_is_started_again_and_serves(self, tmp_path: Path, name: str):
        async with LocalStack(tmp_path / "state", only={name}) as stack:
            before = await stack.pid(name)
            await stack.kill(name)
            await stack.wait_ready(name)
            assert await stack.pid(name) not in (0, before)
