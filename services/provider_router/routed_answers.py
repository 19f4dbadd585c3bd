"""What the caller is told of how a chat was routed: as headers, and in the answer itself."""

from __future__ import annotations

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.rpc.identity import current_call
from services.provider_router.attempts import Begun, Failed, summary


def tell_in_headers(begun: Begun[object]) -> None:
    """Adds to the headers of the answer who gives it, and who did not."""
    told = [("x-provider", begun.target.provider)]
    model = begun.target.model
    if model and model.isascii() and model.isprintable():
        told.append(("x-model", model))
    if begun.failed:
        told.append(("x-failed-attempts", summary(begun.failed)))
    current_call().answer_headers += told


def answer_metadata(begun: Begun[object]) -> chat.AnswerMetadata | None:
    """Returns what an answer says of those who failed before; None when nobody did."""
    if not begun.failed:
        return None
    return chat.AnswerMetadata(failed_attempts=map(_failed_attempt, begun.failed))


def _failed_attempt(failed: Failed) -> chat.FailedAttempt:
    return chat.FailedAttempt(
        provider=failed.target.provider,
        model=failed.target.model,
        reason=failed.error.reason,
        message=failed.error.message,
        latency_ms=failed.latency_ms,
    )
