"""Models side by side, as the catalogue knows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from libs.errors import NotFound, Violation, refuse_any
from libs.model_catalog import ModelCatalog
from libs.model_catalog.prices import Rate
from services.provider_router.model_lists import CATALOGUE, Model, completed_by
from services.provider_router.model_names import AUTOMATIC, ModelNames

FEWEST, MOST = 2, 20
_LONGEST_NAME = 300
_LONGEST_SHOWN = 64


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Models in the order asked, and by column those that are best in it, as `provider/model`."""

    models: Sequence[Model]
    best: Mapping[str, Sequence[str]]


class ModelComparison:
    """Finds models by the names chats may ask for them by, and tells which is best in what."""

    def __init__(self, names: ModelNames, known: ModelCatalog) -> None:
        self._names = names
        self._known = known

    def compare(self, names: Sequence[str]) -> SideBySide:
        """Puts models side by side.

        Raises InvalidRequest for too few or too many, and for names that mean several models or none in particular,
        NotFound for one that the catalogue does not know.
        """
        refuse_any(_broken_rules(names))
        found: list[Model] = []
        ambiguous: list[Violation] = []
        for place, name in enumerate(names):
            targets = self._names.meaning(name).targets
            if len(targets) > 1:
                choices = ", ".join(f"{target.provider}/{target.model}" for target in targets)
                ambiguous.append(Violation(f"models[{place}]", f"must name one model; it means any of {choices}."))
            else:
                found.append(self._model(targets[0].provider, targets[0].model, name))
        refuse_any(ambiguous)
        return SideBySide(found, {column: _best(found, value) for column, value in _COLUMNS.items()})

    def _model(self, provider: str, name: str, asked: str) -> Model:
        facts = self._known.facts(provider, name)
        if facts is None:
            shown = asked[:_LONGEST_SHOWN]
            raise NotFound(
                f"The catalogue does not know the model {shown!r}; choose one of GET /api/models.",
                reason="MODEL_NOT_FOUND",
                model=shown,
            )
        model = Model(id=facts.model, provider=provider, display_name=facts.model, source=CATALOGUE)
        return completed_by(model, self._known)


def _broken_rules(names: Sequence[str]) -> list[Violation]:
    broken = []
    if not FEWEST <= len(names) <= MOST:
        broken.append(Violation("models", f"must be {FEWEST} to {MOST} names of models."))
    broken.extend(
        Violation(f"models[{place}]", f"must be the name of a model, of at most {_LONGEST_NAME} characters.")
        for place, name in enumerate(names)
        if name in ("", AUTOMATIC) or len(name) > _LONGEST_NAME
    )
    return broken


def _best(models: Sequence[Model], value: Callable[[Model], Decimal | int | None]) -> Sequence[str]:
    """Returns who has the highest value, of those that have one."""
    values = [(model, value(model)) for model in models]
    known = [each for _, each in values if each is not None]
    if not known:
        return []
    best = max(known)
    # A model may have been asked for twice, by two of its names.
    return list(dict.fromkeys(f"{model.provider}/{model.id}" for model, each in values if each == best))


def _cheap(rate: Rate | None) -> Decimal | None:
    return None if rate is None else -rate.lowest


_COLUMNS: Mapping[str, Callable[[Model], Decimal | int | None]] = {
    "context_length": lambda model: model.context_length,
    "max_output_tokens": lambda model: model.max_output_tokens,
    "input_price_per_million": lambda model: _cheap(model.prices.input if model.prices else None),
    "output_price_per_million": lambda model: _cheap(model.prices.output if model.prices else None),
    "cached_input_price_per_million": lambda model: _cheap(model.prices.cached_input if model.prices else None),
    "capabilities": lambda model: sum(model.capabilities.values()) if model.capabilities else None,
}
