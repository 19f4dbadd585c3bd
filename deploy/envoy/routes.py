"""Which request goes to which service. The first route that matches wins; what matches none is answered 404."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from libs.providers import worker_service

# Every service people may call, and the cluster that serves it. What is not listed cannot be reached from outside,
# neither by gRPC nor by its HTTP bindings.
PUBLIC_SERVICES = {
    "realmultillm.auth.v1.AuthService": "auth",
    "realmultillm.auth.v1.ApiTokenService": "auth",
    "realmultillm.auth.v1.UserAdminService": "auth",
    "realmultillm.auth.v1.AuditLogService": "auth",
    "realmultillm.keyvault.v1.ProviderConfigService": "key-vault",
    "realmultillm.keyvault.v1.PlatformConfigService": "key-vault",
    "realmultillm.keyvault.v1.EncryptionKeyService": "key-vault",
    "realmultillm.analytics.v1.AnalyticsService": "analytics",
    "realmultillm.analytics.v1.PlatformAnalyticsService": "analytics",
    "realmultillm.analytics.v1.ChatHistoryService": "analytics",
    "realmultillm.router.v1.CatalogService": "provider-router",
    "realmultillm.router.v1.ModelService": "provider-router",
    "realmultillm.router.v1.PlatformHealthService": "provider-router",
    "realmultillm.chat.v1.ChatService": "provider-router",
    "realmultillm.chat.v1.ComparisonService": "provider-router",
    "realmultillm.openai.v1.ChatCompletionService": "provider-router",
    "realmultillm.openai.v1.EmbeddingService": "provider-router",
    "realmultillm.openai.v1.ModelService": "provider-router",
    "realmultillm.anthropic.v1.MessageService": "provider-router",
}

# Those whose calls may last.
_LASTING = frozenset(
    {
        "realmultillm.analytics.v1.AnalyticsService",
        "realmultillm.analytics.v1.PlatformAnalyticsService",
        "realmultillm.chat.v1.ChatService",
        "realmultillm.chat.v1.ComparisonService",
        "realmultillm.openai.v1.ChatCompletionService",
        "realmultillm.openai.v1.EmbeddingService",
        "realmultillm.anthropic.v1.MessageService",
    }
)


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table. A `chat` may last, and prints only the fields that are set; other `lasting` calls may last.

    What is of a `dialect` is in the words of another API, errors too.
    """

    kind: Literal["path", "prefix", "pattern"]
    value: str
    cluster: str
    grpc: bool = False
    chat: bool = False
    dialect: bool = False
    lasting: bool = False

    @property
    def name(self) -> str:
        """What the access log calls it: the paths of calls hold what callers write there, secrets by mistake too."""
        return self.value


_REST = (
    Route("pattern", "/api/chat/history(/.*)?", "analytics"),
    Route("prefix", "/api/chat/", "provider-router", chat=True),
    Route("path", "/api/providers", "provider-router"),
    Route("pattern", "/api/models(/.*)?", "provider-router"),
    Route("path", "/api/health", "provider-router"),
    Route("prefix", "/api/auth/", "auth"),
    Route("pattern", "/api/admin/(users|audit-logs)(/.*)?", "auth"),
    Route("prefix", "/api/provider-config/", "key-vault"),
    Route("path", "/api/admin/providers/config", "key-vault"),
    Route("pattern", "/api/admin/encryption-keys(/.*)?", "key-vault"),
    Route("pattern", "/api/(admin/)?analytics/export", "analytics", lasting=True),
    Route("prefix", "/api/analytics/", "analytics"),
    Route("pattern", "/api/admin/analytics(/.*)?", "analytics"),
    Route("pattern", "(/[^/]+)?/v1/models(/.*)?", "provider-router", dialect=True),
    # Also of a provider that no worker speaks for: the router says so in the caller's dialect.
    Route("pattern", "(/[^/]+)?/v1/.*", "provider-router", chat=True, dialect=True),
)

# Query parameters without effect at the APIs in another's words: what SDKs add (Anthropic's, for betas), and fields of
# our own requests that the path and the body alone may say.
IGNORED_PARAMETERS = ("beta", "provider", "model")

_SPOKEN_BY_WORKERS = "(chat/completions|embeddings|messages(/count_tokens)?)"


def routes(providers: Collection[str]) -> list[Route]:
    """Lists the routes. A chat that names one of these providers goes straight to its worker: nothing is to choose."""
    direct = [
        Route("pattern", f"/api/chat/{provider}(/stream)?", worker_service(provider), chat=True)
        for provider in providers
    ]
    dialects = [
        Route("pattern", f"/{provider}/v1/{_SPOKEN_BY_WORKERS}", worker_service(provider), chat=True, dialect=True)
        for provider in providers
    ]
    grpc = [
        Route("prefix", f"/{service}/", cluster, grpc=True, lasting=service in _LASTING)
        for service, cluster in PUBLIC_SERVICES.items()
    ]
    return [*direct, *dialects, *_REST, *grpc]
