"""A real Vault for the tests: an OpenBao server that they may seal, stop and start again, or one that is there already.

`VAULT_ADDR=https://… VAULT_TOKEN=… make test-vault` has them use an existing server of HashiCorp's or OpenBao's, by the
variables its own command line knows, also VAULT_CACERT and VAULT_NAMESPACE. They touch nothing there but mounts,
policies and a role of their own, which they remove at the end. Other commands leave that server alone, though the
variables are set.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import certifi
import hvac
import pytest
import requests

from deploy.local.binaries import BAO
from deploy.local.ports import PortReservation
from deploy.vault.bootstrap import DEFAULT_PLACE, Place, bootstrap, issue_secret_id, role_id
from libs.redaction import Secret
from tests.support.tethered import start_tethered

_START_SECONDS = 30


class VaultServer:
    """A server prepared as in production. `operator` is a client that may do everything.

    One that the tests have not started cannot be sealed or stopped; a test that must is skipped there.
    """

    def __init__(
        self,
        address: str,
        authority: Path,
        token: str = "",
        place: Place = DEFAULT_PLACE,
        namespace: str | None = None,
    ) -> None:
        self.address = address
        self.authority = authority
        self.place = place
        self.namespace = namespace
        self.operator = self.client(token)

    def client(self, token: str = "") -> hvac.Client:
        """Returns a client with the rights of a token."""
        session = requests.Session()
        session.verify = str(self.authority)
        session.trust_env = False
        return hvac.Client(self.address, token=token, namespace=self.namespace, session=session, timeout=5)

    def stop(self) -> None:
        """Stops the server; its data stays."""
        _needs_own_server()

    def start(self) -> None:
        """Starts the server, which is ready and unsealed afterwards. Blocking."""
        _needs_own_server()

    def seal(self) -> None:
        """Seals the server: it answers, and does nothing."""
        _needs_own_server()

    def unseal(self) -> None:
        """Unseals the server. Returns when it is active."""
        _needs_own_server()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Keeps the server from answering for the time of the block, though it takes connections."""
        _needs_own_server()
        yield

    def log(self) -> str:
        """Returns what the server has logged; empty where that cannot be known."""
        return ""

    def app_role(self) -> tuple[str, Secret]:
        """Returns the role id and a new secret id of the key vault."""
        return role_id(self.operator, self.place), Secret(issue_secret_id(self.operator, self.place))

    def settings(self) -> dict[str, str]:
        """Returns the variables that lead the key vault here, with a new login."""
        role, secret = self.app_role()
        variables = {
            "ADDRESS": self.address,
            "CA": str(self.authority),
            "ROLE_ID": role,
            "SECRET_ID": secret.reveal(),
            "AUTH_MOUNT": self.place.approle,
            "TRANSIT_MOUNT": self.place.transit,
        }
        if self.namespace:
            variables["NAMESPACE"] = self.namespace
        return {f"KEY_VAULT_VAULT_{name}": value for name, value in variables.items()}

    def rotate(self, purpose: str) -> None:
        """Makes a new version of an encryption key, as an operator at the server may."""
        self.operator.secrets.transit.rotate_key(purpose, mount_point=self.place.transit)

    def service_tokens(self) -> list[dict[str, Any]]:
        """Returns what is known of each token that the key vault has logged in for."""
        found = []
        answer = self.operator.list("auth/token/accessors")  # None where there is no token at all, as in a namespace
        for accessor in answer["data"]["keys"] if answer else ():
            try:
                token = self.operator.auth.token.lookup_accessor(accessor)["data"]
            except hvac.exceptions.VaultError:
                continue  # has expired since it was listed
            if token["path"].startswith((f"auth/{self.place.approle}/", f"auth/{self.place.kubernetes}/")):
                found.append(token)
        return found

    def revoke_service_tokens(self) -> None:
        """Revokes every token that the key vault has logged in for."""
        for token in self.service_tokens():
            self.operator.auth.token.revoke_accessor(token["accessor"])

    @contextmanager
    def changed_policy(self, policy: str) -> Iterator[None]:
        """Gives the key vault other rights for the time of the block."""
        for name in self.place.policies:
            self.operator.sys.create_or_update_policy(name, policy)
        try:
            yield
        finally:
            bootstrap(self.operator, self.place)

    @contextmanager
    def without_transit_key(self) -> Iterator[None]:
        """Takes the transit engine's keys away for the time of the block, and makes new ones: nothing old opens."""
        self.operator.sys.disable_secrets_engine(self.place.transit)
        self.operator.sys.enable_secrets_engine("transit", path=self.place.transit)
        try:
            yield
        finally:
            bootstrap(self.operator, self.place)

    @contextmanager
    def changed_role(self, **parameters: str) -> Iterator[None]:
        """Changes the key vault's AppRole for logins in the time of the block."""
        approle, place = self.operator.auth.approle, self.place
        role = approle.read_role(place.role, mount_point=place.approle)["data"]
        approle.create_or_update_approle(place.role, mount_point=place.approle, **parameters)
        try:
            yield
        finally:
            before = {name: role[name] for name in parameters}
            approle.create_or_update_approle(place.role, mount_point=place.approle, **before)

    def remove_traces(self, place: Place) -> None:
        """Removes everything that `bootstrap` has made there."""
        system = self.operator.sys
        for method in (place.approle, place.kubernetes):
            if f"{method}/" in system.list_auth_methods()["data"]:
                system.disable_auth_method(method)
        if f"{place.transit}/" in system.list_mounted_secrets_engines()["data"]:
            system.disable_secrets_engine(place.transit)
        for policy in place.policies:
            system.delete_policy(policy)


