"""Who may call what of the provider router."""

from __future__ import annotations

from libs.rpc.access_policy import AccessPolicy, for_role, open_to
from libs.worker.access_policy import CHAT_DEADLINE, COUNT_DEADLINE

ACCESS_POLICY: AccessPolicy = {
    "/realmultillm.chat.v1.ChatService/CreateChatCompletion": for_role(
        "user", {"envoy"}, scopes={"chat"}, deadline=CHAT_DEADLINE
    ),
    "/realmultillm.chat.v1.ChatService/StreamChatCompletion": for_role(
        "user", {"envoy"}, scopes={"chat"}, deadline=CHAT_DEADLINE
    ),
    "/realmultillm.chat.v1.ComparisonService/CompareChatCompletions": for_role(
        "user", {"envoy"}, scopes={"chat"}, deadline=CHAT_DEADLINE
    ),
    "/realmultillm.chat.v1.ComparisonService/StreamChatComparison": for_role(
        "user", {"envoy"}, scopes={"chat"}, deadline=CHAT_DEADLINE
    ),
    "/realmultillm.openai.v1.ChatCompletionService/CreateChatCompletion": for_role(
        "user", {"envoy"}, scopes={"chat"}, deadline=CHAT_DEADLINE
    ),
    "/realmultillm.openai.v1.EmbeddingService/CreateEmbedding": for_role(
        "user", {"envoy"}, scopes={"chat"}, deadline=CHAT_DEADLINE
    ),
    # The SDKs list models with the token they chat with.
    "/realmultillm.openai.v1.ModelService/GetModels": for_role("user", {"envoy"}, scopes={"models:read", "chat"}),
    "/realmultillm.openai.v1.ModelService/GetModel": for_role("user", {"envoy"}, scopes={"models:read", "chat"}),
    "/realmultillm.anthropic.v1.MessageService/CreateMessage": for_role(
        "user", {"envoy"}, scopes={"chat"}, deadline=CHAT_DEADLINE
    ),
    "/realmultillm.anthropic.v1.MessageService/CountMessageTokens": for_role(
        "user", {"envoy"}, scopes={"chat"}, deadline=COUNT_DEADLINE
    ),
    "/realmultillm.router.v1.CatalogService/ListProviders": for_role("user", {"envoy"}, scopes={"models:read"}),
    "/realmultillm.router.v1.ModelService/ListModels": for_role("user", {"envoy"}, scopes={"models:read"}),
    # Changes nothing, though its name says nothing of that: by cookie it needs an Origin.
    "/realmultillm.router.v1.ModelService/CompareModels": for_role("user", {"envoy"}, scopes={"models:read"}),
    "/realmultillm.router.v1.PlatformHealthService/GetPlatformHealth": open_to({"envoy", "operator"}),
}
