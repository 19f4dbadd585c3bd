"""Worker for OpenAI: chats with OpenAI on behalf of people who stored a key for it."""

from __future__ import annotations

from libs.rpc.server import run
from libs.worker.bootstrap import serve_worker
from services.workers.openai.adapter import ADAPTER

if __name__ == "__main__":
    run(serve_worker(ADAPTER), holds_keys=True)
