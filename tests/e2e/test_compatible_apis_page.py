"""What docs/compatible-apis.md shows can be pasted and runs."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Platform
from tests.e2e.sdk_users import SdkUser, sdk_user
from tests.support.waiting import within_bound

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(
    r"^```sh\n(.*?)^```", (ROOT / "docs" / "compatible-apis.md").read_text(), re.DOTALL | re.MULTILINE
)


@pytest.fixture(scope="module")
async def user(platform: Platform) -> AsyncIterator[SdkUser]:
    async with sdk_user(platform) as somebody:
        yield somebody


def test_there_are_some() -> None:
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
async def test_runs(user: SdkUser, example: str) -> None:
    # `curl` takes an error for an answer unless told otherwise.
    script = example.replace(".venv/bin/python", sys.executable).replace("curl -s", "curl --fail-with-body -s")
    process = await asyncio.create_subprocess_exec(
        *("bash", "-eu", "-c", script),
        cwd=ROOT,
        env={**os.environ, "URL": user.url, "TOKEN": user.token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await within_bound(process.communicate())

    assert process.returncode == 0, (output.decode(), errors.decode())
    assert len(output) > 20
    assert b'"error"' not in output, output.decode()
