"""A real OpenBao server for the tests, that they may seal, stop and start again."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hvac
import pytest
import requests

from deploy.local.binaries import BAO
from deploy.local.ports import PortReservation
from deploy.vault.bootstrap import bootstrap, issue_secret_id, role_id
from libs.redaction import Secret
from tests.support.tethered import start_tethered

_START_SECONDS = 30


class VaultServer:
    """One server over TLS, prepared as in production. `operator` is a client that may do everything."""

    def __init__(self, folder: Path, identity: Path, port: int, cluster_port: int) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._unseal_key = ""
        self.authority = identity / "ca.crt"
        self.address = f"https://127.0.0.1:{port}"
        self.operator = hvac.Client(self.address, token="", verify=str(self.authority), timeout=5)
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

    def unseal(self) -> None:
        """Unseals the server. Returns when it is active."""
        self.operator.sys.submit_unseal_key(self._unseal_key)
        deadline = time.monotonic() + _START_SECONDS
        # A dictionary means 200: unsealed and active. Anything else is the response itself.
        while not isinstance(self.operator.sys.read_health_status(method="GET"), dict):
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def app_role(self) -> tuple[str, Secret]:
        """Returns the role id and a new secret id of the key vault."""
        return role_id(self.operator), Secret(issue_secret_id(self.operator))

    def service_tokens(self) -> list[dict[str, Any]]:
        """Returns what is known of each token that the key vault has logged in for."""
        found = []
        for accessor in self.operator.list("auth/token/accessors")["data"]["keys"]:
            try:
                token = self.operator.auth.token.lookup_accessor(accessor)["data"]
            except hvac.exceptions.VaultError:
                continue  # has expired since it was listed
            if token["path"].startswith("auth/approle/"):
                found.append(token)
        return found

    def revoke_service_tokens(self) -> None:
        """Revokes every token that the key vault has logged in for."""
        for token in self.service_tokens():
            self.operator.auth.token.revoke_accessor(token["accessor"])

    @contextmanager
    def changed_policy(self, policy: str) -> Iterator[None]:
        """Gives the key vault other rights for the time of the block."""
        self.operator.sys.create_or_update_policy("key-vault", policy)
        try:
            yield
        finally:
            bootstrap(self.operator)

    @contextmanager
    def without_transit_key(self) -> Iterator[None]:
        """Takes the transit engine's keys away for the time of the block, and makes new ones: nothing old opens."""
        self.operator.sys.disable_secrets_engine("transit")
        self.operator.sys.enable_secrets_engine("transit")
        try:
            yield
        finally:
            bootstrap(self.operator)

    @contextmanager
    def changed_role(self, **parameters: str) -> Iterator[None]:
        """Changes the key vault's AppRole for logins in the time of the block."""
        role = self.operator.auth.approle.read_role("key-vault")["data"]
        self.operator.auth.approle.create_or_update_approle("key-vault", **parameters)
        try:
            yield
        finally:
            self.operator.auth.approle.create_or_update_approle(
                "key-vault", **{name: role[name] for name in parameters}
            )

    def log(self) -> str:
        """Returns what the server has logged."""
        return (self._folder / "log").read_text()

    def _answers(self) -> bool:
        try:
            self.operator.sys.read_seal_status()
        except requests.ConnectionError:
            return False
        return True


@pytest.fixture(scope="session")
def vault(tmp_path_factory: pytest.TempPathFactory, pki_folder: Path) -> Iterator[VaultServer]:
    """The server of this session. A test that seals or stops it restores it."""
    ports = PortReservation()
    port, cluster_port = ports.take(["vault", "vault-cluster"], {}).values()
    server = VaultServer(tmp_path_factory.mktemp("vault"), pki_folder / "vault", port, cluster_port)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        ports.release()
