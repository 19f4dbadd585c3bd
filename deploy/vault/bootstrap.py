"""Prepares a Vault or OpenBao server for the platform: transit keys, policies, a login. Safe to repeat.

As a command, against a server that exists already, with a token that may do all of this:

    python -m deploy.vault.bootstrap --address https://vault:8200 --ca ca.crt --token-file token \
        --role-id-file role-id --secret-id-file secret-id

and in a cluster, where Vault knows the service account of the key vault by its Kubernetes auth method:

    python -m deploy.vault.bootstrap --address https://vault:8200 --ca ca.crt --token-file token \
        --kubernetes-namespace realmultillm
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac
import requests
from hvac.exceptions import Forbidden, InvalidRequest, VaultDown, VaultError, VaultNotInitialized

TRANSIT_KEYS = ("provider-keys", "chat-history")
# One policy for each purpose, so that what a token may do can be read, and given to two services one day.
POLICIES = ("token", *TRANSIT_KEYS)
_KEY_TYPE = "aes256-gcm96"
_SERVICE = "key-vault"
_LOGIN_PERIOD = "1h"  # renewed by the service; a leaked one dies within the hour


class UnusableKey(Exception):
    """A transit key that exists already is not one that the platform may use; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the platform's things are in a server: names of mounts, and what names of roles and policies begin with."""

    transit: str = "transit"
    approle: str = "approle"
    kubernetes: str = "kubernetes"
    role: str = _SERVICE

    def policy(self, purpose: str) -> str:
        """Returns the name of the policy for a purpose."""
        return f"{self.role}-{purpose}"

    @property
    def policies(self) -> list[str]:
        """All policies of the service."""
        return [self.policy(purpose) for purpose in POLICIES]


DEFAULT_PLACE = Place()


def bootstrap(
    client: hvac.Client, place: Place = DEFAULT_PLACE, *, tell: Callable[[str], None] = lambda _step: None
) -> None:
    """Creates what is missing for a login by AppRole and brings policies and role up to date. Blocking.

    `tell` hears of each step. Raises UnusableKey, and hvac.exceptions.VaultError when the server refuses or cannot be
    reached.
    """
    prepare_transit(client, place, tell=tell)
    _enable_auth(client, "approle", place.approle, tell)
    client.auth.approle.create_or_update_approle(
        place.role,
        token_policies=place.policies,
        token_no_default_policy=True,
        token_period=_LOGIN_PERIOD,
        mount_point=place.approle,
    )
    tell(f"AppRole {place.role} may use {', '.join(place.policies)}")


def bootstrap_kubernetes(
    client: hvac.Client,
    namespace: str,
    place: Place = DEFAULT_PLACE,
    *,
    audience: str | None = None,
    tell: Callable[[str], None] = lambda _step: None,
) -> None:
    """Creates what is missing for a login as the service account `key-vault` of a namespace. Blocking.

    With an `audience`, the account's token must have been issued for it, so that one shown to others is of no use here.
    How Vault reaches the cluster is the operator's to configure, at `auth/kubernetes/config`. Raises like `bootstrap`.
    """
    prepare_transit(client, place, tell=tell)
    _enable_auth(client, "kubernetes", place.kubernetes, tell)
    # As it is, not by the method of hvac, which does not know all of these parameters.
    client.adapter.post(
        f"/v1/auth/{place.kubernetes}/role/{place.role}",
        json={
            "bound_service_account_names": [_SERVICE],
            "bound_service_account_namespaces": [namespace],
            "token_policies": place.policies,
            "token_no_default_policy": True,
            "token_period": _LOGIN_PERIOD,
            "audience": audience or "",
        },
    )
    tell(f"service account {namespace}/{_SERVICE} may log in as {place.role}")


def prepare_transit(client: hvac.Client, place: Place, *, tell: Callable[[str], None] = lambda _: None) -> None:
    """Creates the transit engine and its keys where they are missing, and brings the policies up to date. Blocking."""
    if f"{place.transit}/" not in client.sys.list_mounted_secrets_engines()["data"]:
        client.sys.enable_secrets_engine("transit", path=place.transit)
        tell(f"transit engine mounted at {place.transit}/")
    for name in TRANSIT_KEYS:
        # Creating a key that exists changes nothing. Derived: each context has its own key, so that what was
        # sealed for one user and provider does not open for another.
        client.secrets.transit.create_key(name, derived=True, key_type=_KEY_TYPE, mount_point=place.transit)
        key = client.secrets.transit.read_key(name, mount_point=place.transit)["data"]
        if problem := _unusable(key):
            raise UnusableKey(
                f"The transit key {place.transit}/{name} that is there already {problem}; "
                "name another mount, or remove the key if nothing needs it."
            )
        tell(f"transit key {place.transit}/{name} is there, version {key['latest_version']}")
    for purpose in POLICIES:
        text = Path(__file__).with_name(f"{_SERVICE}-{purpose}.hcl").read_text().replace("{mount}", place.transit)
        client.sys.create_or_update_policy(place.policy(purpose), text)
        tell(f"policy {place.policy(purpose)} is up to date")


