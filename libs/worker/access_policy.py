"""Who may call a worker."""

from __future__ import annotations

from libs.rpc.access_policy import UNBOUNDED, AccessPolicy, for_role, open_to

# The longest a chat may last, in seconds.
CHAT_DEADLINE = 600.0
# And the counting of a conversation's tokens.
COUNT_DEADLINE = 30.0

ACCESS_POLICY: AccessPolicy = {
    "/realmultillm.chat.v1.ChatService/CreateChatCompletion": for_role(
        "user", ["envoy", "provider-router"], scopes=["chat"], deadline=CHAT_DEADLINE
    ),
    "/realmultillm.chat.v1.ChatService/StreamChatCompletion": for_role(
        "user", ["envoy", "provider-router"], scopes=["chat"], deadline=CHAT_DEADLINE
    ),
    "/realmultillm.openai.v1.ChatCompletionService/CreateChatCompletion": for_role(
        "user", ["envoy", "provider-router"], scopes=["chat"], deadline=CHAT_DEADLINE
    ),
    "/realmultillm.openai.v1.EmbeddingService/CreateEmbedding": for_role(
        "user", ["envoy", "provider-router"], scopes=["chat"], deadline=CHAT_DEADLINE
    ),
    "/realmultillm.anthropic.v1.MessageService/CreateMessage": for_role(
        "user", ["envoy", "provider-router"], scopes=["chat"], deadline=CHAT_DEADLINE
    ),
    "/realmultillm.anthropic.v1.MessageService/CountMessageTokens": for_role(
        "user", ["envoy", "provider-router"], scopes=["chat"], deadline=COUNT_DEADLINE
    ),
    "/realmultillm.provider.v1.ProviderService/TestKey": open_to(["key-vault"]),
    "/realmultillm.provider.v1.ProviderService/ListModels": for_role(
        "user", ["provider-router"], scopes=["models:read", "chat"]
    ),
    "/realmultillm.provider.v1.ProviderService/WatchProviderHealth": open_to(["provider-router"], deadline=UNBOUNDED),
}
