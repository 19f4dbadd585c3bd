"""Gives every call its request id and, when it is over, one log line."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from typing import Any

from libs.redaction import redact
from libs.rpc.identity import Call
from libs.rpc.pipeline import Proceed
from libs.telemetry import log_own_facts

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
# Called every few seconds by machines; their success is not worth a line.
_QUIET = ("/grpc.health.v1.", "/grpc.reflection.")


class CallLog:
    """Outermost: sees how the call ended, whatever happened inside."""

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        call.request_id = _request_id(call.context)
        started = time.perf_counter()
        try:
            return await proceed()
        except asyncio.CancelledError:
            call.facts["code"] = "CANCELLED"
            raise
        finally:
            code = call.facts.pop("code", "OK")
            if code != "OK" or not call.method.startswith(_QUIET):
                log_own_facts(
                    "call",
                    method=call.method,
                    code=code,
                    ms=round((time.perf_counter() - started) * 1000, 2),
                    request_id=call.request_id,
                    peer=call.peer,
                    user=call.principal.user_id if call.principal else "",
                    **call.facts,
                )


def _request_id(context: Any) -> str:
    """Takes over the caller's id when it has the form of one, so that nobody writes into our logs."""
    for name, value in context.invocation_metadata():
        # A token has the form of an id too, and what is taken over is logged and stored as it is.
        if name == "x-request-id" and _REQUEST_ID.fullmatch(value) and redact(value) == value:
            return str(value)
    return str(uuid.uuid4())
