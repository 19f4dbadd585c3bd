"""Ways in which a component is away, each for the time of a block."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import hvac

from deploy.local.stack import LocalStack


@asynccontextmanager
async def halted(stack: LocalStack, name: str) -> AsyncIterator[None]:
    """Stops a process."""
    await stack.halt(name)
    try:
        yield
    finally:
        await stack.restart(name)


@asynccontextmanager
async def frozen(stack: LocalStack, name: str) -> AsyncIterator[None]:
    """Has a process and those it has started answer nobody, without closing a connection."""
    pid = await stack.pid(name)
    os.kill(pid, signal.SIGSTOP)  # first, so that it starts no more of them
    children = _children(pid)
    for child in children:
        os.kill(child, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in (*children, pid):
            os.kill(each, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    """Returns the processes that a process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                _, _, after_name = (entry / "stat").read_text().rpartition(")")
                if int(after_name.split()[1]) == pid:
                    found.append(int(entry.name))
    return found


@asynccontextmanager
async def sealed(stack: LocalStack, name: str = "vault") -> AsyncIterator[None]:
    """Seals Vault. It unseals itself when it is started again."""
    root = (stack.layout.secrets / "vault-root-token").read_text()
    authority = str(stack.layout.pki / "vault" / "ca.crt")
    operator = hvac.Client(f"https://{stack.address(name)}", token=root, verify=authority, timeout=20)
    await asyncio.to_thread(operator.sys.seal)
    try:
        yield
    finally:
        await stack.restart(name)
