"""The two roles of a service in Postgres, by their names.

The service runs as the role named like its schema, which may read and change rows. The schema and its tables belong to
another, as whom the migrations run: whoever takes over a service can neither change its tables nor what the migrations
have taken from it.
"""

from __future__ import annotations

_OWNER = "_owner"


def owner_of(role: str) -> str:
    """Returns the role that owns the tables of a service, which runs as `role`."""
    return f"{role}{_OWNER}"


def role_of(owner: str) -> str | None:
    """Returns the role as which the service runs whose tables `owner` owns; None for a role that is no owner."""
    return owner.removesuffix(_OWNER) if owner.endswith(_OWNER) else None
