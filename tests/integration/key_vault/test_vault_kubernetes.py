"""A login as the pod's service account, with a real Vault and a cluster of which only the review of tokens is there."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from deploy.vault.bootstrap import Place, bootstrap_kubernetes
from libs.errors import Unavailable
from libs.provider_keys import ProviderKey
from services.key_vault.vault_login import ServiceAccount
from tests.integration.key_vault.deployment import connected_transit
from tests.support.vault import VaultServer

NAMESPACE = "realmultillm"
AUDIENCE = "vault"
REVIEWER = "the-token-vault-itself-shows-to-the-cluster"
OWNER = {"user_id": "usr_alice", "provider": "openai"}


class Cluster:
    """Issues tokens of service accounts, and tells Vault which of them are valid."""

    def __init__(self, identity: Path) -> None:
        self.reviewed: list[str] = []
        self.valid: dict[str, dict[str, Any]] = {}
        self._key = ec.generate_private_key(ec.SECP256R1())
        cluster = self

        class Reviews(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/apis/authentication.k8s.io/v1/tokenreviews"
                assert self.headers["authorization"] == f"Bearer {REVIEWER}"
                review = json.loads(self.rfile.read(int(self.headers["content-length"])))
                body = json.dumps(review | {"status": cluster.review(**review["spec"])}).encode()
                self.send_response(201)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Reviews)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity / "tls.crt", identity / "tls.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.address = f"https://127.0.0.1:{self.server.server_port}"

    def token(self, account: str = "key-vault", namespace: str = NAMESPACE, audience: str = AUDIENCE) -> str:
        """Returns a new token of a service account; those before stay valid."""
        uid = f"uid-of-{namespace}-{account}"
        claims = {
            "aud": [audience],
            "iss": "https://kubernetes.default.svc",
            "sub": f"system:serviceaccount:{namespace}:{account}",
            "jti": str(len(self.valid)),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": account, "uid": uid}},
        }
        token = _signed(claims, self._key)
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
        self.valid[token] = {"username": claims["sub"], "uid": uid, "groups": groups}
        return token

    def review(self, token: str, audiences: list[str]) -> dict[str, Any]:
        """Returns the status of a TokenReview."""
        self.reviewed.append(token)
        user = self.valid.get(token)
        return (
            {"authenticated": False}
            if user is None
            else {
                "authenticated": True,
                "user": user,
                "audiences": audiences,
            }
        )


@pytest.fixture(scope="module")
def cluster(vault: VaultServer, pki_folder: Path) -> Iterator[Cluster]:
    """A cluster that Vault knows."""
    if vault.place != Place():
        pytest.skip("the server would have to reach a cluster on this machine")
    cluster = Cluster(pki_folder / "vault")
    serving = threading.Thread(target=cluster.server.serve_forever, daemon=True)
    serving.start()
    bootstrap_kubernetes(vault.operator, NAMESPACE, audience=AUDIENCE)
    vault.operator.write_data(
        "auth/kubernetes/config",
        data={
            "kubernetes_host": cluster.address,
            "kubernetes_ca_cert": vault.authority.read_text(),
            "token_reviewer_jwt": REVIEWER,
            "disable_local_ca_jwt": True,
        },
    )
    yield cluster
    vault.operator.sys.disable_auth_method("kubernetes")
    cluster.server.shutdown()
    cluster.server.server_close()
    serving.join(timeout=10)


class TestServiceAccount:
    async def test_logs_in_with_what_its_file_holds_at_that_moment(
        self, vault: VaultServer, cluster: Cluster, tmp_path: Path
    ) -> None:
        file = tmp_path / "token"
        first = cluster.token()
        file.write_text(f"{first}\n")
        async with connected_transit(vault, login=ServiceAccount("key-vault", file)) as transit:
            ciphertext = await transit.seal(ProviderKey("sk-sandbox-in-a-pod"), **OWNER)
            assert set(cluster.reviewed) == {first}
            (known,) = await asyncio.to_thread(vault.service_tokens)
            assert (sorted(known["policies"]), known["period"]) == (sorted(vault.place.policies), 3600)

            # The cluster has replaced it, and does not accept the earlier one any more.
            second = cluster.token()
            file.write_text(second)
            del cluster.valid[first]
            cluster.reviewed.clear()
            await asyncio.to_thread(vault.revoke_service_tokens)
            assert (await transit.open(ciphertext, **OWNER)).reveal() == "sk-sandbox-in-a-pod"
            # On a slow machine Vault may have asked late about the first login, so that one can be among them.
            assert second in cluster.reviewed

    @pytest.mark.parametrize(
        "different",
        [{"account": "provider-router"}, {"namespace": "another"}, {"audience": "another"}],
        ids=["account", "namespace", "audience"],
    )
    async def test_of_another_name_namespace_or_audience_is_refused(
        self, vault: VaultServer, cluster: Cluster, tmp_path: Path, different: dict[str, str]
    ) -> None:
        (tmp_path / "token").write_text(cluster.token(**different))
        await _check_refusal(vault, tmp_path / "token", "refuses the login .* mends the Kubernetes role")

    async def test_that_the_cluster_does_not_know_is_refused(
        self, vault: VaultServer, cluster: Cluster, tmp_path: Path
    ) -> None:
        token = cluster.token()
        del cluster.valid[token]
        (tmp_path / "token").write_text(token)
        await _check_refusal(vault, tmp_path / "token", "refuses the login .* mends the Kubernetes role")

    async def test_without_its_file_says_which_one(self, vault: VaultServer, cluster: Cluster, tmp_path: Path) -> None:
        await _check_refusal(vault, tmp_path / "missing", "KEY_VAULT_VAULT_KUBERNETES_TOKEN_PATH names cannot be read")

    async def test_with_something_else_in_its_file_is_refused(
        self, vault: VaultServer, cluster: Cluster, tmp_path: Path
    ) -> None:
        (tmp_path / "token").write_bytes(b"\xff\xfe")
        await _check_refusal(vault, tmp_path / "token", "cannot be read")


async def _check_refusal(vault: VaultServer, file: Path, told: str) -> None:
    async with connected_transit(vault, login=ServiceAccount("key-vault", file)) as transit:
        with pytest.raises(Unavailable, match=told):
            await transit.ping()


def _signed(claims: dict[str, Any], key: ec.EllipticCurvePrivateKey) -> str:
    """Returns a JSON Web Token of ES256."""
    head = ".".join(_encoded(json.dumps(part).encode()) for part in ({"alg": "ES256", "typ": "JWT"}, claims))
    r, s = utils.decode_dss_signature(key.sign(head.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{head}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