def role_id(client: hvac.Client, place: Place = DEFAULT_PLACE) -> str:
    """Returns the public half of the key-vault's login."""
    return str(client.auth.approle.read_role_id(place.role, mount_point=place.approle)["data"]["role_id"])


def issue_secret_id(client: hvac.Client, place: Place = DEFAULT_PLACE) -> str:
    """Returns a new secret half of the key-vault's login; earlier ones stay valid."""
    return str(client.auth.approle.generate_secret_id(place.role, mount_point=place.approle)["data"]["secret_id"])


def is_valid_secret_id(client: hvac.Client, secret_id: str) -> bool:
    """Tells whether the key-vault can still log in with a secret id."""
    try:
        answer = client.auth.approle.read_secret_id(_SERVICE, secret_id)
    except InvalidRequest:
        return False
    # An unknown secret id is answered by 204 and no body, which hvac hands on as the response itself.
    return isinstance(answer, dict)


def _enable_auth(client: hvac.Client, method: str, mount: str, tell: Callable[[str], None]) -> None:
    if f"{mount}/" not in client.sys.list_auth_methods()["data"]:
        client.sys.enable_auth_method(method, path=mount)
        tell(f"auth method {method} enabled at {mount}/")


def _unusable(key: dict[str, Any]) -> str | None:
    if key["type"] != _KEY_TYPE:
        return f"is of type {key['type']}, not {_KEY_TYPE}"
    if not key["derived"]:
        return "is not derived, so that what is sealed for one person would open for another"
    if key["exportable"] or key["allow_plaintext_backup"]:
        return "can be taken out of the server"
    return None


def main() -> None:
    """Bootstraps the server named on the command line; for an AppRole, writes the key-vault's login."""
    parser = argparse.ArgumentParser(description="Prepare a Vault or OpenBao server for the platform.")
    parser.add_argument("--address", required=True, help="https://host:port")
    parser.add_argument("--ca", required=True, help="certificate of the authority that issued the server's")
    parser.add_argument("--token-file", required=True, type=Path, help="file with a token that may do all of this")
    parser.add_argument("--namespace", help="namespace of all of it, where the server has any")
    parser.add_argument(
        "--transit-mount", default=DEFAULT_PLACE.transit, help="where the transit engine is, or shall be"
    )
    parser.add_argument("--role-id-file", type=Path, help="where to write the role id (0600)")
    parser.add_argument("--secret-id-file", type=Path, help="where to write a new secret id (0600)")
    parser.add_argument(
        "--kubernetes-namespace", help="log in as the service account key-vault of this namespace instead"
    )
    parser.add_argument("--kubernetes-audience", help="what the token of that account must have been issued for")
    arguments = parser.parse_args()
    by_app_role = arguments.role_id_file is not None and arguments.secret_id_file is not None
    if by_app_role == (arguments.kubernetes_namespace is not None):
        parser.error("give --role-id-file and --secret-id-file, or --kubernetes-namespace")
    place = Place(transit=arguments.transit_mount)
    try:
        with requests.Session() as session:
            session.verify = arguments.ca
            session.trust_env = False  # neither proxies nor other authorities from the environment
            client = hvac.Client(
                arguments.address,
                token=arguments.token_file.read_text().strip(),
                namespace=arguments.namespace,
                session=session,
            )
            if by_app_role:
                bootstrap(client, place, tell=print)
                _write_private(arguments.role_id_file, role_id(client))
                _write_private(arguments.secret_id_file, issue_secret_id(client))
                print(f"login written to {arguments.role_id_file} and {arguments.secret_id_file}")
            else:
                bootstrap_kubernetes(
                    client,
                    arguments.kubernetes_namespace,
                    place,
                    audience=arguments.kubernetes_audience,
                    tell=print,
                )
    except (UnusableKey, VaultError, OSError) as error:
        sys.exit(f"The server could not be prepared: {_explanation(error)}")


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)  # others may have leave to read an earlier one
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _explanation(error: Exception) -> str:
    match error:
        case Forbidden():
            return "it refuses the token in --token-file, or that token may not do all of this."
        case VaultDown() | VaultNotInitialized():
            return "it is sealed or not initialized; do that first, then repeat this."
        case requests.exceptions.SSLError():
            return "its certificate is not of the authority in --ca, or not for the name in --address."
        case requests.RequestException():
            return "it cannot be reached at --address."
        case _:
            return str(error)


if __name__ == "__main__":
    main()
