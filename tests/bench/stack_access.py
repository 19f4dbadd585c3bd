"""What every measurement of a running stack needs: the stack, somebody who may chat, and the CPU time of a process."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.stack import LocalStack


@asynccontextmanager
async def stack_with_router() -> AsyncIterator[tuple[LocalStack, SandboxControl]]:
    """Runs what a chat by the router needs, without limits, for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="realmultillm-bench-") as scratch:
        print("Starting the stack…", flush=True)
        folder, only = Path(scratch) / "stack", ["envoy", "worker-openai", "provider-router"]
        async with (
            LocalStack(folder, only=only, rate_limits=False) as stack,
            SandboxControl(stack.sandbox_url) as control,
        ):
            yield stack, control


def cpu_seconds(pid: int) -> float:
    """Returns user and system time of a process so far; 0 for pid 0, which is none."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def person_with_key(stack: LocalStack, key: str) -> str:
    """Signs somebody up who can chat, and returns their token."""
    async with httpx.AsyncClient(base_url=stack.base_url, timeout=30) as http:
        body = {"email": f"bench-{secrets.token_hex(4)}@example.com", "password": secrets.token_urlsafe(16)}
        token: str = (await http.post("/api/auth/signup", json=body)).raise_for_status().json()["token"]
        headers = {"authorization": f"Bearer {token}"}
        (await http.post("/api/provider-config/openai", json={"apiKey": key}, headers=headers)).raise_for_status()
    return token
