"""`make admin`: how the operator of a local stack makes administrators, and what these may do then."""

import asyncio
import os
import sys
import uuid
from pathlib import Path

import httpx
import pytest

from deploy.local.accounts import make_admin
from deploy.local.infrastructure import ROOT
from deploy.local.stack import StackError
from tests.e2e.conftest import PASSWORD, Person, Platform, error_of
from tests.support.waiting import eventually

# The command, of a stack with its state elsewhere.
_COMMAND = """
import sys
from pathlib import Path
from deploy.local import __main__ as command
command._STATE = Path(sys.argv.pop(1))
command.main()
"""


async def run(state: Path, **environment: str) -> tuple[int | None, str, str]:
    """Runs `python -m deploy.local admin` as make does; returns its status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _COMMAND, str(state), "admin"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


async def sign_in(http: httpx.AsyncClient, email: str, password: str) -> str:
    """Signs an administrator in, and has the client speak for them; returns the role."""
    answer = (await http.post("/api/auth/signin", json={"email": email, "password": password})).json()
    http.headers["authorization"] = f"Bearer {answer['token']}"
    return str(answer["user"]["role"])


@pytest.fixture
def email() -> str:
    return f"{uuid.uuid4().hex}@example.com"


class TestFunction:
    async def test_creates_an_account_with_a_password_shown_once(self, platform: Platform, email: str):
        said = (await make_admin(platform.stack, email)).splitlines()
        assert said[0] == f"Created the account {email}, an administrator."
        async with platform.client() as http:
            assert await sign_in(http, email, said[1].rpartition(" ")[2]) == "admin"
            found = (await http.get("/api/admin/users", params={"query": email, "role": "admin"})).json()
            assert [user["email"] for user in found["users"]] == [email]
        assert await make_admin(platform.stack, email) == f"{email} is an administrator already."

    async def test_promotes_who_has_signed_up(self, platform: Platform, person: Person):
        assert error_of(await person.http.get("/api/admin/users")) == (403, "PERMISSION_DENIED")
        assert "password of the account stay" in await make_admin(platform.stack, person.email.upper())
        assert error_of(await person.http.get("/api/admin/users")) == (401, "UNAUTHENTICATED")
        async with platform.client() as http:
            assert await sign_in(http, person.email, PASSWORD) == "admin"

    async def test_says_what_is_wrong_with_an_email(self, platform: Platform):
        for wrong in ("nobody", "--help", ""):
            with pytest.raises(StackError, match="No administrator was made: email: "):
                await make_admin(platform.stack, wrong)


class TestCommand:
    async def test_makes_an_administrator_of_a_stack_that_runs(self, platform: Platform, email: str):
        status, stdout, stderr = await run(platform.stack.layout.state, EMAIL=email)
        assert (status, stderr) == (0, "")
        created, shown = stdout.splitlines()
        assert created == f"Created the account {email}, an administrator."
        async with platform.client() as http:
            assert await sign_in(http, email, shown.rpartition(" ")[2]) == "admin"

    async def test_says_that_the_stack_is_down(self, tmp_path: Path, email: str):
        status, stdout, stderr = await run(tmp_path / "state", EMAIL=email)
        assert (status, stdout) == (1, "")
        assert "`make up` starts it" in stderr

    async def test_says_whom_it_needs_to_know(self, platform: Platform):
        status, _, stderr = await run(platform.stack.layout.state)
        assert status == 1
        assert "make admin EMAIL=someone@example.com" in stderr

    async def test_says_what_is_wrong_with_an_email(self, platform: Platform):
        status, stdout, stderr = await run(platform.stack.layout.state, EMAIL="nobody")
        assert (status, stdout) == (1, "")
        assert "email: must be an email address" in stderr
        assert "Traceback" not in stderr


class TestAdministration:
    """The same as over gRPC, through the front door."""

    async def test_disables_and_enables(self, platform: Platform, person: Person, email: str):
        said = await make_admin(platform.stack, email)
        async with platform.client() as http:
            await sign_in(http, email, said.rpartition(" ")[2])
            path = f"/api/admin/users/{person.user_id}"
            assert (await http.get(path)).json()["openSessions"] == 1
            token = (await person.http.post("/api/auth/tokens", json={"name": "program"})).json()["token"]
            async with platform.client(token) as program:
                assert (await program.get("/api/models/openai")).status_code == 200
                disabled = (await http.patch(path, json={"disabled": True})).json()
                assert (disabled["disabled"], disabled["openSessions"], disabled["apiTokens"]) == (True, 0, 1)
                assert "disableTime" in disabled
                refused = await eventually(
                    lambda: program.get("/api/models/openai"), lambda answer: answer.status_code != 200
                )
                assert error_of(refused) == (401, "UNAUTHENTICATED")
                assert error_of(await person.http.get("/api/auth/session")) == (401, "UNAUTHENTICATED")
                assert (await http.patch(path, json={"disabled": False})).json()["disabled"] is False
                assert (await program.get("/api/models/openai")).status_code == 200
            assert error_of(await http.patch(path, json={})) == (400, "INVALID_ARGUMENT")
            assert error_of(await http.patch(path, json={"role": "root"})) == (400, "INVALID_ARGUMENT")
            assert error_of(await http.get("/api/admin/users/nobody")) == (404, "NOT_FOUND")
            assert error_of(await http.get("/api/admin/users?pageToken=nonsense")) == (400, "INVALID_ARGUMENT")
