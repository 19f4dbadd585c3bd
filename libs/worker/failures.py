"""What goes wrong with a provider, in words for the person: one sentence each, with what to do next.

The provider's own words are left out of all of them, since they may quote the key or the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from libs import errors
from libs.redaction import redact

# What a place in a request begins with, in the names of all providers: theirs, not the caller's, and no key.
_FIELDS = frozenset(
    {
        *("messages", "contents", "system", "systemInstruction", "system_instruction", "model", "provider", "user"),
        *("tools", "tool_choice", "toolConfig", "tool_config", "parallel_tool_calls"),
        *("generationConfig", "generation_config", "output_config", "response_format", "stream", "stream_options"),
        *("max_tokens", "max_completion_tokens", "stop", "stop_sequences", "seed", "n", "logprobs"),
        *("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty"),
        *("reasoning", "reasoning_effort", "thinking", "verbosity", "metadata", "service_tier"),
        # Within Google's `generationConfig`, which it does not always name.
        *("maxOutputTokens", "max_output_tokens", "stopSequences", "topP", "topK", "thinkingConfig", "thinking_config"),
        *("responseSchema", "response_schema", "responseJsonSchema", "response_json_schema"),
        *("responseMimeType", "response_mime_type", "presencePenalty", "frequencyPenalty"),
    }
)
# `messages[0].content`, `messages.3.content.0.text`, `tools[0].parameters.properties[city].type`: eight parts at most,
# none of them as long as a key.
_PART = r"[A-Za-z0-9_]{1,30}"
_PLACE = re.compile(rf"([A-Za-z_]{{1,30}})(?:\.{_PART}|\.?\[{_PART}\]){{0,7}}")

# Of the models that are allowed, as many as a sentence can hold.
_NAMED_MODELS = 5


@dataclass(frozen=True, slots=True)
class Failures:
    """Makes the errors of one provider.

    `retry_after` is in seconds. `retryable` False is for a provider that says not to try again.
    """

    provider: str
    display_name: str

    def key_rejected(self) -> errors.ProviderKeyRejected:
        """The key is wrong, expired or revoked."""
        return errors.ProviderKeyRejected(
            f"{self.display_name} refused the stored key; store a valid one with "
            f"POST /api/provider-config/{self.provider}.",
            provider=self.provider,
        )

    def endpoint_not_allowed(self) -> errors.FailedPrecondition:
        """What administrators have set leads to where no key may be sent. No trying again helps."""
        return errors.FailedPrecondition(
            f"{self.display_name} is configured with an endpoint that keys may not be sent to; ask an administrator.",
            reason="ENDPOINT_NOT_ALLOWED",
            provider=self.provider,
        )

    def model_not_allowed(self, allowed: Collection[str]) -> errors.PermissionDenied:
        """Administrators allow other models only."""
        named = sorted(allowed)[:_NAMED_MODELS]
        more = ", and others that the list of models shows" if len(allowed) > len(named) else ""
        models = ", ".join(named)
        return errors.PermissionDenied(
            f"Administrators allow these models of {self.display_name}: {models}{more}; choose one of them.",
            reason="MODEL_NOT_ALLOWED",
            provider=self.provider,
            allowedModels=models,
        )

    def permission_denied(self) -> errors.ProviderPermissionDenied:
        """The key is good, but not for this."""
        return errors.ProviderPermissionDenied(
            f"{self.display_name} does not allow this key to use this model or feature; use another model or key.",
            provider=self.provider,
        )

    def quota_exhausted(self) -> errors.ProviderQuotaExhausted:
        """The account has no money or allowance left; waiting does not mend it."""
        return errors.ProviderQuotaExhausted(
            f"The {self.display_name} account has no quota left; add credit at {self.display_name} or use another key.",
            provider=self.provider,
        )

    def rate_limited(
        self, retry_after: float | None = None, *, retryable: bool | None = None
    ) -> errors.ProviderRateLimited:
        """Too much at a time; waiting mends it."""
        return errors.ProviderRateLimited(
            f"{self.display_name} limits how often this key may ask; try again later.",
            provider=self.provider,
            retry_after=retry_after,
            retryable=retryable,
        )

    def unavailable(
        self, retry_after: float | None = None, *, retryable: bool | None = None
    ) -> errors.ProviderUnavailable:
        """The provider failed or is overloaded."""
        return errors.ProviderUnavailable(
            f"{self.display_name} could not answer; try again in a moment or use another provider.",
            provider=self.provider,
            retry_after=retry_after,
            retryable=retryable,
        )

    def unreachable(self) -> errors.ProviderUnavailable:
        """No connection came about."""
        return errors.ProviderUnavailable(
            f"{self.display_name} cannot be reached; try again in a moment or use another provider.",
            provider=self.provider,
        )

    def disconnected(self) -> errors.ProviderUnavailable:
        """The connection broke before an answer began."""
        return errors.ProviderUnavailable(
            f"{self.display_name} broke the connection; try again in a moment.", provider=self.provider
        )

    def model_not_found(self) -> errors.ModelNotFound:
        """No such model, or not for this key."""
        return errors.ModelNotFound(
            f"{self.display_name} does not offer this model to this key; choose another model.", provider=self.provider
        )

    def context_length(self) -> errors.ContextLengthExceeded:
        """The conversation is too long."""
        return errors.ContextLengthExceeded(
            "The conversation is longer than the model's context; shorten it or use a model with a longer one.",
            provider=self.provider,
        )

    def rejected_request(self, at: object = None) -> errors.ProviderRejectedRequest:
        """The provider calls the request invalid; `at` is its own name for the place, told when it is one."""
        place = f" at `{at}`" if _is_place(at) else ""
        return errors.ProviderRejectedRequest(
            f"{self.display_name} refused the request as invalid{place}; correct it, or use a model that takes it.",
            provider=self.provider,
        )

    def blocked(self) -> errors.ProviderRejectedRequest:
        """The provider's rules on content forbid the request."""
        return errors.ProviderRejectedRequest(
            f"{self.display_name} blocked the request by its rules on content; reword it or use another model.",
            provider=self.provider,
        )

    def too_large(self) -> errors.ProviderRejectedRequest:
        """The request has more bytes than the provider takes."""
        return errors.ProviderRejectedRequest(
            f"{self.display_name} takes no request of this size; send fewer or smaller pictures, or less text.",
            provider=self.provider,
        )

    def not_understood(self) -> errors.ProviderUnavailable:
        """What came for an answer is not in the provider's format. Not to be tried again: each time may cost money."""
        return errors.ProviderUnavailable(
            f"{self.display_name} sent an answer that makes no sense; try again in a moment.",
            provider=self.provider,
            retryable=False,
        )

    def incomplete(self) -> errors.IncompleteResponse:
        """A streamed answer ended without the sign that it is whole."""
        return errors.IncompleteResponse(
            f"{self.display_name} ended its answer too early; what arrived is incomplete. Try again.",
            provider=self.provider,
        )

    def broken_off(self) -> errors.IncompleteResponse:
        """The connection broke in the middle of an answer."""
        return errors.IncompleteResponse(
            f"{self.display_name} broke off its answer; what arrived is incomplete. Try again.",
            provider=self.provider,
        )

    def too_long(self) -> errors.IncompleteResponse:
        """An answer is larger than a message may be. Not to be tried again: the next would be as long."""
        return errors.IncompleteResponse(
            f"{self.display_name} sent an answer that is too long to take; ask for a shorter one.",
            provider=self.provider,
        )

    def too_late(self) -> errors.ProviderTimeout:
        """Time ran out."""
        return errors.ProviderTimeout(
            f"{self.display_name} did not answer in time; try again, or ask for a shorter answer.",
            provider=self.provider,
        )

    def of_platform_key(self, error: errors.ProviderError) -> errors.ProviderError:
        """Rewords an error about a key for people whom the key does not belong to."""
        own = f"or store a key of your own with POST /api/provider-config/{self.provider}."
        match error:
            case errors.ProviderKeyRejected():
                told = f"{self.display_name} refused the platform's key; ask an administrator to replace it, {own}"
                return errors.ProviderKeyRejected(told, provider=self.provider)
            case errors.ProviderPermissionDenied():
                told = f"{self.display_name} does not permit the platform's key to do this; ask an administrator, {own}"
                return errors.ProviderPermissionDenied(told, provider=self.provider)
            case errors.ProviderQuotaExhausted():
                told = f"The platform's {self.display_name} account has no quota left; ask an administrator, {own}"
                return errors.ProviderQuotaExhausted(told, provider=self.provider)
        return error

    def beside_chats(self, error: errors.ProviderError, *, model: str = "") -> errors.ProviderError:
        """Rewords an error for a call that is no chat, and about no model unless one was named."""
        match error:
            case errors.ProviderTimeout():
                return errors.ProviderTimeout(
                    f"{self.display_name} did not answer in time; try again in a moment.", provider=self.provider
                )
            case errors.IncompleteResponse():
                return errors.IncompleteResponse(
                    f"{self.display_name} did not send a whole answer; try again in a moment.", provider=self.provider
                )
            case errors.ProviderRejectedRequest() | errors.ContextLengthExceeded():
                culprit = "the key and the model" if model else "the key"
                return errors.ProviderRejectedRequest(
                    f"{self.display_name} refused the request as invalid; check {culprit}.", provider=self.provider
                )
            case errors.ProviderPermissionDenied() if not model:
                return errors.ProviderPermissionDenied(
                    f"{self.display_name} knows the key but does not permit it this; change what it may do at "
                    f"{self.display_name}, or use another key.",
                    provider=self.provider,
                )
            case errors.ModelNotFound() if not model:
                return self.not_understood()  # there is no such page at the provider's address
        return error


def _is_place(at: object) -> bool:
    """Tells whether a text names a place in a request, and cannot be a key or what else a provider may quote."""
    place = _PLACE.fullmatch(at) if isinstance(at, str) else None
    return place is not None and place[1] in _FIELDS and redact(place[0]) == place[0]
