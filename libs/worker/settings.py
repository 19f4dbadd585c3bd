"""Settings of a worker, the same for every provider. Prefix WORKER."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from libs.outbox import DEFAULT_LIMIT_BYTES
from libs.rpc.settings import RpcSettings
from libs.settings import setting

PREFIX = "WORKER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a worker needs to know beside its provider's adapter."""

    rpc: RpcSettings
    auth_address: str = setting("Address of auth, host:port.")
    key_vault_address: str = setting("Address of key_vault, host:port.")
    analytics_address: str = setting("Address of analytics, host:port.")
    data_dir: Path = setting(
        "Folder of this process alone, for usage records and events on their way to analytics and the audit log."
    )
    endpoint: str | None = setting(
        "Base URL of the provider's API, https://host/v1 without a slash at the end; its public one by default.",
        default=None,
    )
    private_endpoints: tuple[str, ...] = setting(
        "Host names, addresses and networks of providers' servers that need be neither public nor have https.",
        default=(),
    )
    max_concurrent_chats: int = setting(
        "Chats at a time; more are refused with SERVICE_OVERLOADED.", at_least=1, default=2000
    )
    max_concurrent_chats_per_person: int = setting(
        "Chats of one person at a time, in each worker; more are refused with RATE_LIMIT_EXCEEDED.",
        at_least=1,
        default=100,
    )
    answer_seconds: float = setting(
        "How long the provider may take for a whole answer, or for the first output of a streamed one, in seconds.",
        at_least=1,
        default=300.0,
    )
    stream_idle_seconds: float = setting(
        "How long a streamed answer may be silent, in seconds.", at_least=1, default=120.0
    )
    history: bool = setting(
        "Whether what was said in chats is kept, encrypted, for the history of whoever said it.", default=True
    )
    trace_content: bool = setting(
        "Whether traces tell what is kept of chats for their history; only for a collector that may know it.",
        default=False,
    )
    trace_to_provider: bool = setting(
        "Whether the provider is told the id of the trace, by the header traceparent.", default=False
    )
    outbox_max_bytes: int = setting(
        "How large the usage records may become that analytics has not taken yet; from four fifths of it on nothing is"
        " kept for the history, and at the limit chats are refused. Nothing is ever dropped.",
        at_least=1024 * 1024,
        default=DEFAULT_LIMIT_BYTES,
    )
    models: Path | None = setting(
        "TOML file with facts about models that go before those of the platform; read again when it changes.",
        default=None,
    )
