"""Who may call a worker."""

from __future__ import annotations

from libs.rpc.access_policy import AccessPolicy, for_role, open_to

# The longest a chat may last, in seconds.
CHAT_DEADLINE = 600.0

ACCESS_POLICY: AccessPolicy = {
    "/realmultillm.chat.v1.ChatService/CreateChatCompletion": for_role(
        "user", ["envoy", "provider-router"], scopes=["chat"], deadline=CHAT_DEADLINE
    ),
    "/realmultillm.chat.v1.ChatService/StreamChatCompletion": for_role(
        "user", ["envoy", "provider-router"], scopes=["chat"], deadline=CHAT_DEADLINE
    ),
    "/realmultillm.provider.v1.ProviderService/TestKey": open_to(["key-vault"]),
    "/realmultillm.provider.v1.ProviderService/ListModels": for_role(
        "user", ["provider-router"], scopes=["models:read"]
    ),
}
