"""Worker for OpenRouter: chats with OpenRouter on behalf of people who stored a key for it."""

from __future__ import annotations

from libs.rpc.server import run
from libs.settings import from_env
from libs.worker.bootstrap import serve_worker
from libs.worker.settings import PREFIX
from services.workers.openrouter.adapter import adapter_of
from services.workers.openrouter.settings import Settings


async def main() -> None:
    settings = from_env(Settings, PREFIX)
    await serve_worker(adapter_of(settings.app), settings)


if __name__ == "__main__":
    run(main(), holds_keys=True)
