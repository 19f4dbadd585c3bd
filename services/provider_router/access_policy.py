"""Who may call what of the provider router."""

from __future__ import annotations

from libs.rpc.access_policy import AccessPolicy, for_role, open_to
from libs.worker.access_policy import CHAT_DEADLINE

ACCESS_POLICY: AccessPolicy = {
    "/realmultillm.chat.v1.ChatService/CreateChatCompletion": for_role(
        "user", {"envoy"}, scopes={"chat"}, deadline=CHAT_DEADLINE
    ),
    "/realmultillm.chat.v1.ChatService/StreamChatCompletion": for_role(
        "user", {"envoy"}, scopes={"chat"}, deadline=CHAT_DEADLINE
    ),
    "/realmultillm.router.v1.CatalogService/ListProviders": for_role("user", {"envoy"}, scopes={"models:read"}),
    "/realmultillm.router.v1.ModelService/ListModels": for_role("user", {"envoy"}, scopes={"models:read"}),
    "/realmultillm.router.v1.PlatformHealthService/GetPlatformHealth": open_to({"envoy", "operator"}),
}
