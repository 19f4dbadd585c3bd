"""Gives every call whose caller is being traced a span of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from libs.rpc.identity import Call
from libs.rpc.pipeline import Proceed
from libs.tracing import Tracer

# Statuses that say something of the server. The others are the caller's affair, and no error of the span.
_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})


class CallTraces:
    """Stands outside of whatever turns errors into statuses, and inside of what gives the request id."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        metadata = {name: value for name, value in call.context.invocation_metadata() or () if isinstance(value, str)}
        span = self._tracer.serve(call.method[1:], metadata)
        if span is None:
            return await proceed()
        call.span = span
        span.note("realmultillm.request_id", call.request_id)
        code = ""
        try:
            return await proceed()
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        finally:
            code = code or call.facts.get("code", "OK")
            span.note("rpc.response.status_code", code)
            span.end(call.facts.get("reason", code) if code in _FAULTS else "")
