"""Rotates an encryption key: `python -m services.key_vault.rotate_keys [--purpose provider-keys] [--rewrap-only]`.

Takes the settings of the service, `KEY_VAULT_…`. Begins a rotation, or joins the one under way, and shows how far it is
until it ends. It carries the work itself unless a running replica does. To interrupt it costs nothing: replicas go on,
and so does this command when it is run again. Ends with status 0 when the rotation is complete, 1 when it is not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from uuid import UUID

from libs.audit import AuditEvent, connect_audit
from libs.database import connect
from libs.errors import FailedPrecondition, PlatformError, Unavailable
from libs.outbox import OutboxInUse
from libs.rpc.tls import TlsIdentity
from libs.settings import SettingsError, from_env
from libs.telemetry import configure_logging
from services.key_vault.models import KeyRotationRow, RotationState
from services.key_vault.rewrapping import Rewrapping
from services.key_vault.rotation_progress import Progress
from services.key_vault.rotations import Rotations
from services.key_vault.settings import PREFIX, Settings
from services.key_vault.transit import Purpose

_LOOK_SECONDS = 0.5
_INTERRUPTED = 130


async def rotate_key(purpose: Purpose, *, rewrap_only: bool, progress: Progress) -> KeyRotationRow:
    """Begins or joins a rotation, shows its progress, and returns how it ended. Raises SettingsError, PlatformError."""
    settings = from_env(Settings, PREFIX)
    # What the work itself has to say is shown as progress; this is for what goes wrong.
    configure_logging("rotate-keys", level="error", log_format=settings.rpc.log_format)
    tls = TlsIdentity.load(settings.rpc.tls_dir)
    async with (
        connect(settings.database.database_url, pool_size=2) as transactions,
        settings.connect_transit() as transit,
        # A folder of its own: the other is in use while the service runs.
        connect_audit(settings.auth_address, tls, settings.data_dir / "rotate-keys-audit") as audit,
    ):
        rewrapping = Rewrapping(transactions, transit, audit, rows_per_second=settings.rewrap_rows_per_second)
        rotations = Rotations(transactions, transit, audit, rewrapping.wake)
        async with rewrapping.going_on():
            rotation_id = await _begin_or_join(rotations, purpose, rewrap_only=rewrap_only, progress=progress)
            async for rotation in _followed(rotations, rotation_id, progress):
                progress.show(rotation, time.monotonic())
    return rotation


async def _begin_or_join(rotations: Rotations, purpose: Purpose, *, rewrap_only: bool, progress: Progress) -> UUID:
    try:
        begun = await rotations.begin(purpose, rewrap_only=rewrap_only, started_by="", describe=_by_operator)
    except FailedPrecondition:
        last = await rotations.last(purpose)
        if last is None or last.state != RotationState.RUNNING:
            raise
        progress.say(f"A rotation of {purpose} is under way; this follows it.")
        return last.id
    return begun.id


async def _followed(rotations: Rotations, rotation_id: UUID, progress: Progress) -> AsyncIterator[KeyRotationRow]:
    """Yields how a rotation stands, again and again until it has ended."""
    while True:
        try:
            rotation = await rotations.get(rotation_id)
        except Unavailable as error:
            progress.say(f"Waiting: {error.message}")
        else:
            yield rotation
            if rotation.state != RotationState.RUNNING:
                return
        await asyncio.sleep(_LOOK_SECONDS)


def _by_operator(action: str, *, resource: str, **details: str) -> AuditEvent:
    return AuditEvent(action, resource, details={**details, "by": "operator"})


async def _until_interrupted(purpose: Purpose, *, rewrap_only: bool) -> int:
    """Runs the command and returns its status."""
    progress = Progress(sys.stdout, updating=sys.stdout.isatty())
    task = asyncio.create_task(rotate_key(purpose, rewrap_only=rewrap_only, progress=progress))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        ended = await task
    except asyncio.CancelledError:
        progress.say("Interrupted. What was begun is not lost: replicas that run go on, and so does this command.")
        return _INTERRUPTED
    return 0 if ended.state == RotationState.COMPLETED else 1


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Rotate an encryption key, and seal anew what earlier versions sealed."
    )
    parser.add_argument("--purpose", choices=[*map(str, Purpose)], default=str(Purpose.PROVIDER_KEYS))
    parser.add_argument(
        "--rewrap-only", action="store_true", help="make no new version: for a rotation that ended incomplete"
    )
    arguments = parser.parse_args()
    try:
        sys.exit(asyncio.run(_until_interrupted(Purpose(arguments.purpose), rewrap_only=arguments.rewrap_only)))
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(os.EX_CONFIG)
    except PlatformError as error:
        print(f"No rotation was begun: {error}", file=sys.stderr)
        sys.exit(os.EX_TEMPFAIL)
    except OutboxInUse:
        print("Another rotation is being run by this command here; wait until it has ended.", file=sys.stderr)
        sys.exit(os.EX_TEMPFAIL)


if __name__ == "__main__":
    main()
