"""Ways in which a component is away, each for the time of a block."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
    """Has a process answer nobody, without closing a connection."""
    pid = await stack.pid(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


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
