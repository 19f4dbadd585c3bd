"""Worker for the provider that WORKER_PROVIDER names: chats with it on behalf of people who stored a key for it."""

from __future__ import annotations

from libs.provider_catalog import load_catalog
from libs.rpc.server import run
from libs.settings import from_env
from libs.worker.bootstrap import serve_worker
from libs.worker.settings import PREFIX
from services.workers.openai_compatible.adapter import adapter_of
from services.workers.openai_compatible.settings import Settings


async def main() -> None:
    settings = from_env(Settings, PREFIX)
    adapter = adapter_of(settings.row.provider, load_catalog(settings.row.catalog))
    await serve_worker(adapter, settings)


if __name__ == "__main__":
    run(main(), holds_keys=True)
