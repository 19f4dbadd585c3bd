"""How the key vault logs in to Vault: by AppRole, or as a service account of Kubernetes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from libs.redaction import Secret


class Login(Protocol):
    """What Vault is shown. `mount` is the path of the auth method."""

    @property
    def mount(self) -> str:
        """Path of the auth method."""
        ...

    def credentials(self) -> dict[str, str]:
        """Returns the body of the request, secrets in the clear. Blocking. Raises OSError, ValueError."""
        ...


@dataclass(frozen=True, slots=True)
class AppRole:
    """The two halves of an AppRole."""

    role_id: str
    secret_id: Secret
    mount: str = "approle"

    def credentials(self) -> dict[str, str]:
        """Returns the body of the request, secrets in the clear."""
        return {"role_id": self.role_id, "secret_id": self.secret_id.reveal()}


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """The token of the pod's service account, which the cluster replaces in its file now and then."""

    role: str
    token_path: Path
    mount: str = "kubernetes"

    def credentials(self) -> dict[str, str]:
        """Returns the body of the request, secrets in the clear. Blocking. Raises OSError, ValueError."""
        return {"role": self.role, "jwt": self.token_path.read_text(encoding="ascii").strip()}
