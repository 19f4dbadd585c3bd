"""Turns what a method raises into the status the caller sees. Nothing unknown passes."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import structlog
from grpc_status import rpc_status

from libs.errors import PlatformError
from libs.rpc.error_bodies import error_headers
from libs.rpc.identity import Call
from libs.rpc.pipeline import Proceed
from libs.rpc.status import internal_status, retry_after_seconds, to_status

log = structlog.get_logger()


class ErrorBoundary:
    """The order of the `except` clauses is the contract."""

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        trailing: tuple[tuple[str, str | bytes], ...] = ()
        try:
            try:
                return await proceed()
            except PlatformError as error:
                rich = to_status(error)
                call.facts["reason"] = error.reason
                if error.retry_after is not None:
                    trailing = (("retry-after", retry_after_seconds(error)),)
                trailing += error_headers(call, rich)
        except (grpc.aio.AbortError, asyncio.CancelledError):
            raise  # already answered, or nobody is listening
        # A bug, also one in an error that cannot be carried: its text may hold a secret and never reaches the wire.
        except Exception:
            log.exception("unhandled error", method=call.method, request_id=call.request_id)
            rich = internal_status(call.request_id)
            trailing = error_headers(call, rich)
        status = rpc_status.to_status(rich)
        call.facts["code"] = status.code.name
        own = tuple(call.context.trailing_metadata() or ())
        metadata = (*own, *call.answer_headers, *trailing, *status.trailing_metadata)
        return await call.context.abort(status.code, status.details, metadata)
