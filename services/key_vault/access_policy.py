"""Who may call the key vault: people configure through the front doors, workers and router read."""

from __future__ import annotations

from libs.rpc.access_policy import ANY_WORKER, UNBOUNDED, AccessPolicy, for_role, open_to

_CONFIG = "/realmultillm.keyvault.v1.ProviderConfigService"
_CREDENTIAL = "/realmultillm.keyvault.v1.CredentialService"
_FRONT_DOORS = ("envoy", "provider-router")

ACCESS_POLICY: AccessPolicy = {
    f"{_CONFIG}/GetProviderConfig": for_role("user", _FRONT_DOORS, scopes={"config"}),
    f"{_CONFIG}/ListProviderConfigs": for_role("user", _FRONT_DOORS, scopes={"config"}),
    # Tries the key with the provider, which may take ten seconds, and stores it after that.
    f"{_CONFIG}/SetProviderConfig": for_role("user", _FRONT_DOORS, scopes={"config"}, deadline=25.0),
    f"{_CONFIG}/DeleteProviderConfig": for_role("user", _FRONT_DOORS, scopes={"config"}),
    f"{_CONFIG}/TestProviderConfig": for_role("user", _FRONT_DOORS, scopes={"config"}, deadline=25.0),
    # Each worker may ask for its own provider only; `check_own_provider` sees to that.
    f"{_CREDENTIAL}/GetCredential": open_to({ANY_WORKER}),
    f"{_CREDENTIAL}/WatchCredentials": open_to({ANY_WORKER}, deadline=UNBOUNDED),
    # Which providers a person has a key for is part of what a list of providers tells.
    f"{_CREDENTIAL}/ListConfiguredProviders": for_role("user", {"provider-router"}, scopes={"models:read"}),
}
