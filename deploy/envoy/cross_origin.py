"""What pages of an allowed origin may send and read, beside what browsers always let them."""

from __future__ import annotations

# The SDKs of OpenAI and Anthropic, which also run in browsers, say these of themselves with every call. No wildcard
# stands for them where credentials are allowed.
_OF_SDKS = (
    *(f"x-stainless-{name}" for name in ("arch", "async", "helper", "helper-method", "lang", "os", "package-version")),
    *(f"x-stainless-{name}" for name in ("raw-response", "read-timeout", "retry-count", "runtime", "runtime-version")),
    *("x-stainless-stream-helper", "x-stainless-timeout", "x-api-key"),
    *("idempotency-key", "openai-beta", "openai-organization", "openai-project"),
    *("anthropic-beta", "anthropic-dangerous-direct-browser-access", "anthropic-version"),
)

ALLOWED_HEADERS = ("authorization", "content-type", *_OF_SDKS)
EXPOSED_HEADERS = (
    *("x-request-id", "request-id", "x-provider-latency-ms", "x-overhead-ms", "x-cost-usd"),
    *("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after", "x-should-retry"),
    *("x-provider", "x-model", "x-failed-attempts"),
)
