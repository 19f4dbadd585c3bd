"""Prepares a Vault or OpenBao server for the platform: transit keys, policies, AppRoles. Safe to repeat.

As a command, against a server that exists already, with a token that may do all of this:

    python -m deploy.vault.bootstrap --address https://vault:8200 --ca ca.crt --token-file token \
        --role-id-file role-id --secret-id-file secret-id
"""

import argparse
from pathlib import Path

import hvac
from hvac.exceptions import InvalidRequest

TRANSIT_KEYS = ("provider-keys", "chat-history")
_ROLE = "key-vault"
_LOGIN_PERIOD = "1h"  # renewed by the service; a leaked one dies within the hour


def bootstrap(client: hvac.Client) -> None:
    """Creates what is missing and brings the policy and role up to date. Blocking.

    Raises hvac.exceptions.VaultError when the server refuses or cannot be reached.
    """
    if "transit/" not in client.sys.list_mounted_secrets_engines()["data"]:
        client.sys.enable_secrets_engine("transit")
    for name in TRANSIT_KEYS:
        # Creating a key that exists changes nothing. Derived: each context has its own key, so that what was
        # sealed for one user and provider does not open for another.
        client.secrets.transit.create_key(name, derived=True, key_type="aes256-gcm96")
    if "approle/" not in client.sys.list_auth_methods()["data"]:
        client.sys.enable_auth_method("approle")
    client.sys.create_or_update_policy(_ROLE, Path(__file__).with_name(f"{_ROLE}.hcl").read_text())
    client.auth.approle.create_or_update_approle(
        _ROLE, token_policies=[_ROLE], token_no_default_policy=True, token_period=_LOGIN_PERIOD
    )


def role_id(client: hvac.Client) -> str:
    """Returns the public half of the key-vault's login."""
    return str(client.auth.approle.read_role_id(_ROLE)["data"]["role_id"])


def issue_secret_id(client: hvac.Client) -> str:
    """Returns a new secret half of the key-vault's login; earlier ones stay valid."""
    return str(client.auth.approle.generate_secret_id(_ROLE)["data"]["secret_id"])


def is_valid_secret_id(client: hvac.Client, secret_id: str) -> bool:
    """Tells whether the key-vault can still log in with a secret id."""
    try:
        answer = client.auth.approle.read_secret_id(_ROLE, secret_id)
    except InvalidRequest:
        return False
    # An unknown secret id is answered by 204 and no body, which hvac hands on as the response itself.
    return isinstance(answer, dict)


def main() -> None:
    """Bootstraps the server named on the command line and writes the key-vault's login."""
    parser = argparse.ArgumentParser(description="Prepare a Vault or OpenBao server for the platform.")
    parser.add_argument("--address", required=True, help="https://host:port")
    parser.add_argument("--ca", required=True, help="certificate of the authority that issued the server's")
    parser.add_argument("--token-file", required=True, type=Path, help="file with a token that may do all of this")
    parser.add_argument("--role-id-file", required=True, type=Path, help="where to write the role id")
    parser.add_argument("--secret-id-file", required=True, type=Path, help="where to write a new secret id (0600)")
    arguments = parser.parse_args()
    client = hvac.Client(arguments.address, token=arguments.token_file.read_text().strip(), verify=arguments.ca)
    bootstrap(client)
    arguments.role_id_file.write_text(role_id(client))
    arguments.secret_id_file.touch(mode=0o600)
    arguments.secret_id_file.write_text(issue_secret_id(client))


if __name__ == "__main__":
    main()
