"""Runs RealMultiLLM on this machine: `python -m deploy.local COMMAND`, run or up first. See `make help`."""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import httpx

from deploy.local.accounts import Credentials, keep_credentials, make_admin, open_accounts, store_sandbox_keys
from deploy.local.first_chat import lines_to_paste, stream_chat
from deploy.local.infrastructure import ROOT
from deploy.local.log_view import LogView, last_lines, paint
from deploy.local.ports import PortTaken
from deploy.local.stack import AlreadyRunning, LocalStack, StackError, StartFailed
from deploy.local.supervision import ProcessState, StillAlive, SupervisorGone
from deploy.local.tether import die_with_parent
from libs.settings import SettingsError
from libs.tracing import check_endpoint

_STATE = ROOT / ".local"
_WATCH_SECONDS = 0.5
_INTERRUPTED = 130


def main() -> None:
    """Runs the command; every failure is told in words, and as exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description="RealMultiLLM on this machine.")
    commands: dict[str, Callable[[], Awaitable[int]]] = {
        "run": run, "up": up, "down": down, "status": status, "logs": logs, "admin": admin,
        "rotate-keys": rotate_keys, "rewrap-history": rewrap_history, "reprice": reprice,
    }  # fmt: skip
    parser.add_argument("command", choices=commands)
    arguments = parser.parse_args()
    if sys.platform != "linux":
        sys.exit("The local stack needs Linux; elsewhere use a Linux machine or container, WSL2, or docker compose.")
    try:
        sys.exit(asyncio.run(_until_interrupted(commands[arguments.command]())))
    except (StackError, PortTaken, StillAlive, SettingsError) as error:
        _explain(error)
        sys.exit(1)


async def _until_interrupted(command: Awaitable[int]) -> int:
    """Awaits a command, and cancels it on the first Ctrl-C or SIGTERM; further ones do not disturb the stopping."""
    task = asyncio.ensure_future(command)
    loop = asyncio.get_running_loop()
    interrupted = asyncio.Event()

    def interrupt() -> None:
        if not interrupted.is_set():
            interrupted.set()
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        return _INTERRUPTED


async def run() -> int:
    """Starts everything, shows a first chat, then follows the logs until Ctrl-C, which stops everything."""
    stack = _stack(detached=False)
    _end_with_make()
    begun = time.monotonic()
    await _start(stack)
    try:
        await _welcome(stack, begun)
        print(f"\nCtrl-C stops everything. Logs: {_shown(stack.layout.log)} (all of them here with VERBOSE=1).\n")
        return await _attend(stack)
    except asyncio.CancelledError:
        # Ctrl-C is how a run that came up ends.
        return 0
    finally:
        await _stop(stack)


async def up() -> int:
    """Starts everything in the background; when it runs already, says so."""
    stack = _stack(detached=True)
    begun = time.monotonic()
    try:
        await _start(stack)
    except AlreadyRunning:
        print(f"It is up: {stack.base_url} (`make status` for details).")
        return 0
    try:
        await _welcome(stack, begun)
    except BaseException:
        await _stop(stack)
        raise
    print("\nIt stays up in the background: `make status`, `make logs`, `make down`.")
    return 0


async def down() -> int:
    """Stops everything."""
    stack = _stack(detached=True)
    if await stack.is_running():
        await _stop(stack)
    else:
        print("It is down.")
    return 0


async def status() -> int:
    """Says what runs; exit code 1 when not everything does."""
    stack = _stack(detached=True)
    try:
        states = await stack.states()
    except SupervisorGone:
        print("It is down: `make run` or `make up` starts it.")
        return 1
    for state in states.values():
        print(f"  {_mark(state.state == 'RUNNING')} {state.name:<18} {state.state.lower():<9} {state.spoken}")
    print(f"  {stack.base_url}  {stack.https_url}  credentials: {_shown(_STATE / 'credentials.json')}")
    return 0 if all(state.state == "RUNNING" for state in states.values()) else 1


async def logs() -> int:
    """Follows the logs of a stack, from their beginning, until Ctrl-C."""
    stack = _stack(detached=True)
    try:
        # What runs may have been started with another catalogue.
        processes = list(await stack.states())
    except SupervisorGone:
        processes = stack.processes
    await _log_view(stack, processes).follow()
    return 0


async def admin() -> int:
    """Makes the account of EMAIL an administrator's; the stack must be up."""
    email = os.environ.get("EMAIL", "").strip()
    if not email:
        raise StackError("Say whose account: make admin EMAIL=someone@example.com.")
    stack = _stack(detached=True)
    if not await stack.is_running():
        raise StackError("The stack is down: `make run` or `make up` starts it; then make the administrator.")
    print(await make_admin(stack, email))
    return 0


