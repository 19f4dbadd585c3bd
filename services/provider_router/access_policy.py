"""Who may call what of the provider router."""

from __future__ import annotations

from libs.rpc.access_policy import AccessPolicy, for_role, open_to
from services.provider_router.chat_forwarding import CHAT_SECONDS

ACCESS_POLICY: AccessPolicy = {
    "/realmultillm.chat.v1.ChatService/CreateChatCompletion": for_role("user", {"envoy"}, deadline=CHAT_SECONDS),
    "/realmultillm.chat.v1.ChatService/StreamChatCompletion": for_role("user", {"envoy"}, deadline=CHAT_SECONDS),
    "/realmultillm.router.v1.CatalogService/ListProviders": for_role("user", {"envoy"}),
    "/realmultillm.router.v1.PlatformHealthService/GetPlatformHealth": open_to({"envoy", "operator"}),
}
