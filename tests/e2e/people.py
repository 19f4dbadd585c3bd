"""One person of every kind there is, by what their token may do."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import httpx

from deploy.local.accounts import make_admin
from deploy.local.topology import SANDBOX_ROLES
from tests.e2e.conftest import PASSWORD, Person, Platform

SCOPES = ("chat", "models:read", "config", "analytics:read", "admin")
SESSION = frozenset({*SCOPES, "session"})


@dataclass(frozen=True)
class Caller:
    """Somebody's token: `role` and `scopes` are what it is good for; without a role it is good for nothing."""

    name: str
    token: str = field(repr=False, default="")
    role: str | None = None
    scopes: frozenset[str] = frozenset()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What their calls carry."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()


@asynccontextmanager
async def administrator(platform: Platform) -> AsyncIterator[Person]:
    """Somebody who signed up, was made an administrator and has signed in again."""
    async with platform.person(with_key=False) as person:
        await make_admin(platform.stack, person.email)
        token = await signed_in(platform, person)
        person.http.headers["authorization"] = f"Bearer {token}"
        yield replace(person, token=token)


@dataclass(frozen=True)
class KeyOwner:
    """Somebody with a key of several providers, each unlike anybody else's; `keys` are by provider id."""

    person: Person
    keys: Mapping[str, str] = field(repr=False)


@asynccontextmanager
async def owner_of_keys(
    platform: Platform, providers: Collection[str] = tuple(SANDBOX_ROLES)
) -> AsyncIterator[KeyOwner]:
    """Signs somebody up and stores a key of each of these providers for them."""
    async with platform.person(with_key=False) as person:
        keys = {provider: f"{SANDBOX_ROLES[provider].key_prefix}-{uuid.uuid4().hex}" for provider in providers}
        for provider, key in keys.items():
            stored = await person.http.post(f"/api/provider-config/{provider}", json={"apiKey": key})
            assert stored.json()["testResult"]["success"], stored.text
        yield KeyOwner(person, keys)


@asynccontextmanager
async def everyone(platform: Platform, admin: Person) -> AsyncIterator[list[Caller]]:
    """A caller of every kind, each with a token that nobody else has."""
    async with AsyncExitStack() as stack:
        user, other, leaving, disabled, demoted = [
            await stack.enter_async_context(platform.person(with_key=False)) for _ in range(5)
        ]
        admins = await stack.enter_async_context(platform.client(await signed_in(platform, admin)))
        callers = [
            Caller("nobody"),
            Caller("a user", user.token, "user", SESSION),
            Caller("another user", other.token, "user", SESSION),
            Caller("an administrator", await signed_in(platform, admin), "admin", SESSION),
        ]
        for scope in SCOPES:
            token = await api_token(admins, scope)
            callers.append(Caller(f"an administrator's token for {scope}", token, "admin", frozenset({scope})))
        for scope in SCOPES[:-1]:
            token = await api_token(user.http, scope)
            callers.append(Caller(f"a user's token for {scope}", token, "user", frozenset({scope})))

        path = f"/api/admin/users/{demoted.user_id}"
        (await admins.patch(path, json={"role": "admin"})).raise_for_status()
        once_admins = await api_token(demoted.http, "admin")
        (await admins.patch(path, json={"role": "user"})).raise_for_status()
        # The scope is lost with the role.
        callers.append(Caller("the token of an administrator no more", once_admins, "user", frozenset()))

        revoked = await api_token(leaving.http, *SCOPES[:-1])
        (listed,) = (await leaving.http.get("/api/auth/tokens")).json()["tokens"]
        (await leaving.http.delete(f"/api/auth/tokens/{listed['id']}")).raise_for_status()
        (await leaving.http.post("/api/auth/signout")).raise_for_status()
        of_the_disabled = await api_token(disabled.http, *SCOPES[:-1])
        (await admins.patch(f"/api/admin/users/{disabled.user_id}", json={"disabled": True})).raise_for_status()
        yield [
            *callers,
            Caller("a revoked session", leaving.token),
            Caller("a revoked API token", revoked),
            Caller("the session of a disabled account", disabled.token),
            Caller("the API token of a disabled account", of_the_disabled),
        ]


async def signed_in(platform: Platform, person: Person) -> str:
    """Opens another session of a person, and returns its token."""
    async with platform.client() as http:
        answer = await http.post("/api/auth/signin", json={"email": person.email, "password": PASSWORD})
    answer.raise_for_status()
    return str(answer.json()["token"])


async def api_token(http: httpx.AsyncClient, *scopes: str) -> str:
    """Makes an API token of whoever the client speaks for."""
    answer = await http.post("/api/auth/tokens", json={"name": "for a test", "scopes": scopes})
    answer.raise_for_status()
    return str(answer.json()["token"])
