"""Waits for the Vault of docker-compose.yml, initialises it on first use, and prepares it for the platform.

`python -m deploy.compose.vault --address https://vault:8200 --ca ca.crt --operator folder --login folder`; the one
folder is for the root token and the recovery key, the other for the login of the key vault. Safe to repeat.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import hvac

from deploy.vault import first_start
from deploy.vault.bootstrap import UnusableKey

_PAUSE_SECONDS = 0.5


def main() -> None:
    """Prepares the server named on the command line, as soon as it serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True, help="https://host:port")
    parser.add_argument("--ca", required=True, type=Path, help="certificate of the authority that issued the server's")
    parser.add_argument("--operator", required=True, type=Path, help="folder for the root token and the recovery key")
    parser.add_argument("--login", required=True, type=Path, help="folder for the login of the key vault")
    parser.add_argument("--within", type=float, default=120, help="how long the server may take to serve, in seconds")
    arguments = parser.parse_args()
    kept = first_start.Kept(
        root_token=arguments.operator / "root-token",
        recovery_key=arguments.operator / "recovery-key",
        role_id=arguments.login / "role-id",
        secret_id=arguments.login / "secret-id",
    )
    client = hvac.Client(arguments.address, verify=str(arguments.ca), timeout=20)
    try:
        _prepare_when_serving(client, kept, time.monotonic() + arguments.within)
    except (first_start.NotServing, UnusableKey, hvac.exceptions.VaultError, OSError) as error:
        sys.exit(f"Vault could not be prepared: {error}")
    print("Vault is ready, and the key vault can log in.")


def _prepare_when_serving(client: hvac.Client, kept: first_start.Kept, deadline: float) -> None:
    while True:
        try:
            return first_start.prepare(client, kept)
        except first_start.NotServing:
            if time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    main()
