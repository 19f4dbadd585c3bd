"""Which model a call is for."""

from __future__ import annotations

from libs.json_members import JsonMembers
from libs.worker.adapter import Adapter, Credential
from libs.worker.failures import Failures

# What callers say who leave the model to their configuration; the router has chosen the provider by then.
_CONFIGURED = "auto"


def named_by(body: JsonMembers, model: str) -> str:
    """Returns the model that a request in a dialect names: `model`, else the body's; empty for the configured one.

    Raises InvalidRequest.
    """
    named = model or body.text("model")
    return "" if named == _CONFIGURED else named


def model_of(named: str, adapter: Adapter, credential: Credential) -> str:
    """Returns the model to ask for: the one that is named, else the first default that is allowed; empty for none.

    Raises PermissionDenied when the one that is named is not allowed.
    """
    allowed = credential.allowed_models
    if named:
        if allowed and named not in allowed:
            raise Failures(adapter.provider, adapter.display_name).model_not_allowed(allowed)
        return named
    defaults = (credential.model, credential.platform_model, adapter.default_model, *allowed[:1])
    return next((model for model in defaults if model and (not allowed or model in allowed)), "")
