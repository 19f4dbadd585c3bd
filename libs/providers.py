"""What providers, and the services that talk to them, may be called. Which there are says `libs.provider_catalog`."""

from __future__ import annotations

import re

_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# With the prefix of its worker, an id still fits into a label of DNS.
LONGEST_ID = 40
# They stand where an id does in paths of the API, such as /api/chat/auto and /auto/v1/models.
RESERVED_IDS = ("api", "auto", "compare", "history", "test", "v1")

_WORKER = "worker-"


def is_provider_id(text: str) -> bool:
    """Tells whether a text may be the id of a provider: it stands in URLs, certificates and names of hosts."""
    return len(text) <= LONGEST_ID and _ID.fullmatch(text) is not None and text not in RESERVED_IDS


def worker_service(provider: str) -> str:
    """Returns the name of a provider's worker: in its certificate, as a process and as a cluster."""
    return _WORKER + provider


def provider_of(service: str) -> str | None:
    """Returns whose worker a service is by its name, None when it is no worker."""
    provider = service.removeprefix(_WORKER)
    return provider if provider != service and is_provider_id(provider) else None
