"""The OpenAI worker without authentication, access rules, limits, call log, credentials and outbox; for measuring.

Everything else is the product's own: the same server, servicer, adapter, HTTP client and streaming.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

import grpc
import uvloop
from realmultillm.chat.v1.chat_service_pb2_grpc import add_ChatServiceServicer_to_server

from libs.provider_endpoints import EndpointRules
from libs.provider_keys import ProviderKey
from libs.rpc.identity import Call, Principal
from libs.rpc.pipeline import Pipeline, Proceed
from libs.rpc.tls import TlsIdentity
from libs.worker.adapter import Credential
from libs.worker.chats import Chats
from libs.worker.servicer import WorkerChatServicer
from libs.worker.upstream import connect_upstream
from services.workers.openai.adapter import ADAPTER


class _Anybody:
    """Lets every call through as one person, unseen."""

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        call.principal = Principal("usr_bench", "user", "ses_bench", float("inf"), frozenset())
        return await proceed()


class _OneKey:
    def __init__(self, key: str) -> None:
        self._credential = Credential(api_key=ProviderKey(key))

    async def of(self, user_id: str) -> Credential:
        return self._credential


class _Nowhere:
    def append(self, fact: bytes) -> None:
        pass

    def check_writable(self) -> None:
        pass


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("listen", "tls-dir", "endpoint", "key"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    tls = TlsIdentity.load(Path(arguments.tls_dir))
    server = grpc.aio.server(interceptors=(Pipeline((_Anybody(),)),))
    rules = EndpointRules(["127.0.0.1"])
    async with connect_upstream(ADAPTER, arguments.endpoint, stream_idle_seconds=60, rules=rules) as upstream:
        chats = Chats(
            ADAPTER,
            upstream,
            _OneKey(arguments.key),
            _Nowhere(),
            max_concurrent=10_000,
            max_of_one_person=10_000,
            answer_seconds=60,
        )
        add_ChatServiceServicer_to_server(WorkerChatServicer(chats, ADAPTER), server)
        server.add_secure_port(arguments.listen, tls.server_credentials())
        await server.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
