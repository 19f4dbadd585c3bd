"""The accounts a local stack comes with: an administrator, and a demo user who can chat at once."""

import asyncio
import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from deploy.local.infrastructure import ROOT
from deploy.local.private_files import write_private
from deploy.local.stack import LocalStack, StackError
from deploy.local.topology import Role

# What follows the prefix by which the sandbox knows the keys of a provider it plays.
_SANDBOX_KEY = "-demo-0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What `.local/credentials.json` holds; the names are those of its fields."""

    baseUrl: str  # noqa: N815
    adminEmail: str  # noqa: N815
    adminPassword: str  # noqa: N815
    userEmail: str  # noqa: N815
    userPassword: str  # noqa: N815


def keep_credentials(path: Path, base_url: str) -> Credentials:
    """Returns the stored credentials under the current address; makes them up on first use."""
    try:
        stored = json.loads(path.read_text())
    except (OSError, ValueError):
        stored = {
            "adminEmail": "admin@example.com",
            "adminPassword": secrets.token_urlsafe(18),
            "userEmail": "demo@example.com",
            "userPassword": secrets.token_urlsafe(18),
        }
    credentials = Credentials(**{**stored, "baseUrl": base_url})
    write_private(path, json.dumps(asdict(credentials), indent=2) + "\n")
    return credentials


async def open_accounts(stack: LocalStack, client: httpx.AsyncClient, credentials: Credentials) -> str:
    """Makes sure that both accounts exist, and returns a token of the demo user. Raises StackError."""
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(make_admin(stack, credentials.adminEmail, credentials.adminPassword))
            signing_in = tasks.create_task(sign_in_demo(client, credentials))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return signing_in.result()


async def make_admin(stack: LocalStack, email: str, password: str | None = None) -> str:
    """Makes the account of an email an administrator's, and says what that took. Raises StackError.

    The password is that of a new account; without one, it is made up and part of what is said.
    """
    options = [f"--email={email}"]
    if password is not None:
        options += ["--password-file", str(write_private(stack.layout.secrets / "admin-password", password))]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.auth.create_admin", *options,
        cwd=ROOT, env=stack.environment("auth"),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = output.decode(errors="replace").strip()
    if process.returncode != 0:
        raise StackError(said)
    return said


async def sign_in_demo(client: httpx.AsyncClient, credentials: Credentials) -> str:
    """Signs the demo user in, up at first, and returns the token. Raises StackError."""
    login = {"email": credentials.userEmail, "password": credentials.userPassword}
    answer = await client.post("/api/auth/signup", json={**login, "name": "Demo"})
    if answer.status_code == httpx.codes.CONFLICT:
        answer = await client.post("/api/auth/signin", json=login)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise StackError(
                "The demo account has another password than .local/credentials.json says; "
                "put that file back as it was, or start with nothing by `make clean`."
            )
    return str(_expect_ok(answer, "The demo user could not sign in")["token"])


async def store_sandbox_keys(client: httpx.AsyncClient, token: str, roles: Mapping[str, Role]) -> None:
    """Stores a key of every provider that the sandbox plays for the signed-in user. Raises StackError."""

    async def store(provider: str, role: Role) -> None:
        answer = await client.post(
            f"/api/provider-config/{provider}",
            json={"apiKey": role.key_prefix + _SANDBOX_KEY},
            headers={"authorization": f"Bearer {token}"},
        )
        _expect_ok(answer, f"The demo user's key of {provider} could not be stored")

    try:
        async with asyncio.TaskGroup() as tasks:
            for provider, role in roles.items():
                tasks.create_task(store(provider, role))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _expect_ok(answer: httpx.Response, failure: str) -> dict[str, object]:
    if not answer.is_success:
        raise StackError(f"{failure}: {answer.status_code} {answer.text.strip()}")
    body: dict[str, object] = answer.json()
    return body
