"""Worker for Google AI: chats with Gemini models on behalf of people who stored a key for them."""

from __future__ import annotations

from libs.rpc.server import run
from libs.worker.bootstrap import serve_worker
from services.workers.google_ai.adapter import ADAPTER

if __name__ == "__main__":
    run(serve_worker(ADAPTER), holds_keys=True)
