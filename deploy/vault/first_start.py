"""Takes a server that unseals itself from its first start to one the key vault can log in at. Safe to repeat."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import hvac
import requests

from deploy.local.private_files import write_private
from deploy.vault import bootstrap


class NotServing(Exception):
    """The server does not serve yet; the message says what it answered."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Files with what comes of a first start: two for the operator alone, and the login of the key vault.

    Nothing asks for the recovery key of a server that unseals itself.
    """

    root_token: Path
    recovery_key: Path
    role_id: Path
    secret_id: Path


def prepare(client: hvac.Client, kept: Kept) -> None:
    """Initialises the server on first use, and prepares it for the services. Blocking.

    The login of the key vault stays as it is for as long as it is valid. Raises NotServing.
    """
    try:
        if not client.sys.is_initialized():
            made = client.sys.initialize(recovery_shares=1, recovery_threshold=1)
            write_private(kept.root_token, made["root_token"])
            write_private(kept.recovery_key, made["recovery_keys_base64"][0])
        health = client.sys.read_health_status(method="GET", standby_ok=False)
        # A dictionary means 200: initialised, unsealed and active. Anything else is the response itself.
        if not isinstance(health, dict):
            raise NotServing(f"its health is {health.status_code}")
        client.token = kept.root_token.read_text()
        bootstrap.bootstrap(client)
        _keep_login(client, kept)
    except (hvac.exceptions.VaultDown, hvac.exceptions.InternalServerError) as error:
        raise NotServing(str(error)) from None
    except requests.RequestException as error:
        raise NotServing(type(error).__name__) from None


def _keep_login(client: hvac.Client, kept: Kept) -> None:
    role = bootstrap.role_id(client)
    if not (kept.role_id.exists() and kept.role_id.read_text() == role):
        write_private(kept.role_id, role)
    if not (kept.secret_id.exists() and bootstrap.is_valid_secret_id(client, kept.secret_id.read_text())):
        write_private(kept.secret_id, bootstrap.issue_secret_id(client))
