"""Runs the sandbox provider until told to stop: `python -m deploy.local.sandbox_provider --port 9000`."""

import argparse
import asyncio
import signal

import uvloop

from deploy.local.sandbox_provider.server import running


async def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="sandbox_provider", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all there are")
    parser.add_argument("--port", type=int, default=9000, help="0 for a free one")
    parser.add_argument("--chunk-delay-ms", type=int, default=0, help="between the chunks of a stream")
    arguments = parser.parse_args()
    stopped = asyncio.Event()
    for stop in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(stop, stopped.set)
    async with running(host=arguments.host, port=arguments.port, chunk_delay_ms=arguments.chunk_delay_ms) as base_url:
        print(f"sandbox provider on {base_url}", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    uvloop.run(main())
