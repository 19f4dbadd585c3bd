"""The models that the caller may chat with through the compatible APIs, by the names to ask for them by."""

from __future__ import annotations

from collections.abc import Sequence

from libs.errors import NotFound
from libs.model_catalog import ModelCatalog
from libs.provider_catalog import Catalog
from services.provider_router.every_model import EveryModel
from services.provider_router.model_lists import CATALOGUE, Listing, Model, completed_by
from services.provider_router.model_names import AUTOMATIC, ModelNames
from services.provider_router.routing import no_such_provider

_LONGEST_SHOWN = 64


class CallableModels:
    """Lists models, and finds one by any name that a chat may ask for it by."""

    def __init__(self, catalog: Catalog, every: EveryModel, names: ModelNames, known: ModelCatalog) -> None:
        self._catalog = catalog
        self._every = every
        self._names = names
        self._known = known

    async def all_of(self, provider: str) -> Sequence[Model]:
        """Returns the models of a provider, or of all when it is empty.

        Raises NotFound when there is no such provider, and Unavailable when the key vault cannot say what is allowed.
        """
        if provider and provider not in self._catalog:
            raise no_such_provider(provider, self._catalog)
        listings = await self._every.listings()
        return [model for listing in listings if provider in ("", listing.provider) for model in listing.models]

    async def find(self, provider: str, name: str) -> Model:
        """Returns the model that a chat with this name would be with, the first where it may be with several.

        `provider` is empty where the name alone tells. Raises NotFound when there is none that the caller may use,
        and Unavailable when the key vault cannot say what is allowed.
        """
        if provider and provider not in self._catalog:
            raise no_such_provider(provider, self._catalog)
        if name in ("", AUTOMATIC):
            raise _no_such_model(name)
        if provider:
            candidates = [(provider, name)]
        else:
            candidates = [(target.provider, target.model) for target in self._names.meaning(name).targets]
        listings = {listing.provider: listing for listing in await self._every.listings()}
        for owner, asked in candidates:
            listing = listings.get(owner)
            if listing is None:  # switched off, or without a worker
                continue
            model = self._model(listing, self._known.model_of(owner, asked))
            if model is not None and (not listing.allowed or model.id in listing.allowed):
                return model
        raise _no_such_model(name)

    def _model(self, listing: Listing, name: str) -> Model | None:
        listed = next((model for model in listing.models if model.id == name), None)
        if listed is not None or self._known.facts(listing.provider, name) is None:
            return listed
        # Lists do not tell every edition of a model that can be asked for.
        return completed_by(Model(id=name, provider=listing.provider, display_name=name, source=CATALOGUE), self._known)


def _no_such_model(name: str) -> NotFound:
    shown = name[:_LONGEST_SHOWN]
    return NotFound(
        f"There is no model {shown!r} that you may use; choose one of GET /v1/models.",
        reason="MODEL_NOT_FOUND",
        model=shown,
    )
