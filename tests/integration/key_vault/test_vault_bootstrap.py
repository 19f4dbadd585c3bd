"""Preparing a real Vault: what is made, what is refused, and what the service's token may do afterwards."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hvac
import hvac.exceptions
import pytest

from deploy.vault.bootstrap import TRANSIT_KEYS, Place, UnusableKey, bootstrap, bootstrap_kubernetes, prepare_transit
from libs.database import ROOT
from tests.support.vault import VaultServer

CONTEXT = {"context": "YWxpY2U="}


@pytest.fixture
def place(vault: VaultServer) -> Iterator[Place]:
    """Names that are free in the server."""
    name = f"{vault.place.role}-{uuid.uuid4().hex[:8]}"
    place = Place(f"{name}-transit", f"{name}-approle", f"{name}-kubernetes", name)
    yield place
    vault.remove_traces(place)


@pytest.fixture(scope="module")
def service(vault: VaultServer) -> Iterator[hvac.Client]:
    """A client with the rights of the key vault."""
    role_id, secret_id = vault.app_role()
    client = vault.client()
    client.auth.approle.login(role_id, secret_id.reveal(), mount_point=vault.place.approle)
    yield client
    client.auth.token.revoke_self()


class TestBootstrap:
    def test_again_it_changes_nothing_and_what_is_sealed_still_opens(self, vault: VaultServer, place: Place) -> None:
        bootstrap(vault.operator, place)
        transit = vault.operator.secrets.transit
        transit.rotate_key("provider-keys", mount_point=place.transit)
        sealed = transit.encrypt_data("provider-keys", "aGVsbG8=", **CONTEXT, mount_point=place.transit)
        before, steps = state(vault, place), list[str]()

        bootstrap(vault.operator, place, tell=steps.append)
        bootstrap_kubernetes(vault.operator, "realmultillm", place)
        bootstrap_kubernetes(vault.operator, "realmultillm", place)

        assert state(vault, place) == before
        ciphertext = sealed["data"]["ciphertext"]
        opened = transit.decrypt_data("provider-keys", ciphertext, **CONTEXT, mount_point=place.transit)
        assert opened["data"]["plaintext"] == "aGVsbG8="
        assert not [step for step in steps if "mounted" in step or "enabled" in step]
        assert f"transit key {place.transit}/provider-keys is there, version 2" in steps

    def test_what_else_is_in_the_server_stays(self, vault: VaultServer, place: Place) -> None:
        other = f"{place.transit}-other"
        vault.operator.sys.enable_secrets_engine("transit", path=place.transit)
        vault.operator.secrets.transit.create_key("theirs", mount_point=place.transit)
        vault.operator.sys.enable_secrets_engine("kv", path=other)
        try:
            before = vault.operator.sys.list_mounted_secrets_engines()["data"]
            bootstrap(vault.operator, place)
            assert vault.operator.sys.list_mounted_secrets_engines()["data"] == before
            keys = vault.operator.secrets.transit.list_keys(mount_point=place.transit)["data"]["keys"]
            assert sorted(keys) == sorted([*TRANSIT_KEYS, "theirs"])
        finally:
            vault.operator.sys.disable_secrets_engine(other)

    @pytest.mark.parametrize(
        ("parameters", "problem"),
        [
            ({"key_type": "aes256-gcm96"}, "is not derived"),
            ({"key_type": "aes256-gcm96", "derived": True, "exportable": True}, "can be taken out"),
            ({"key_type": "aes256-gcm96", "derived": True, "allow_plaintext_backup": True}, "can be taken out"),
            ({"key_type": "chacha20-poly1305", "derived": True}, "is of type chacha20-poly1305, not aes256-gcm96"),
        ],
        ids=["not derived", "exportable", "with backups", "another type"],
    )
    def test_a_key_that_must_not_be_used_is_refused(
        self, vault: VaultServer, place: Place, parameters: dict[str, Any], problem: str
    ) -> None:
        vault.operator.sys.enable_secrets_engine("transit", path=place.transit)
        vault.operator.secrets.transit.create_key("chat-history", mount_point=place.transit, **parameters)

        with pytest.raises(UnusableKey, match=f"{place.transit}/chat-history.*{problem}.*name another mount"):
            prepare_transit(vault.operator, place)

        assert not set(place.policies) & set(vault.operator.sys.list_policies()["data"]["keys"])


class TestRights:
    """What a token of the key vault may do, by asking with one."""

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            *[
                (method, f"{{transit}}/{path.format(key=key)}", body)
                for key in TRANSIT_KEYS
                for method, path, body in [
                    ("POST", "keys/{key}/config", {"exportable": True}),
                    ("POST", "keys/{key}/config", {"allow_plaintext_backup": True}),
                    ("POST", "keys/{key}/config", {"deletion_allowed": True}),
                    ("POST", "keys/{key}/config", {"min_decryption_version": 1, "deletion_allowed": True}),
                    ("POST", "keys/{key}/config", {"min_encryption_version": 1}),
                    ("POST", "keys/{key}/config", {"auto_rotate_period": "1h"}),
                    ("POST", "keys/{key}/trim", {"min_available_version": 1}),
                    ("POST", "keys/{key}", {"type": "aes256-gcm96"}),
                    ("DELETE", "keys/{key}", None),
                    ("POST", "keys/{key}/import_version", {"ciphertext": "AAAA"}),
                    ("GET", "export/encryption-key/{key}", None),
                    ("GET", "export/encryption-key/{key}/latest", None),
                    ("GET", "byok-export/another/{key}", None),
                    ("GET", "backup/{key}", None),
                    ("POST", "restore/{key}", {"backup": "AAAA"}),
                    ("POST", "datakey/wrapped/{key}", CONTEXT),
                    ("POST", "hmac/{key}", {"input": "AAAA"}),
                ]
            ],
            # Neither purpose does what only the other needs.
            ("POST", "{transit}/encrypt/chat-history", {"plaintext": "AAAA", **CONTEXT}),
            ("POST", "{transit}/datakey/plaintext/provider-keys", CONTEXT),
            ("POST", "{transit}/keys/another", {"derived": True}),
            ("GET", "{transit}/keys/another", None),
            ("POST", "{transit}/encrypt/another", {"plaintext": "AAAA", **CONTEXT}),
            ("POST", "{transit}/decrypt/another", {"ciphertext": "vault:v1:AAAA", **CONTEXT}),
            ("LIST", "{transit}/keys", None),
            ("POST", "{transit}/cache-config", {"size": 0}),
            ("GET", "sys/mounts", None),
            ("GET", "sys/auth", None),
            ("POST", "sys/mounts/another", {"type": "kv"}),
            ("DELETE", "sys/mounts/{transit}", None),
            ("POST", "sys/auth/another", {"type": "userpass"}),
            ("GET", "sys/policies/acl/{role}-token", None),
            ("PUT", "sys/policies/acl/{role}-token", {"policy": 'path "*" { capabilities = ["sudo"] }'}),
            ("POST", "sys/capabilities-self", {"paths": ["sys/mounts"]}),
            ("POST", "sys/wrapping/wrap", {"a": "b"}),
            ("GET", "cubbyhole/anything", None),
            ("POST", "auth/token/create", {}),
            ("POST", "auth/token/create-orphan", {}),
            ("LIST", "auth/token/accessors", None),
            ("POST", "auth/{approle}/role/{role}/secret-id", {}),
            ("GET", "auth/{approle}/role/{role}/role-id", None),
            ("POST", "auth/{approle}/role/{role}", {"token_policies": "root"}),
            ("POST", "identity/entity", {"name": "another"}),
        ],
    )
    def test_anything_else_is_denied(
        self, vault: VaultServer, service: hvac.Client, method: str, path: str, body: dict[str, Any] | None
    ) -> None:
        place = vault.place
        path = path.format(transit=place.transit, approle=place.approle, role=place.role)
        with pytest.raises(hvac.exceptions.Forbidden):
            service.adapter.request(method, f"/v1/{path}", **({} if body is None else {"json": body}))

    def test_what_the_service_does_is_allowed(self, vault: VaultServer, service: hvac.Client) -> None:
        def post(path: str, **body: Any) -> dict[str, Any]:
            answer: dict[str, Any] = service.adapter.post(f"/v1/{vault.place.transit}/{path}", json=body)
            return answer

        sealed = {
            "provider-keys": post("encrypt/provider-keys", plaintext="aGVsbG8=", **CONTEXT),
            "chat-history": post("datakey/plaintext/chat-history", **CONTEXT),
        }
        for key, answer in sealed.items():
            ciphertext = answer["data"]["ciphertext"]
            post(f"decrypt/{key}", ciphertext=ciphertext, **CONTEXT)
            post(f"keys/{key}/rotate")
            post(f"rewrap/{key}", ciphertext=ciphertext, **CONTEXT)
            post(f"keys/{key}/config", min_decryption_version=1)
            assert service.adapter.get(f"/v1/{vault.place.transit}/keys/{key}")["data"]["latest_version"] > 1
        service.auth.token.lookup_self()
        service.auth.token.renew_self()

    def test_a_token_lives_for_an_hour_with_these_policies_alone(
        self, vault: VaultServer, service: hvac.Client
    ) -> None:
        token = service.auth.token.lookup_self()["data"]
        assert sorted(token["policies"]) == sorted(vault.place.policies)
        assert (token["period"], token["num_uses"], token["orphan"]) == (3600, 0, True)


class TestCommand:
    """`python -m deploy.vault.bootstrap`, run as an operator does."""

    @pytest.fixture
    def arguments(self, vault: VaultServer, tmp_path: Path) -> dict[str, str]:
        """What it takes for a login by AppRole."""
        (tmp_path / "token").write_text(f"{vault.operator.token}\n")
        arguments = {
            "--address": vault.address,
            "--ca": str(vault.authority),
            "--token-file": str(tmp_path / "token"),
            "--role-id-file": str(tmp_path / "role-id"),
            "--secret-id-file": str(tmp_path / "secret-id"),
        }
        return arguments if vault.namespace is None else {**arguments, "--namespace": vault.namespace}

    async def test_it_prepares_a_server_and_writes_a_login_nobody_else_reads(
        self, own_vault: VaultServer, arguments: dict[str, str], tmp_path: Path
    ) -> None:
        secret_file = tmp_path / "secret-id"
        secret_file.write_text("an earlier one, for all to read")
        secret_file.chmod(0o644)

        status, output = await run(arguments)

        assert status == 0, output
        for step in ("transit/provider-keys is there", "transit/chat-history is there", "AppRole key-vault may use"):
            assert step in output
        for file in (tmp_path / "role-id", secret_file):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        secret_id = secret_file.read_text()
        assert secret_id not in output
        assert arguments["--token-file"] not in output
        assert str(own_vault.operator.token) not in output
        client = own_vault.client()
        client.auth.approle.login((tmp_path / "role-id").read_text(), secret_id)
        client.auth.token.revoke_self()

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"--token-file": "wrong-token"}, "refuses the token"),
            ({"--address": "https://127.0.0.1:1"}, "cannot be reached"),
            ({"--ca": "missing"}, "missing"),
            ({"--token-file": "missing"}, "missing"),
        ],
        ids=["token", "address", "authority", "file"],
    )
    async def test_what_is_wrong_is_told_in_one_line(
        self, arguments: dict[str, str], tmp_path: Path, wrong: dict[str, str], told: str
    ) -> None:
        (tmp_path / "wrong-token").write_text("s.wrong")
        ((name, value),) = wrong.items()
        arguments[name] = value if "://" in value else str(tmp_path / value)

        status, output = await run(arguments)

        assert status == 1
        assert told in output
        assert len(output.splitlines()) == 1, output
        assert not (tmp_path / "secret-id").exists()

    @pytest.mark.parametrize("unwanted", [("--secret-id-file",), ("--role-id-file", "--secret-id-file")])
    async def test_it_wants_exactly_one_login(self, arguments: dict[str, str], unwanted: tuple[str, ...]) -> None:
        for name in unwanted:
            del arguments[name]
        status, output = await run(arguments)
        assert status == 2
        assert "give --role-id-file and --secret-id-file, or --kubernetes-namespace" in output


@pytest.fixture
def own_vault(vault: VaultServer) -> VaultServer:
    """A server whose usual mounts and roles are the tests' to change."""
    if vault.place != Place():
        pytest.skip("uses the usual names, which in a server that others use may be theirs")
    return vault


def state(vault: VaultServer, place: Place) -> dict[str, Any]:
    """Returns what `bootstrap` makes, as it is."""
    operator = vault.operator
    return {
        "keys": [
            operator.secrets.transit.read_key(key, mount_point=place.transit)["data"]["keys"] for key in TRANSIT_KEYS
        ],
        "policies": [operator.sys.read_policy(policy)["data"]["rules"] for policy in place.policies],
        "role": operator.auth.approle.read_role(place.role, mount_point=place.approle)["data"],
        "role id": operator.auth.approle.read_role_id(place.role, mount_point=place.approle)["data"],
    }


async def run(arguments: dict[str, str]) -> tuple[int | None, str]:
    """Runs the command and returns its exit status and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "deploy.vault.bootstrap",
        *(word for pair in arguments.items() for word in pair),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(30):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode, output.decode()