class OwnVaultServer(VaultServer):
    """An OpenBao server of the tests alone, over TLS."""

    def __init__(self, folder: Path, identity: Path, port: int, cluster_port: int) -> None:
        super().__init__(f"https://127.0.0.1:{port}", identity / "ca.crt")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._unseal_key = ""
        data = folder / "data"
        data.mkdir()
        (folder / "config.hcl").write_text(
            f"""
            api_addr = "{self.address}"
            cluster_addr = "https://127.0.0.1:{cluster_port}"
            storage "raft" {{
              path = "{data}"
              node_id = "test"
              performance_multiplier = 1
            }}
            listener "tcp" {{
              address = "127.0.0.1:{port}"
              cluster_address = "127.0.0.1:{cluster_port}"
              tls_cert_file = "{identity / "tls.crt"}"
              tls_key_file = "{identity / "tls.key"}"
            }}
            """
        )

    def start(self) -> None:
        """Starts the server, which is ready and unsealed afterwards. Blocking."""
        server = [BAO, "server", f"-config={self._folder / 'config.hcl'}"]
        self._process = start_tethered(self._folder, server, on_orphaned="SIGKILL")
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)
        if not self.operator.sys.is_initialized():
            keys = self.operator.sys.initialize(secret_shares=1, secret_threshold=1)
            self._unseal_key, self.operator.token = keys["keys"][0], keys["root_token"]
            self.unseal()
            bootstrap(self.operator)
        else:
            self.unseal()

    def stop(self) -> None:
        """Stops the server; its data stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    def seal(self) -> None:
        """Seals the server: it answers, and does nothing."""
        self.operator.sys.seal()

    def become(self, original: OwnVaultServer) -> None:
        """Makes it known that this server is sealed and entered by the keys of another, whose data it has."""
        self._unseal_key, self.operator.token = original._unseal_key, original.operator.token

    def unseal(self) -> None:
        """Unseals the server. Returns when it is active."""
        self.operator.sys.submit_unseal_key(self._unseal_key)
        deadline = time.monotonic() + _START_SECONDS
        # A dictionary means 200: unsealed and active. Anything else is the response itself.
        while not isinstance(self.operator.sys.read_health_status(method="GET"), dict):
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Keeps the server from answering for the time of the block, though it takes connections."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # The signal is sent; on a busy machine a thread may still run for a moment.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """Returns what the server has logged."""
        return (self._folder / "log").read_text()

    def _answers(self) -> bool:
        try:
            self.operator.sys.read_seal_status()
        except requests.ConnectionError:
            return False
        return True


def _needs_own_server() -> None:
    pytest.skip("seals, stops or freezes the server, which is not done to one that others may use")


@contextmanager
def _existing_server(address: str) -> Iterator[VaultServer]:
    name = f"realmultillm-test-{uuid.uuid4().hex[:8]}"
    place = Place(f"{name}-transit", f"{name}-approle", f"{name}-kubernetes", name)
    authority = Path(os.environ.get("VAULT_CACERT") or certifi.where()).absolute()
    # Said once, and not by each test.
    token = os.environ.get("VAULT_TOKEN") or pytest.exit(
        "VAULT_TOKEN is missing: a token that may prepare the server.", 2
    )
    if not authority.is_file():
        pytest.exit(f"VAULT_CACERT names no file: {authority}", 2)
    server = VaultServer(address, authority, token, place, os.environ.get("VAULT_NAMESPACE"))
    try:
        try:
            bootstrap(server.operator, place)
        except (hvac.exceptions.VaultError, requests.RequestException) as error:
            pytest.exit(f"The Vault at {address} cannot be prepared for the tests: {error}", 2)
        yield server
    finally:
        with suppress(requests.RequestException):
            server.remove_traces(place)


@contextmanager
def own_vault(folder: Path, identity: Path) -> Iterator[OwnVaultServer]:
    """Runs a server with its data in a folder."""
    ports = PortReservation()
    port, cluster_port = ports.take(["vault", "vault-cluster"], {}).values()
    server = OwnVaultServer(folder, identity, port, cluster_port)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        ports.release()


@pytest.fixture(scope="session")
def vault(tmp_path_factory: pytest.TempPathFactory, pki_folder: Path) -> Iterator[VaultServer]:
    """The server of this session. A test that seals or stops it restores it."""
    address = os.environ.get("TEST_VAULT_ADDR")
    with (
        _existing_server(address) if address else own_vault(tmp_path_factory.mktemp("vault"), pki_folder / "vault")
    ) as server:
        yield server
