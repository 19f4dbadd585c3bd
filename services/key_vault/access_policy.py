"""Who may call the key vault: people configure through the front doors, workers and router read."""

from __future__ import annotations

from libs.rpc.access_policy import ANY_WORKER, UNBOUNDED, AccessPolicy, for_role, open_to

_CONFIG = "/realmultillm.keyvault.v1.ProviderConfigService"
_PLATFORM = "/realmultillm.keyvault.v1.PlatformConfigService"
_ENCRYPTION = "/realmultillm.keyvault.v1.EncryptionKeyService"
_DATA_KEY = "/realmultillm.keyvault.v1.DataKeyService"
_CREDENTIAL = "/realmultillm.keyvault.v1.CredentialService"
_FRONT_DOORS = ("envoy", "provider-router")

ACCESS_POLICY: AccessPolicy = {
    f"{_CONFIG}/GetProviderConfig": for_role("user", _FRONT_DOORS, scopes={"config"}),
    f"{_CONFIG}/ListProviderConfigs": for_role("user", _FRONT_DOORS, scopes={"config"}),
    # Tries the key with the provider, which may take ten seconds, and stores it after that.
    f"{_CONFIG}/SetProviderConfig": for_role("user", _FRONT_DOORS, scopes={"config"}, deadline=25.0),
    f"{_CONFIG}/UpdateProviderConfig": for_role("user", _FRONT_DOORS, scopes={"config"}, deadline=25.0),
    f"{_CONFIG}/DeleteProviderConfig": for_role("user", _FRONT_DOORS, scopes={"config"}),
    f"{_CONFIG}/TestProviderConfig": for_role("user", _FRONT_DOORS, scopes={"config"}, deadline=25.0),
    # Each worker may ask for its own provider only; `check_own_provider` sees to that.
    f"{_CREDENTIAL}/GetCredential": open_to({ANY_WORKER}),
    f"{_CREDENTIAL}/WatchCredentials": open_to({ANY_WORKER}, deadline=UNBOUNDED),
    # Which providers a person may use is part of what a list of providers tells.
    f"{_CREDENTIAL}/ListProviderStates": for_role("user", {"provider-router"}, scopes={"models:read", "chat"}),
    f"{_PLATFORM}/ListPlatformConfigs": for_role("admin", {"envoy"}, scopes={"admin"}),
    f"{_PLATFORM}/SetPlatformConfig": for_role("admin", {"envoy"}, scopes={"admin"}, deadline=25.0),
    f"{_ENCRYPTION}/ListEncryptionKeys": for_role("admin", {"envoy"}, scopes={"admin"}),
    f"{_ENCRYPTION}/RotateEncryptionKey": for_role("admin", {"envoy"}, scopes={"admin"}, limit="10/minute"),
    # Workers encrypt what is theirs to record; what is recorded is opened for its owner alone.
    f"{_DATA_KEY}/GenerateDataKey": open_to({ANY_WORKER}),
    f"{_DATA_KEY}/UnwrapDataKeys": for_role("user", {"analytics"}, scopes={"analytics:read"}),
    f"{_DATA_KEY}/RewrapDataKeys": open_to({"analytics"}, deadline=30.0),
}