async def rotate_keys() -> int:
    """Rotates the encryption key of PURPOSE, or provider-keys, and shows how far it is; the stack must be up."""
    purpose = os.environ.get("PURPOSE", "").strip() or "provider-keys"
    return await _command("key-vault", "services.key_vault.rotate_keys", f"--purpose={purpose}")


async def rewrap_history() -> int:
    """Wraps the data keys of the history anew by the latest version of their encryption key; the stack must be up."""
    return await _command("analytics", "services.analytics.rewrap_history")


async def reprice() -> int:
    """Prices the chats FROM a day TO another anew, those with PROVIDER, of MODEL; changes them with APPLY only."""
    options = {name: os.environ.get(name.upper(), "").strip() for name in ("from", "to", "provider", "model")}
    if not options["from"]:
        raise StackError("Say since when: `make reprice FROM=2026-11-01`, and APPLY=1 to change what it finds.")
    options |= {"models": os.environ.get("MODELS", ""), "catalog": os.environ.get("CATALOG", "")}
    arguments = [f"--{name}={value}" for name, value in options.items() if value]
    if os.environ.get("APPLY", "").strip() not in ("", "0"):
        arguments.append("--apply")
    return await _command("analytics", "services.analytics.reprice", *arguments)


async def _command(service: str, module: str, *arguments: str) -> int:
    """Runs a command of a service, with that service's settings, and returns its status; the stack must be up."""
    stack = _stack(detached=True)
    if not await stack.is_running():
        raise StackError("The stack is down: `make run` or `make up` starts it; then run this again.")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments,
        cwd=ROOT, env=stack.environment(service), stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _end_with_make() -> None:
    """Ends in order should `make` be killed, which its own signal handling cannot cover."""
    if "MAKELEVEL" in os.environ:
        die_with_parent(os.getppid(), signal.SIGTERM)


def _stack(*, detached: bool) -> LocalStack:
    port = _port("PORT", 8080)
    return LocalStack(
        _STATE,
        port=port,
        https_port=_port("HTTPS_PORT", port + 363),
        catalog=_file("CATALOG"),
        models=_file("MODELS"),
        otlp=_collector(),
        replicas=_replicas(),
        sandbox=_providers() == "sandbox",
        # A pace at which a person sees that an answer streams.
        chunk_delay_ms=30,
        detached=detached,
    )


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise StackError(f"{variable}={text} is not a port; choose a number from 1 to 65535.")
    return int(text)


def _file(variable: str) -> Path | None:
    path = os.environ.get(variable)
    return Path(path) if path else None


def _collector() -> str | None:
    endpoint = os.environ.get("OTLP") or None
    if endpoint is not None:
        try:
            check_endpoint(endpoint)
        except SettingsError as error:
            raise StackError(f"OTLP={endpoint} cannot be used: {error}") from None
    return endpoint


def _replicas() -> dict[str, int]:
    pairs = [pair.partition("=") for pair in os.environ.get("REPLICAS", "").split(",") if pair.strip()]
    if not all(count.strip().isdecimal() for _, _, count in pairs):
        raise StackError("REPLICAS must say how many of which services, like REPLICAS=worker-openai=3,auth=2.")
    return {name.strip(): int(count) for name, _, count in pairs}


def _providers() -> str:
    providers = os.environ.get("PROVIDERS") or "sandbox"
    if providers not in ("sandbox", "live"):
        raise StackError(f"PROVIDERS={providers} is not known; choose sandbox (the default) or live.")
    return providers


