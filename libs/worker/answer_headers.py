"""What the headers of a whole answer tell beside it."""

from __future__ import annotations

from libs.rpc.identity import Call


def tell(call: Call, *, total_ms: float, provider_ms: float, cost_usd: float | None) -> None:
    """Adds how long the answer took, in milliseconds, and what it cost in US dollars where that is known."""
    call.answer_headers += (
        ("x-provider-latency-ms", f"{provider_ms:.1f}"),
        ("x-overhead-ms", f"{total_ms - provider_ms:.1f}"),
    )
    if cost_usd is not None:
        call.answer_headers.append(("x-cost-usd", f"{cost_usd:.12f}".rstrip("0").rstrip(".")))
