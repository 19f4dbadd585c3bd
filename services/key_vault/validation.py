"""Checks what callers send before anything is done with it; every violation is told at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from libs.errors import InvalidRequest, NotFound, PermissionDenied, Violation, refuse_any
from libs.provider_endpoints import EndpointRules
from libs.provider_keys import broken_key_rule
from libs.providers import worker_service
from libs.redaction import redact
from services.key_vault.models import PlatformConfigRow
from services.key_vault.platform_configs import RESET, PlatformChange, broken_choice
from services.key_vault.provider_configs import Defaults

_MODEL_LENGTH = 200
_MOST_MODELS = 200
_MAX_TEMPERATURE = 2.0
_PRIORITIES = range(1, 101)
_TIMEOUTS_MS = range(1_000, 600_001)
_USER_ID_LENGTH = 64

# What a person's update can forget: the columns by the names of the fields in requests.
FORGETTABLE: Mapping[str, str] = {
    "model": "model",
    "temperature": "temperature",
    "maxTokens": "max_tokens",
    "priority": "priority",
}

_LOOKS_LIKE_A_KEY = "looks like a key, which is given as apiKey and nowhere else."


def check_provider(provider: str, providers: Collection[str]) -> None:
    """Raises NotFound when a provider is none of those there are."""
    if provider not in providers:
        known = ", ".join(providers)
        raise NotFound(
            f"There is no such provider; choose one of {known}.", reason="PROVIDER_NOT_FOUND", providers=known
        )


def check_new_config(api_key: str, defaults: Defaults) -> None:
    """Raises InvalidRequest when a key cannot be one, or a default not be used."""
    refuse_any([*_check_key(api_key), *_check_defaults(defaults)])


def check_changed_config(api_key: str, given: Defaults, clear: Sequence[str]) -> None:
    """Raises InvalidRequest when a change cannot be made: like `check_new_config`, for what is given and what goes."""
    names = {name for name, column in FORGETTABLE.items() if column in given}
    refuse_any(
        [
            *(_check_key(api_key) if api_key else ()),
            *_check_defaults(given),
            *_check_clear(clear, names, FORGETTABLE),
        ]
    )


def check_key_test(api_key: str, model: str) -> None:
    """Raises InvalidRequest when a key that is given cannot be one, or a model not be named."""
    refuse_any([*(_check_key(api_key) if api_key else ()), *_check_model("model", model)])


async def check_platform_change(change: PlatformChange, config: PlatformConfigRow, rules: EndpointRules) -> None:
    """Raises InvalidRequest when a change cannot be made of a configuration; asks where an endpoint leads to."""
    given = change.given
    violations = [*await _check_endpoint(given.get("endpoint", ""), rules)]
    violations += _check_model("defaultModel", given.get("defaultModel", ""))
    violations += _check_models(given.get("allowedModels", ()))
    if "requestTimeoutMs" in given and given["requestTimeoutMs"] not in _TIMEOUTS_MS:
        violations.append(Violation("requestTimeoutMs", "must be from 1,000 to 600,000 milliseconds."))
    if change.key is not None:
        violations += _check_key(change.key.reveal())
    names = {*given, *(["apiKey"] if change.key is not None else [])}
    violations += _check_clear(change.reset, names, RESET)
    # Where something is wrong with the models themselves it is not clear what they would be, and none is repeated.
    clear = not any(violation.field.startswith(("defaultModel", "allowedModels", "clear")) for violation in violations)
    if clear and {"defaultModel", "allowedModels"} & set(change.names):
        default_model = change.applied_to(config, "default_model")
        allowed_models = change.applied_to(config, "allowed_models")
        if rule := broken_choice(default_model, allowed_models):
            violations.append(Violation("defaultModel", rule))
    refuse_any(violations)


async def _check_endpoint(endpoint: str, rules: EndpointRules) -> Sequence[Violation]:
    if not endpoint:
        return ()
    if rule := rules.broken_rule(endpoint):
        return [Violation("endpoint", rule)]
    if redact(endpoint) != endpoint:
        return [Violation("endpoint", _LOOKS_LIKE_A_KEY)]
    rule = await rules.broken_address_rule(endpoint)
    return [Violation("endpoint", rule)] if rule else ()


def _check_models(models: Sequence[str]) -> Iterator[Violation]:
    if len(models) > _MOST_MODELS:
        yield Violation("allowedModels", f"must be at most {_MOST_MODELS}.")
    elif len(set(models)) < len(models):
        yield Violation("allowedModels", "must name each model once.")
    for index, model in enumerate(models[:_MOST_MODELS]):
        if model:
            yield from _check_model(f"allowedModels[{index}]", model)
        else:
            yield Violation(f"allowedModels[{index}]", "must name a model.")


def _check_defaults(defaults: Defaults) -> Iterator[Violation]:
    """Yields what is wrong with values by their columns; None is none."""
    yield from _check_model("model", str(defaults.get("model") or ""))
    temperature, max_tokens = defaults.get("temperature"), defaults.get("max_tokens")
    # Written so that NaN fails.
    if isinstance(temperature, float) and not 0 <= temperature <= _MAX_TEMPERATURE:
        yield Violation("temperature", "Use a number from 0 to 2.")
    if isinstance(max_tokens, int) and max_tokens < 1:
        yield Violation("maxTokens", "Use a whole number from 1.")
    if (priority := defaults.get("priority")) is not None and priority not in _PRIORITIES:
        yield Violation("priority", "Use a whole number from 1 to 100.")


def _check_clear(clear: Sequence[str], given: Collection[str], known: Collection[str]) -> Iterator[Violation]:
    if not set(clear) <= set(known):
        yield Violation("clear", f"must name some of {', '.join(known)}, and nothing else.")
    if both := [name for name in known if name in clear and name in given]:
        yield Violation("clear", f"must not name what is given as well: {', '.join(both)}.")


def _check_key(api_key: str) -> Iterator[Violation]:
    if rule := broken_key_rule(api_key):
        yield Violation("apiKey", rule)


def _check_model(field: str, model: str) -> Iterator[Violation]:
    if len(model) > _MODEL_LENGTH or not model.isprintable():
        yield Violation(field, f"Use at most {_MODEL_LENGTH} printable characters.")
    # People paste keys into the wrong field; there they would be stored and shown in the clear.
    elif redact(model) != model:
        yield Violation(field, _LOOKS_LIKE_A_KEY)


def check_own_provider(provider: str, peer: str) -> None:
    """Raises PermissionDenied unless the calling service is the worker of this provider."""
    if peer != worker_service(provider):
        raise PermissionDenied("A worker may ask for its own provider only.")


def is_user_id(text: str) -> bool:
    """Tells whether a text may be the id of an account."""
    return 0 < len(text) <= _USER_ID_LENGTH and text.isprintable()


def check_user_id(user_id: str) -> None:
    """Raises InvalidRequest when a text cannot be the id of an account."""
    if not is_user_id(user_id):
        raise InvalidRequest([Violation("userId", "Give the id of the account to call the provider for.")])