async def _start(stack: LocalStack) -> None:
    if not await stack.is_running():
        providers = "the sandbox provider" if _providers() == "sandbox" else "the real providers"
        print(f"Starting RealMultiLLM with {providers}:", flush=True)
    await stack.start(_tell_ready)


def _tell_ready(name: str, seconds: float) -> None:
    print(f"  {_mark(True)} {name:<18} {seconds:5.1f} s", flush=True)


async def _welcome(stack: LocalStack, begun: float) -> None:
    """Makes the accounts, has a first chat and says how to go on."""
    started = time.monotonic()
    credentials = keep_credentials(_STATE / "credentials.json", stack.base_url)
    async with httpx.AsyncClient(base_url=stack.base_url, timeout=30, trust_env=False) as client:
        token = await open_accounts(stack, client, credentials)
        _tell_ready("accounts", time.monotonic() - started)
        roles = stack.topology.roles
        if roles:
            await store_sandbox_keys(client, token, roles)
            await _show_first_chat(client, token, stack.topology.first_provider)
    print(f"\nReady in {time.monotonic() - begun:.1f} s: {paint(stack.base_url, 1)} and {stack.https_url}")
    _print_lines(credentials, stack.topology.first_provider, has_key=bool(roles))


async def _show_first_chat(client: httpx.AsyncClient, token: str, provider: str) -> None:
    print(f"\nA first chat, streamed from {provider} (the sandbox) through Envoy:\n  ", end="", flush=True)
    async for piece in stream_chat(client, token, provider):
        print(paint(piece, 32), end="", flush=True)
    print()


def _print_lines(credentials: Credentials, provider: str, *, has_key: bool) -> None:
    print(f"\nPaste into another terminal, in this order (both accounts: {_shown(_STATE / 'credentials.json')}):")
    for title, line in lines_to_paste(credentials, provider, has_key=has_key):
        print(f"\n{paint('# ' + title, 2)}\n{line}")


async def _attend(stack: LocalStack) -> int:
    """Shows logs and restarts; returns when the terminal or the supervisor is gone."""
    on_terminal = sys.stdout.isatty()
    view = _log_view(stack, stack.processes)
    view.skip_to_end()
    following = asyncio.create_task(view.follow())
    try:
        before = await stack.states()
        # `make` keeps the hangup of a closed terminal to itself when it leads the session, as under `ssh -t`.
        while sys.stdout.isatty() or not on_terminal:
            await asyncio.sleep(_WATCH_SECONDS)
            now = await stack.states()
            for name, state in now.items():
                _tell_change(before[name], state)
            before = now
        return 0
    except SupervisorGone:
        print("\nThe stack has ended: by `make down`, or because its supervisor was killed.", file=sys.stderr)
        return 1
    finally:
        following.cancel()


def _tell_change(before: ProcessState, now: ProcessState) -> None:
    if now.pid != before.pid and now.pid:
        print(f"  {paint('!', 33)} {now.name} had ended and was started again", flush=True)
    elif now.state != before.state and now.state in ("BACKOFF", "FATAL"):
        print(f"  {paint('!', 31)} {now.name} keeps ending: {now.spoken}", flush=True)


async def _stop(stack: LocalStack) -> None:
    begun = time.monotonic()
    was_running = await stack.is_running()
    await stack.stop()
    if was_running:
        print(f"\nStopped everything in {time.monotonic() - begun:.1f} s.", flush=True)


def _explain(error: Exception) -> None:
    print(f"\n{paint('✗', 31)} {error}", file=sys.stderr)
    if isinstance(error, StartFailed):
        lines = last_lines(error.log, 15)
        for line in lines:
            print(f"  {paint('│', 31)} {line}", file=sys.stderr)
        if lines:
            print(f"  The whole log: {_shown(error.log)}", file=sys.stderr)
    elif isinstance(error, AlreadyRunning):
        print("  `make status` shows it, `make logs` follows it, `make down` stops it.", file=sys.stderr)


def _log_view(stack: LocalStack, processes: Iterable[str]) -> LogView:
    paths = {name: stack.log_path(name) for name in processes}
    return LogView(paths, verbose=bool(os.environ.get("VERBOSE")))


def _mark(good: bool) -> str:
    return paint("✓", 32) if good else paint("✗", 31)


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    main()
